"""A server from the request to the guest and back, on hosts that answer at once."""

from __future__ import annotations

import base64

import msgspec

from nephos.agent.guestdata import GuestData
from nephos.compute.servers import store
from nephos.kernel.operations.store import operation
from nephos.placement.allocations import actions as allocations
from tests.compute.agent import make_image
from tests.compute.conftest import Lab


def test_a_server_becomes_active_on_a_host_that_was_claimed(lab: Lab) -> None:
    shown = lab.boot(name="größe", metadata={"k": "v"}, description="d", tags=["a", "b"])
    assert shown["status"] == "ACTIVE" and shown["OS-EXT-STS:power_state"] == 1
    host = shown["OS-EXT-SRV-ATTR:host"]
    assert lab.agent.guests[host] == {shown["id"]: "running"}
    assert shown["tags"] == ["a", "b"] and shown["metadata"] == {"k": "v"} and shown["name"] == "größe"
    assert shown["OS-SRV-USG:launched_at"] and shown["host_status"] == "UP"
    with lab.harness.cloud.database.read() as tx:
        claimed = allocations.allocations_of(tx, [shown["id"]])
    assert claimed == {shown["id"]: {lab.agent.ids[host]: {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}}


def test_a_create_is_three_transactions(lab: Lab) -> None:
    lab.agent.settle()
    database = lab.harness.cloud.database
    works: list[str] = []
    submit = database.submit
    database.submit = lambda work: works.append("work") or submit(work)  # type: ignore[method-assign,func-returns-value]
    shown = lab.boot()
    assert shown["status"] == "ACTIVE"
    assert len(works) == 3


def test_the_timeline_names_every_step(lab: Lab) -> None:
    reply = lab.new()
    lab.agent.settle()
    server_id, request_id = reply.json["server"]["id"], reply.headers["x-openstack-request-id"]
    names = [each["event"] for each in lab.events(server_id, request_id)]
    wanted = ["token checked", "quota counted", "record made", "filters", "claim"]
    assert names[: len(wanted)] == wanted
    assert {"image cached", "disk", "domain", "plugged", "running"} <= set(names)
    path = f"/compute/v2.1/servers/{server_id}/os-instance-actions"
    (action,) = lab.demo.get(path).json["instanceActions"]
    assert action["action"] == "create" and action["request_id"] == request_id and action["message"] is None


def test_a_guest_is_told_what_it_may_know(lab: Lab) -> None:
    data = base64.b64encode(b"#!/bin/sh\necho hi\n").decode()
    lab.demo.post("/compute/v2.1/os-keypairs", {"keypair": {"name": "k", "public_key": KEY}})
    shown = lab.boot(name="Web 1", user_data=data, key_name="k", metadata={"role": "web"}, config_drive=True)
    host = shown["OS-EXT-SRV-ATTR:host"]
    item = lab.agent.item(host, shown["id"])
    told = msgspec.msgpack.decode(item.data, type=GuestData)
    assert item.power == "running" and told.uuid == shown["id"] and told.name == "Web 1"
    assert told.hostname == "web-1.openstacklocal" and told.user_data == b"#!/bin/sh\necho hi\n"
    assert told.keys[0].data == KEY and told.meta == {"role": "web"}
    _, kind, body = lab.agent.done[-1]
    assert kind == "guest.create" and body["guest"]["config_drive"] and body["root"]["id"] == lab.image
    assert shown["config_drive"] == "True" and shown["key_name"] == "k"


def test_a_deleted_server_leaves_nothing(lab: Lab) -> None:
    shown = lab.boot(tags=["a"])
    host = shown["OS-EXT-SRV-ATTR:host"]
    assert lab.demo.delete(f"/compute/v2.1/servers/{shown['id']}").status == 204
    assert lab.show(shown["id"])["OS-EXT-STS:task_state"] == "deleting"
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{shown['id']}").status == 404
    assert lab.agent.guests[host] == {} and ("guest", shown["id"]) not in lab.agent.items[host]
    with lab.harness.cloud.database.read() as tx:
        assert not allocations.allocations_of(tx, [shown["id"]]) and not store.tags_of(tx, [shown["id"]])
    found = lab.admin.get("/compute/v2.1/servers/detail?deleted=true&all_tenants=1").json["servers"]
    assert [each["status"] for each in found] == ["DELETED"]
    history = lab.demo.get(f"/compute/v2.1/servers/{shown['id']}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in history] == ["delete", "create"]


def test_a_delete_supersedes_the_create(lab: Lab) -> None:
    lab.agent.hold = True
    server_id = lab.new().json["server"]["id"]
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "BUILD"
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    lab.agent.settle()
    lab.agent.release()
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server_id}").status == 404
    assert all(not guests for guests in lab.agent.guests.values())
    with lab.harness.cloud.database.read() as tx:
        assert not allocations.consumers(tx)
        states = {row.kind: row.state for row in tx.all(operation.select().where(operation.c.noun_id == server_id))}
    assert states == {"server.create": "failed", "server.delete": "done"}


def test_a_host_that_fails_is_left_for_another(lab: Lab) -> None:
    lab.agent.refuse = lambda host, task: "no disk" if host == "h1" and task.kind == "guest.create" else None
    servers = [lab.boot() for _ in range(6)]
    assert {each["status"] for each in servers} == {"ACTIVE"}
    assert not lab.agent.guests["h1"]
    assert ("h1", "guest.create") in [each[:2] for each in lab.agent.done]


def test_when_every_host_fails_the_fault_tells_all(lab: Lab) -> None:
    lab.agent.refuse = lambda host, task: f"{host} is full of smoke" if task.kind == "guest.create" else None
    reply = lab.new()
    lab.agent.settle()
    shown = lab.show(reply.json["server"]["id"])
    assert shown["status"] == "ERROR" and "is full of smoke" in shown["fault"]["message"]
    assert shown["OS-EXT-SRV-ATTR:host"] is None
    assert len([each for each in lab.agent.done if each[1] == "guest.create"]) == 3
    with lab.harness.cloud.database.read() as tx:
        assert not allocations.consumers(tx)
    events = lab.events(shown["id"], reply.headers["x-openstack-request-id"])
    assert [each["result"] for each in events].count("Error") == 3
    lab.demo.delete(f"/compute/v2.1/servers/{shown['id']}")
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{shown['id']}").status == 404


def test_no_valid_host_says_which_filter_removed_how_many(lab: Lab) -> None:
    shown = lab.boot(hints={"query": '[">=","$free_ram_mb",1000000000]'})
    assert shown["status"] == "ERROR"
    assert "Of 3 hosts: JsonFilter removed 3" in shown["fault"]["message"]
    assert shown["scheduler_hints"] == {"query": '[">=","$free_ram_mb",1000000000]'}


def test_a_server_of_a_host_that_is_away_is_deleted_and_its_guest_later(lab: Lab) -> None:
    shown = lab.boot()
    host = shown["OS-EXT-SRV-ATTR:host"]
    service = next(
        each["id"] for each in lab.admin.get("/compute/v2.1/os-services").json["services"] if each["host"] == host
    )
    assert lab.admin.put(f"/compute/v2.1/os-services/{service}", {"forced_down": True}).status == 200
    lab.agent.away.add(host)
    lab.demo.delete(f"/compute/v2.1/servers/{shown['id']}")
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{shown['id']}").status == 404
    assert lab.agent.guests[host] == {shown["id"]: "running"}
    lab.agent.away.clear()
    lab.agent.settle()
    assert lab.agent.guests[host] == {}


def test_quota_counts_what_is_there(lab: Lab) -> None:
    project = lab.boot()["tenant_id"]
    lab.admin.put(f"/compute/v2.1/os-quota-sets/{project}", {"quota_set": {"instances": 3}})
    reply = lab.new(min_count=3, max_count=5)
    assert reply.status == 403 and "instances" in reply.json["forbidden"]["message"]
    assert lab.new(min_count=1, max_count=5).status == 202
    assert lab.new().status == 403
    used = lab.demo.get("/compute/v2.1/limits").json["limits"]["absolute"]
    assert used["totalInstancesUsed"] == 3 and used["totalCoresUsed"] == 3 and used["totalRAMUsed"] == 1536
    lab.agent.settle()
    names = [
        each["name"]
        for each in lab.demo.get("/compute/v2.1/servers?sort_key=display_name&sort_dir=asc").json["servers"]
    ]
    assert names == ["s", "s-1", "s-2"]


def test_a_flavor_that_the_image_does_not_fit_on(lab: Lab) -> None:
    large = make_image(lab.admin, name="large", min_ram=1024, visibility="public")
    reply = lab.new(imageRef=large)
    assert reply.status == 400 and "memory is too small" in reply.json["badRequest"]["message"]
    wide = make_image(lab.admin, name="wide", min_disk=2, visibility="public")
    assert lab.new(imageRef=wide).status == 400
    assert lab.new(imageRef=wide, flavorRef="2").status == 202


def test_requests_that_cannot_be(lab: Lab) -> None:
    for values in (
        {"flavorRef": "none"},
        {"imageRef": "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11"},
        {"imageRef": ""},
        {"key_name": "none"},
        {"availability_zone": "mars"},
        {"user_data": "%%%"},
        {"name": ""},
        {"name": "x" * 256},
        {"name": "a\u0000b"},
        {"metadata": {"k": "v" * 256}},
        {"accessIPv4": "::1"},
        {"min_count": 0},
        {"min_count": 3, "max_count": 2},
        {"hostname": "-x-"},
        {"networks": [{"uuid": "no"}]},
        {"networks": "some"},
        {"colour": "red"},
        {"block_device_mapping_v2": [{"source_type": "volume", "uuid": "x", "destination_type": "volume"}]},
        {"tags": ["a,b"]},
        {"host": "nowhere"},
        {"personality": [{"path": "/a", "contents": "YQ=="}]},
    ):
        reply = lab.new(lab.admin, **values)
        assert reply.status == 400, (values, reply)
    for hints in ({"group": "x"}, {"query": "["}, {"query": '["~", 1]'}, {"same_host": "no"}):
        assert lab.new(hints=hints).status == 400, hints
    assert lab.demo.post("/compute/v2.1/servers", b"{").status == 400
    assert lab.demo.post("/compute/v2.1/servers", {"server": []}).status == 400
    assert lab.new(availability_zone="nova:h1").status == 403
    assert lab.new(host="h1").status == 403
    assert lab.demo.get("/compute/v2.1/servers").json == {"servers": []}
    with lab.harness.cloud.database.read() as tx:
        assert not tx.all(operation.select())


def test_a_host_may_be_forced(lab: Lab) -> None:
    for at, values in enumerate(({"availability_zone": "nova:h2"}, {"availability_zone": ":h2"}, {"host": "h2"})):
        shown = lab.boot(lab.admin, name=f"f{at}", **values)
        assert shown["OS-EXT-SRV-ATTR:host"] == "h2", values
    assert lab.boot(lab.admin, availability_zone="nova:h3:h3")["OS-EXT-SRV-ATTR:host"] == "h3"


def test_three_part_images_boot_their_kernel(lab: Lab) -> None:
    kernel = make_image(lab.admin, name="k", disk_format="aki", container_format="aki", visibility="public")
    ramdisk = make_image(lab.admin, name="r", disk_format="ari", container_format="ari", visibility="public")
    root = make_image(lab.admin, name="root", kernel_id=kernel, ramdisk_id=ramdisk, visibility="public")
    shown = lab.boot(imageRef=root)
    task = lab.agent.done[-1][2]
    assert (task["kernel"]["id"], task["ramdisk"]["id"], task["root"]["id"]) == (kernel, ramdisk, root)
    assert shown["OS-EXT-SRV-ATTR:kernel_id"] == kernel


def test_power_that_changes_by_itself_is_followed(lab: Lab) -> None:
    shown = lab.boot()
    host = shown["OS-EXT-SRV-ATTR:host"]
    lab.agent.saw(host, "power", shown["id"], "shutdown")
    assert lab.show(shown["id"])["status"] == "SHUTOFF"
    lab.agent.saw(host, "power", shown["id"], "running")
    assert lab.show(shown["id"])["status"] == "ACTIVE"
    lab.agent.saw("h2" if host == "h1" else "h1", "power", shown["id"], "shutdown")
    assert lab.show(shown["id"])["status"] == "ACTIVE"


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBq3jEBSHnPyGQnWzVCnJ0UsTqFmqJRrM2nnaqOQbTuE me"
