"""What compute tells. Names, versions and fields are those of Nova's notification objects (Nova 34)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compute.conftest import Lab
from tests.harness import Harness
from tests.told import Message, Told, listening

INSTANCE = {
    "architecture",
    "availability_zone",
    "block_devices",
    "created_at",
    "deleted_at",
    "display_name",
    "display_description",
    "host",
    "host_name",
    "ip_addresses",
    "kernel_id",
    "key_name",
    "launched_at",
    "image_uuid",
    "metadata",
    "locked",
    "node",
    "os_type",
    "progress",
    "ramdisk_id",
    "reservation_id",
    "state",
    "task_state",
    "power_state",
    "tenant_id",
    "terminated_at",
    "auto_disk_config",
    "flavor",
    "updated_at",
    "user_id",
    "uuid",
    "request_id",
    "action_initiator_user",
    "action_initiator_project",
    "locked_reason",
    "shares",
}
FIELDS = {
    "InstanceActionPayload": ("1.9", INSTANCE | {"fault"}),
    "InstanceCreatePayload": (
        "1.13",
        INSTANCE | {"fault", "keypairs", "tags", "trusted_image_certificates", "instance_name"},
    ),
    "InstanceActionRebuildPayload": ("1.10", INSTANCE | {"fault", "trusted_image_certificates"}),
    "InstanceActionSnapshotPayload": ("1.10", INSTANCE | {"fault", "snapshot_image_id"}),
    "InstanceActionRescuePayload": ("1.4", INSTANCE | {"fault", "rescue_image_ref"}),
    "InstanceUpdatePayload": ("2.1", INSTANCE | {"state_update", "audit_period", "old_display_name", "tags"}),
    "InstanceStateUpdatePayload": ("1.0", {"old_state", "state", "old_task_state", "new_task_state"}),
    "AuditPeriodPayload": ("1.0", {"audit_period_beginning", "audit_period_ending"}),
    "FlavorPayload": (
        "1.4",
        {
            "flavorid",
            "name",
            "root_gb",
            "vcpus",
            "ephemeral_gb",
            "memory_mb",
            "disabled",
            "rxtx_factor",
            "extra_specs",
            "projects",
            "swap",
            "is_public",
            "vcpu_weight",
            "description",
        },
    ),
    "IpPayload": ("1.0", {"mac", "address", "port_uuid", "meta", "version", "label", "device_name"}),
    "KeypairPayload": ("1.0", {"user_id", "name", "fingerprint", "public_key", "type"}),
    "ExceptionPayload": (
        "1.1",
        {"function_name", "module_name", "exception", "exception_message", "traceback"},
    ),
}


@pytest.fixture
def listened(tmp_path: Path) -> Iterator[tuple[Lab, Told]]:
    with Harness(tmp_path, listening) as harness:
        lab = Lab(harness, "h1", "h2")
        yield lab, Told(harness)


def unpacked(value: Any) -> Any:
    """Nova's objects as their data; every one of them has the name, the version and the fields of its kind."""
    if isinstance(value, dict) and "nova_object.name" in value:
        version, fields = FIELDS[value["nova_object.name"]]
        assert value.keys() == {f"nova_object.{part}" for part in ("name", "namespace", "version", "data")}
        assert (value["nova_object.version"], value["nova_object.namespace"]) == (version, "nova")
        assert value["nova_object.data"].keys() == fields, value["nova_object.name"]
        return {name: unpacked(item) for name, item in value["nova_object.data"].items()}
    if isinstance(value, dict):
        return {name: unpacked(item) for name, item in value.items()}
    return [unpacked(item) for item in value] if isinstance(value, list) else value


def of_nova(messages: list[Message]) -> list[Message]:
    """Those of compute, in their order; a server's ports are told of by the network service in between."""
    return [each for each in messages if each.service == "nova"]


def test_a_servers_life(listened: tuple[Lab, Told]) -> None:
    lab, told = listened
    key = lab.demo.post("/compute/v2.1/os-keypairs", {"keypair": {"name": "k", "public_key": PUBLIC}})
    assert key.status == 201, key.body
    assert [each.event for each in told.new()] == ["keypair.import.start", "keypair.import.end"]
    secret = "IyEvYmluL3NoIGhpZGRlbg=="
    asked = lab.new(name="vm", networks="auto", key_name="k", user_data=secret, adminPass="hidden one", tags=["t"])
    assert asked.status == 202, asked.body
    server_id = asked.json["server"]["id"]
    messages = told.new()
    [start] = of_nova(messages)
    assert (start.event, start.topic) == ("instance.create.start", "versioned_notifications.info")
    data = unpacked(start.payload)
    assert (data["uuid"], data["state"], data["power_state"], data["host"]) == (server_id, "building", "pending", None)
    assert data["request_id"] == asked.headers["x-openstack-request-id"]
    assert (data["action_initiator_user"], data["tenant_id"]) == (data["user_id"], data["action_initiator_project"])
    assert (data["ip_addresses"], data["launched_at"]) == ([], None)
    lab.agent.settle()
    messages = told.new()
    [end] = of_nova(messages)
    data = unpacked(end.payload)
    assert end.event == "instance.create.end"
    assert end.whole["publisher_id"] == f"nova-compute:{data['host']}"
    assert end.whole["_context_request_id"] == asked.headers["x-openstack-request-id"]
    assert (data["state"], data["task_state"], data["power_state"]) == ("active", None, "running")
    shown = lab.show(server_id)
    [card] = next(iter(shown["addresses"].values()))
    [address] = data["ip_addresses"]
    assert (address["address"], address["mac"]) == (card["addr"], card["OS-EXT-IPS-MAC:mac_addr"])
    assert (data["instance_name"], data["tags"]) == (shown["OS-EXT-SRV-ATTR:instance_name"], ["t"])
    assert [each["public_key"] for each in data["keypairs"]] == [PUBLIC]
    assert data["flavor"]["flavorid"] == "1"
    ports = [each for each in messages if each.event == "port.create.end"]
    assert [each.payload["port"]["device_id"] for each in ports] == [server_id]
    assert ports[0].whole["_context_user_id"] == data["user_id"]
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    lab.agent.settle()
    gone = of_nova(told.new())
    assert [each.event for each in gone] == ["instance.delete.start", "instance.delete.end"]
    data = unpacked(gone[1].payload)
    assert (data["state"], data["power_state"], data["ip_addresses"]) == ("deleted", "pending", [])
    assert data["deleted_at"] is not None and data["terminated_at"] is not None
    for each in (start, end, *gone):
        assert "hidden one" not in str(each.whole) and secret not in str(each.whole)


def test_power_and_locks(listened: tuple[Lab, Told]) -> None:
    lab, told = listened
    server = lab.boot()["id"]
    told.new()
    for action, body, name, during, state in (
        ("os-stop", None, "power_off", "powering-off", "stopped"),
        ("os-start", None, "power_on", "powering-on", "active"),
        ("reboot", {"type": "HARD"}, "reboot", "rebooting_hard", "active"),
        ("pause", None, "pause", "pausing", "paused"),
        ("unpause", None, "unpause", "unpausing", "active"),
        ("suspend", None, "suspend", "suspending", "suspended"),
        ("resume", None, "resume", "resuming", "active"),
    ):
        assert lab.act(server, action, body).status == 202
        lab.agent.settle()
        start, end = of_nova(told.new())
        assert (start.event, end.event) == (f"instance.{name}.start", f"instance.{name}.end")
        assert unpacked(start.payload)["task_state"] == during
        assert unpacked(end.payload)["state"] == state
        assert unpacked(end.payload)["task_state"] is None
    assert lab.act(server, "lock", {"locked_reason": "mine"}).status == 202
    assert lab.act(server, "unlock").status == 202
    lock, unlock = of_nova(told.new())
    assert (lock.event, unlock.event) == ("instance.lock", "instance.unlock")
    assert (unpacked(lock.payload)["locked"], unpacked(lock.payload)["locked_reason"]) == (True, "mine")
    assert unpacked(unlock.payload)["locked"] is False


def test_what_is_done_with_a_servers_disk(listened: tuple[Lab, Told]) -> None:
    lab, told = listened
    server = lab.boot()["id"]
    told.new()
    for action, body, names, more in (
        ("rebuild", {"imageRef": lab.image, "trusted_image_certificates": ["c"]}, ("rebuild",), "trusted_image_certificates"),
        ("createImage", {"name": "copy"}, ("snapshot",), "snapshot_image_id"),
        ("createBackup", {"name": "copy", "backup_type": "daily", "rotation": 1}, ("snapshot",), "snapshot_image_id"),
        ("rescue", {"rescue_image_ref": lab.image, "adminPass": "hidden one"}, ("rescue",), "rescue_image_ref"),
        ("unrescue", None, ("unrescue",), None),
        ("shelve", None, ("shelve", "shelve_offload"), None),
        ("unshelve", None, ("unshelve",), None),
        ("trigger_crash_dump", None, ("trigger_crash_dump",), None),
    ):
        reply = lab.act(server, action, body)
        assert reply.status in (200, 202), (action, reply)
        lab.agent.settle()
        messages = of_nova(told.new())
        events = [f"instance.{name}.{phase}" for name in names for phase in ("start", "end")]
        assert [each.event for each in messages] == events
        data = unpacked(messages[0].payload)
        if action in ("createImage", "createBackup"):
            assert data["snapshot_image_id"] == reply.json["image_id"]
        elif more is not None:
            assert data[more] == {"rebuild": ["c"], "rescue": lab.image}[action]
        assert all("hidden one" not in str(each.whole) for each in messages)
    lab.agent.during(lambda: lab.act(server, "changePassword", {"adminPass": "hidden one"}))
    lab.agent.settle()
    messages = of_nova(told.new())
    assert [each.event for each in messages] == ["instance.password_set.start", "instance.password_set.end"]
    assert all("hidden one" not in str(each.whole) for each in messages)


def test_what_is_written_of_a_server(listened: tuple[Lab, Told]) -> None:
    lab, told = listened
    server = lab.boot(name="old")["id"]
    told.new()
    path = f"/compute/v2.1/servers/{server}"
    assert lab.demo.put(path, {"server": {"name": "new"}}).status == 200
    assert lab.demo.put(f"{path}/metadata", {"metadata": {"a": "b"}}).status == 200
    assert lab.demo.put(f"{path}/tags", {"tags": ["x"]}).status == 200
    messages = of_nova(told.new())
    assert [each.event for each in messages] == ["instance.update"] * 3
    name, metadata, tags = (unpacked(each.payload) for each in messages)
    assert (name["display_name"], name["old_display_name"]) == ("new", "old")
    assert name["state_update"] == {
        "old_state": "active",
        "state": "active",
        "old_task_state": None,
        "new_task_state": None,
    }
    assert (metadata["metadata"], metadata["old_display_name"], tags["tags"]) == ({"a": "b"}, None, ["x"])
    lab.agent.saw(lab.show(server)["OS-EXT-SRV-ATTR:host"], "power", server, "shutdown")
    [message] = of_nova(told.new())
    assert unpacked(message.payload)["state_update"]["state"] == "stopped"
    assert unpacked(message.payload)["power_state"] == "shutdown"


def test_a_failure_is_an_error_with_the_reason(listened: tuple[Lab, Told]) -> None:
    lab, told = listened
    lab.agent.refuse = lambda host, task: "no room on the disk" if task.kind == "guest.create" else None
    lab.boot()
    messages = of_nova(told.new())
    events = [each.event for each in messages]
    # each host that was tried has a start and an error, as in Nova
    assert events == ["instance.create.start", "instance.create.error"] * 2
    assert [each.topic for each in messages] == ["versioned_notifications.info", "versioned_notifications.error"] * 2
    data = unpacked(messages[-1].payload)
    assert data["fault"]["exception_message"] == "no room on the disk"


def test_flavors_and_key_pairs(listened: tuple[Lab, Told]) -> None:
    lab, told = listened
    flavor = {"id": "f", "name": "f", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
    assert lab.admin.post("/compute/v2.1/flavors", {"flavor": flavor}).status == 200
    lab.admin.post("/compute/v2.1/flavors/f/os-extra_specs", {"extra_specs": {"a": "b"}})
    lab.admin.post("/compute/v2.1/flavors/f/action", {"addTenantAccess": {"tenant": "p"}})
    lab.admin.delete("/compute/v2.1/flavors/f")
    messages = told.new()
    assert [each.event for each in messages] == ["flavor.create", "flavor.update", "flavor.update", "flavor.delete"]
    last = unpacked(messages[3].payload)
    assert (last["extra_specs"], last["projects"], last["is_public"]) == ({"a": "b"}, ["p"], False)
    lab.demo.headers["OpenStack-API-Version"] = "compute 2.60"
    made = lab.demo.post("/compute/v2.1/os-keypairs", {"keypair": {"name": "g"}}).json["keypair"]
    lab.demo.delete("/compute/v2.1/os-keypairs/g")
    messages = told.new()
    assert [each.event for each in messages] == [
        f"keypair.{verb}.{phase}" for verb in ("create", "delete") for phase in ("start", "end")
    ]
    assert unpacked(messages[1].payload)["fingerprint"] == made["fingerprint"]
    assert made["private_key"] not in str(messages)


PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2pDVm0bGkzpnzFPsbSCG5AWfO2MvqNxSrXi1kGJ9xY someone@example"
