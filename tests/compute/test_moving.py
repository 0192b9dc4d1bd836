"""Resize and cold migration: hosts, ports, capacity and quota follow; confirmed, reverted, refused, undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from nephos import errors
from nephos.compute import audit
from nephos.compute.building.steps import Building
from nephos.compute.moving import actions as moves
from nephos.compute.moving import store as migrations
from nephos.compute.moving.links import link, open_disks
from nephos.hosts.store import host
from tests.compute.conftest import Lab
from tests.harness import Client, Harness, Response

SERVERS = "/compute/v2.1/servers"
MIB = "MEMORY_MB"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Harness(tmp_path) as harness:
        yield Lab(harness, "h1", "h2")


def used(lab: Lab) -> dict[str, dict[str, int]]:
    """Host → what is claimed of it."""
    found = {}
    for name, host_id in lab.agent.ids.items():
        path = f"/placement/resource_providers/{host_id}/usages"
        found[name] = lab.admin.get(path, **{"OpenStack-API-Version": "placement 1.39"}).json["usages"]
    return found


def findings(lab: Lab) -> list[Any]:
    with lab.harness.cloud.database.read() as tx:
        return list(audit.check(tx))


def quota(lab: Lab) -> tuple[int, int]:
    limits = lab.demo.get("/compute/v2.1/limits").json["limits"]["absolute"]
    return limits["totalCoresUsed"], limits["totalRAMUsed"]


def act(lab: Lab, server_id: str, action: str, body: Any = None, client: Client | None = None) -> Response:
    reply = lab.act(server_id, action, body, client)
    assert reply.status == (204 if action == "confirmResize" else 202), reply
    return reply


def where(lab: Lab, server_id: str) -> str:
    return str(lab.show(server_id)["OS-EXT-SRV-ATTR:host"])


def history(lab: Lab, server_id: str) -> list[str]:
    shown = lab.demo.get(f"{SERVERS}/{server_id}/os-instance-actions").json["instanceActions"]
    return [each["action"] for each in shown]


def other(lab: Lab, host: str) -> str:
    return next(name for name in lab.agent.names if name != host)


def test_a_server_is_migrated_and_confirmed(lab: Lab) -> None:
    server = lab.boot(lab.demo, networks="auto")
    server_id, source = server["id"], server["OS-EXT-SRV-ATTR:host"]
    (port,) = lab.demo.get(f"{SERVERS}/{server_id}/os-interface").json["interfaceAttachments"]
    target, before = other(lab, source), used(lab)
    lab.agent.hold = True
    act(lab, server_id, "migrate", client=lab.admin)
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("RESIZE", "resize_prep")
    assert lab.act(server_id, "os-stop").status == 409 and lab.act(server_id, "resize", {"flavorRef": "2"}).status == 409
    lab.agent.settle()
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "resize_migrating" and where(lab, server_id) == source
    assert used(lab) == {source: before[source], target: before[source]} and findings(lab) == []
    lab.agent.release()
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:task_state"]) == ("VERIFY_RESIZE", "resized", None)
    assert shown["OS-EXT-SRV-ATTR:host"] == target and shown["OS-EXT-STS:power_state"] == 1
    assert lab.agent.guests == {source: {}, target: {server_id: "running"}} and server_id in lab.agent.aside[source]
    assert lab.agent.item(source, server_id).aside and not lab.agent.item(source, server_id).here
    assert ("port", port["port_id"]) not in lab.agent.items[source]
    bound = lab.admin.get(f"/network/v2.0/ports/{port['port_id']}").json["port"]
    assert (bound["binding:host_id"], bound["status"]) == (target, "ACTIVE")
    assert bound["fixed_ips"] == port["fixed_ips"]
    assert used(lab) == {source: before[source], target: before[source]} and findings(lab) == []
    act(lab, server_id, "confirmResize")
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], where(lab, server_id)) == ("ACTIVE", target)
    assert lab.agent.aside == {source: {}, target: {}} and ("guest", server_id) not in lab.agent.items[source]
    assert used(lab) == {source: before[target], target: before[source]} and findings(lab) == []
    assert history(lab, server_id) == ["confirmResize", "migrate", "create"]
    (found,) = lab.admin.get("/compute/v2.1/os-migrations").json["migrations"]
    assert found["migration_type"] == "migration" and found["status"] == "confirmed"
    assert (found["source_compute"], found["dest_compute"]) == (source, target)
    lab.demo.delete(f"{SERVERS}/{server_id}")
    lab.agent.settle()
    assert all(not each.get(MIB) for each in used(lab).values()) and findings(lab) == []


def test_a_resize_is_confirmed_and_quota_counts_the_larger_of_both(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    assert quota(lab) == (1, 512)
    act(lab, server_id, "resize", {"flavorRef": "3", "OS-DCF:diskConfig": "AUTO"})
    assert quota(lab) == (2, 4096)
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["status"] == "VERIFY_RESIZE" and shown["OS-DCF:diskConfig"] == "AUTO"
    assert (shown["flavor"]["original_name"], shown["flavor"]["ram"]) == ("m1.medium", 4096)
    assert sum(each[MIB] for each in used(lab).values()) == 512 + 4096
    made = next(body for _, kind, body in reversed(lab.agent.done) if kind == "guest.receive")
    assert (made["guest"]["vcpus"], made["guest"]["ram_mb"], made["guest"]["root_gb"]) == (2, 4096, 40)
    act(lab, server_id, "confirmResize")
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and quota(lab) == (2, 4096)
    assert sum(each[MIB] for each in used(lab).values()) == 4096 and findings(lab) == []


@pytest.mark.parametrize("stays", [True, False])
def test_a_resize_is_reverted(lab: Lab, stays: bool) -> None:
    lab.harness.cloud.settings.compute.resize_to_same_host = stays
    server_id = lab.boot()["id"]
    source, before = where(lab, server_id), used(lab)
    if stays:
        lab.admin.put("/compute/v2.1/os-services/disable", {"host": other(lab, source), "binary": "nova-compute"}, **{"OpenStack-API-Version": "compute 2.1"})
    act(lab, server_id, "resize", {"flavorRef": "2"})
    lab.agent.settle()
    assert (where(lab, server_id) == source) is stays
    if stays:
        item = lab.agent.item(source, server_id)
        assert item.aside and item.here and lab.agent.guests[source][server_id] == "running"
        body = next(body for _, kind, body in lab.agent.done if kind == "guest.receive")
        assert body["link"] is None
    act(lab, server_id, "revertResize")
    assert lab.show(server_id)["status"] == "REVERT_RESIZE"
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["flavor"]["original_name"]) == ("ACTIVE", "m1.tiny")
    assert where(lab, server_id) == source and lab.agent.guests[source] == {server_id: "running"}
    assert lab.agent.guests[other(lab, source)] == {} and not any(lab.agent.aside.values())
    assert used(lab) == before and quota(lab) == (1, 512) and findings(lab) == []
    assert history(lab, server_id)[0] == "revertResize"


def test_a_server_that_was_off_stays_off(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    act(lab, server_id, "os-stop")
    lab.agent.settle()
    for answer in ("revertResize", "confirmResize"):
        act(lab, server_id, "resize", {"flavorRef": "2"})
        lab.agent.settle()
        shown = lab.show(server_id)
        assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("VERIFY_RESIZE", 4)
        assert lab.agent.item(where(lab, server_id), server_id).power == "shutdown"
        act(lab, server_id, answer)
        lab.agent.settle()
        assert lab.show(server_id)["status"] == "SHUTOFF"
    assert findings(lab) == []


def test_what_cannot_be_is_refused(lab: Lab) -> None:
    server_id = lab.boot(flavorRef="2")["id"]
    host = where(lab, server_id)
    for body, status in (
        ({"flavorRef": "2"}, 400),
        ({"flavorRef": "nonesuch"}, 400),
        ({"flavorRef": ""}, 400),
        ({}, 400),
        ({"flavorRef": "1"}, 400),
    ):
        assert lab.act(server_id, "resize", body).status == status, body
    assert lab.act(server_id, "migrate").status == 403
    for target, status in ((host, 400), ("nowhere", 400), ("a b", 400)):
        assert lab.act(server_id, "migrate", {"host": target}, lab.admin).status == status
    for action in ("confirmResize", "revertResize"):
        assert lab.act(server_id, action).status == 409
    quotas = f"/compute/v2.1/os-quota-sets/{lab.show(server_id)['tenant_id']}"
    assert lab.admin.put(quotas, {"quota_set": {"ram": 3000}}).status == 200
    assert lab.act(server_id, "resize", {"flavorRef": "3"}).status == 403
    assert lab.show(server_id)["OS-EXT-STS:task_state"] is None and findings(lab) == []


def test_no_host_leaves_the_server_as_it_was(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    source, before = where(lab, server_id), used(lab)
    lab.agent.away = {other(lab, source)}
    cache = lab.harness.cloud.parts["compute"].building.cache
    lab.admin.put("/compute/v2.1/os-services/disable", {"host": other(lab, source), "binary": "nova-compute"}, **{"OpenStack-API-Version": "compute 2.1"})
    cache.forget()
    reply = act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None) and used(lab) == before
    events = lab.events(server_id, reply.headers["x-openstack-request-id"])
    assert any("No valid host" in (each.get("traceback") or "") for each in events)
    assert lab.agent.guests[source] == {server_id: "running"} and findings(lab) == []


@pytest.mark.parametrize("kind", ["guest.leave", "guest.receive"])
def test_a_host_that_cannot_leaves_the_server_as_it_was(lab: Lab, kind: str) -> None:
    server = lab.boot(lab.demo, networks="auto")
    server_id, source, before = server["id"], server["OS-EXT-SRV-ATTR:host"], used(lab)
    lab.agent.refuse = lambda host, task: "no" if task.kind == kind else None
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"], where(lab, server_id)) == ("ACTIVE", None, source)
    assert lab.agent.guests[source] == {server_id: "running"} and not any(lab.agent.aside.values())
    assert used(lab) == before and quota(lab) == (1, 512) and findings(lab) == []
    (port,) = lab.admin.get(f"/network/v2.0/ports?device_id={server_id}").json["ports"]
    assert (port["binding:host_id"], port["status"]) == (source, "ACTIVE")
    (found,) = lab.admin.get("/compute/v2.1/os-migrations").json["migrations"]
    assert found["status"] == "error"


def test_a_server_that_its_host_does_not_take_back_is_in_error_until_it_is_deleted(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    lab.agent.refuse = lambda host, task: "no" if task.kind in ("guest.receive", "guest.return") else None
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ERROR" and any(lab.agent.aside.values())
    lab.agent.refuse = lambda host, task: None
    lab.demo.delete(f"{SERVERS}/{server_id}")
    lab.agent.settle()
    assert not any(lab.agent.aside.values()) and not any(lab.agent.guests.values()) and findings(lab) == []


def test_a_server_that_an_operator_calls_active_moves_again(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    for _ in range(2):
        act(lab, server_id, "migrate", client=lab.admin)
        lab.agent.settle()
        act(lab, server_id, "os-resetState", {"state": "active"}, lab.admin)
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and findings(lab) == [] and not any(lab.agent.aside.values())
    assert sum(each[MIB] for each in used(lab).values() if each) == 512 and statuses(lab) == ["completed", "confirmed", "confirmed"]
    lab.agent.refuse = lambda host, task: "no" if task.kind in ("guest.receive", "guest.return") else None
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    act(lab, server_id, "os-resetState", {"state": "active"}, lab.admin)
    refused = lab.act(server_id, "migrate", client=lab.admin)
    assert refused.status == 409 and b"as it was before" in refused.body


@pytest.mark.parametrize("moment", ["guest.leave", "guest.receive", "waits", "guest.forget", "guest.return"])
def test_a_delete_ends_a_move(lab: Lab, moment: str) -> None:
    server_id = lab.boot()["id"]

    def hold_at(kind: str, action: str, client: Client) -> None:
        lab.agent.refuse = lambda host, task: hold(task.kind == kind)
        act(lab, server_id, action, client=client)
        lab.agent.settle()

    def hold(now: bool) -> str | None:
        if now:
            lab.demo.delete(f"{SERVERS}/{server_id}")
        return None

    early = moment in ("guest.leave", "guest.receive")
    hold_at(moment if early else "", "migrate", lab.admin)
    if moment == "waits":
        lab.demo.delete(f"{SERVERS}/{server_id}")
    elif not early:
        hold_at(moment, "confirmResize" if moment == "guest.forget" else "revertResize", lab.demo)
    lab.agent.settle()
    assert lab.demo.get(f"{SERVERS}/{server_id}").status == 404
    assert not any(lab.agent.guests.values()) and not any(lab.agent.aside.values())
    assert all(not each.get(MIB) for each in used(lab).values()) and findings(lab) == [] and quota(lab) == (0, 0)
    assert not any(("guest", server_id) in items for items in lab.agent.items.values())


def test_an_old_host_that_is_away(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    building: Building = lab.harness.cloud.parts["compute"].building
    building.is_up = lambda tx, host_id: host_id != lab.agent.ids[source]  # type: ignore[method-assign]
    lab.agent.away = {source}
    assert lab.act(server_id, "revertResize").status == 409
    act(lab, server_id, "confirmResize")
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.aside[source]
    lab.agent.away = set()
    lab.agent.settle()
    assert not lab.agent.aside[source]


def test_a_host_that_keeps_a_server_is_not_removed(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    cloud = lab.harness.cloud
    cloud.database.write(lambda tx: tx.execute(update(host).where(host.c.name == source).values(last_seen=0)))
    (service,) = lab.admin.get(f"/compute/v2.1/os-services?host={source}").json["services"]
    path = f"/compute/v2.1/os-services/{service['id']}"
    refused = lab.admin.delete(path)
    assert refused.status == 409 and b"confirms or reverts" in refused.body
    cloud.database.write(lambda tx: tx.execute(update(host).where(host.c.name == source).values(last_seen=tx.now)))
    act(lab, server_id, "confirmResize")
    lab.agent.settle()
    cloud.database.write(lambda tx: tx.execute(update(host).where(host.c.name == source).values(last_seen=0)))
    assert lab.admin.delete(path).status == 204


def test_migrations_go_with_what_deleted_servers_leave(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    cloud = lab.harness.cloud

    def sweep() -> int:
        return cloud.database.write(lambda tx: migrations.sweep(tx, tx.now + 1, 10))

    assert sweep() == 0
    lab.demo.delete(f"{SERVERS}/{server_id}")
    lab.agent.settle()
    assert (sweep(), sweep()) == (1, 0)


def test_what_waits_too_long_is_confirmed(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    cloud = lab.harness.cloud
    for window, status in ((0, "VERIFY_RESIZE"), (3600, "VERIFY_RESIZE"), (1, "ACTIVE")):
        cloud.settings.compute.resize_confirm_window = window
        (found,) = cloud.database.write(lambda tx: migrations.kept(tx, server_id))
        earlier = found.finished_at - 2_000_000
        cloud.database.write(lambda tx: migrations.change(tx, found.id, finished_at=earlier))  # noqa: B023
        cloud.database.write(lambda tx: moves.confirm_late(tx, cloud))
        lab.agent.settle()
        assert lab.show(server_id)["status"] == status


def test_a_link_to_disks_is_good_for_one_move_while_it_goes_on(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    cloud, seen = lab.harness.cloud, []

    def look(host: str, task: Any) -> None:
        if task.kind == "guest.receive":
            with cloud.database.read() as tx:
                (found,) = migrations.kept(tx, server_id)
            seen.append((found, open_disks(cloud, link(found))))

    lab.agent.refuse = look
    act(lab, server_id, "migrate", client=lab.admin)
    lab.agent.settle()
    ((found, opened),) = seen
    assert opened == (lab.agent.ids[source], server_id)
    for wrong in (link(found), f"{found.id}.{'0' * 32}", found.id, "", "nonesuch.x"):
        with pytest.raises(errors.Forbidden):
            open_disks(cloud, wrong)


def test_migrations_are_listed_by_microversion(lab: Lab) -> None:
    ids = [lab.boot()["id"] for _ in range(2)]
    for server_id in ids:
        act(lab, server_id, "migrate", client=lab.admin)
        lab.agent.settle()
    path = "/compute/v2.1/os-migrations"
    assert lab.demo.get(path).status == 403

    def listed(query: str = "", version: str = "2.80") -> list[dict[str, Any]]:
        reply = lab.admin.get(path + query, **{"OpenStack-API-Version": f"compute {version}"})
        assert reply.status == 200, reply
        found: list[dict[str, Any]] = reply.json["migrations"]
        return found

    newest = listed()
    assert [each["instance_uuid"] for each in newest] == ids[::-1]
    assert newest[0].keys() - listed(version="2.59")[0].keys() == {"user_id", "project_id"}
    assert listed(version="2.59")[0].keys() - listed(version="2.23")[0].keys() == {"uuid"}
    assert listed(version="2.23")[0].keys() - listed(version="2.1")[0].keys() == {"migration_type"}
    assert listed(f"?instance_uuid={ids[0]}")[0]["instance_uuid"] == ids[0]
    assert listed("?status=confirmed") == [] and len(listed("?migration_type=migration&status=finished")) == 2
    assert listed(f"?limit=1&marker={newest[0]['uuid']}") == newest[1:]
    assert "migrations_links" in lab.admin.get(path + "?limit=1").json
    assert listed("?changes-since=2999-01-01T00:00:00Z") == [] and len(listed("?changes-before=2999-01-01T00:00:00Z")) == 2
    for query in ("?marker=nonesuch", "?sort=x", "?changes-since=2030-01-01T00:00:00Z&changes-before=2020-01-01T00:00:00Z"):
        assert lab.admin.get(path + query).status == 400, query
    of_server = f"{SERVERS}/{ids[0]}/migrations"
    assert lab.admin.get(of_server).json == {"migrations": []}
    assert lab.admin.get(f"{of_server}/{newest[1]['id']}").status == 404
    assert lab.admin.get(f"{of_server}/999").status == 404


# --- while it runs -----------------------------------------------------------------------------------------------------

LIVE = {"host": None, "block_migration": "auto"}


def statuses(lab: Lab) -> list[str]:
    return [each["status"] for each in lab.admin.get("/compute/v2.1/os-migrations").json["migrations"]]


def test_a_server_is_migrated_while_it_runs(lab: Lab) -> None:
    server = lab.boot(lab.demo, networks="auto")
    server_id, source, before = server["id"], server["OS-EXT-SRV-ATTR:host"], used(lab)
    target = other(lab, source)
    lab.agent.refuse = lambda host, task: watch(task.kind)
    seen: dict[str, Any] = {}

    def watch(kind: str) -> str | None:
        shown = lab.show(server_id)
        of_server = lab.admin.get(f"{SERVERS}/{server_id}/migrations").json["migrations"]
        seen[kind] = (shown["status"], shown["OS-EXT-SRV-ATTR:host"], used(lab), [each["status"] for each in of_server])
        assert findings(lab) == []
        if kind == "guest.send":
            lab.agent.saw(source, "migration", server_id, '{"memory_total": 1024, "memory_remaining": 24}')
            (one,) = lab.admin.get(f"{SERVERS}/{server_id}/migrations").json["migrations"]
            assert (one["memory_total_bytes"], one["memory_remaining_bytes"]) == (1024, 24)
            assert lab.show(server_id)["progress"] == 97
            assert lab.admin.get(f"{SERVERS}/{server_id}/migrations/{one['id']}").json["migration"] == one
        return None

    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    both = {source: before[source], target: before[source]}
    assert seen["guest.expect"] == ("MIGRATING", source, both, ["preparing"])
    assert seen["guest.send"] == ("MIGRATING", source, both, ["running"])
    assert seen["guest.settle"][:2] == ("MIGRATING", target) and seen["guest.settle"][3] == ["post-migrating"]
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-STS:power_state"]) == ("ACTIVE", target, 1)
    assert lab.agent.guests == {source: {}, target: {server_id: "running"}}
    assert used(lab) == {source: before[target], target: before[source]} and findings(lab) == []
    (port,) = lab.admin.get(f"/network/v2.0/ports?device_id={server_id}").json["ports"]
    assert (port["binding:host_id"], port["status"]) == (target, "ACTIVE")
    assert ("guest", server_id) not in lab.agent.items[source] and statuses(lab) == ["completed"]
    assert history(lab, server_id)[0] == "live-migration"


@pytest.mark.parametrize("kind", ["guest.expect", "guest.send", "guest.settle", "guest.destroy"])
def test_a_live_migration_that_fails_leaves_a_server_that_runs(lab: Lab, kind: str) -> None:
    server = lab.boot(lab.demo, networks="auto")
    server_id, source, before = server["id"], server["OS-EXT-SRV-ATTR:host"], used(lab)
    once = iter(["no"])
    lab.agent.refuse = lambda host, task: next(once, None) if task.kind == kind else None
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    lab.agent.settle()
    left = kind in ("guest.settle", "guest.destroy")
    now = other(lab, source) if left else source
    assert (lab.show(server_id)["status"], where(lab, server_id)) == ("ACTIVE", now)
    assert lab.agent.guests[now] == {server_id: "running"} and not any(lab.agent.expected.values())
    assert used(lab)[now] == before[source] and findings(lab) == []
    assert statuses(lab) == ["completed" if left else "error"]
    assert ("guest.destroy" in [task for host, task, _ in lab.agent.done if host == source]) is left


@pytest.mark.parametrize("left", [True, False])
def test_where_the_guest_is_is_asked_before_anything_is_removed(lab: Lab, left: bool) -> None:
    """The host that sends lost the answer: only it knows whether the guest left."""
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    target, guests = other(lab, source), lab.agent.guests

    def lose(host: str, task: Any) -> str | None:
        if task.kind != "guest.send":
            return None
        if left:
            guests[target][server_id] = guests[source].pop(server_id)
        return "the answer was lost"

    lab.agent.refuse = lose
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle(30)
    now = target if left else source
    assert (lab.show(server_id)["status"], where(lab, server_id)) == ("ACTIVE", now)
    assert guests == {now: {server_id: "running"}, other(lab, now): {}} and findings(lab) == []
    assert statuses(lab) == ["completed" if left else "error"]


def test_a_host_that_does_not_say_where_the_guest_is(lab: Lab) -> None:
    """Nothing is removed from either host, and the server says so; a delete removes it from both."""
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    lab.agent.refuse = lambda host, task: "no" if task.kind in ("guest.send", "guest.keep") else None
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle(30)
    shown = lab.show(server_id)
    assert shown["status"] == "ERROR" and "does not say whether the guest left it" in shown["fault"]["message"]
    assert "guest.unexpect" not in [kind for _, kind, _ in lab.agent.done]
    lab.agent.refuse = lambda host, task: None
    lab.demo.delete(f"{SERVERS}/{server_id}")
    lab.agent.settle(30)
    assert not any(lab.agent.guests.values()) and not any(lab.agent.expected.values()) and findings(lab) == []
    assert {host for host, kind, _ in lab.agent.done if kind in ("guest.destroy", "guest.unexpect")} == {source, other(lab, source)}


@pytest.mark.parametrize("moment", ["guest.expect", "guest.send", "guest.settle"])
def test_a_delete_ends_a_live_migration(lab: Lab, moment: str) -> None:
    server_id = lab.boot()["id"]
    lab.agent.refuse = lambda host, task: drop() if task.kind == moment else None

    def drop() -> None:
        lab.demo.delete(f"{SERVERS}/{server_id}")

    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    assert lab.demo.get(f"{SERVERS}/{server_id}").status == 404
    assert not any(lab.agent.guests.values()) and not any(lab.agent.expected.values())
    assert all(not each.get(MIB) for each in used(lab).values()) and findings(lab) == []


@pytest.mark.parametrize("moment", ["guest.expect", "guest.send"])
def test_a_live_migration_is_given_up_or_hurried(lab: Lab, moment: str) -> None:
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    latest = {"OpenStack-API-Version": "compute 2.65"}

    def interrupt(kind: str) -> str | None:
        if kind != moment:
            return None
        (one,) = lab.admin.get(f"{SERVERS}/{server_id}/migrations", **latest).json["migrations"]
        path = f"{SERVERS}/{server_id}/migrations/{one['id']}"
        forced = lab.admin.post(path + "/action", {"force_complete": None}, **latest)
        assert forced.status == (202 if kind == "guest.send" else 400)
        assert lab.admin.delete(path, **latest).status == 202
        return "it was aborted" if kind == "guest.send" else None

    assert lab.admin.delete(f"{SERVERS}/{server_id}/migrations/1", **latest).status == 409
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    (queued,) = lab.admin.get(f"{SERVERS}/{server_id}/migrations").json["migrations"]
    assert queued["status"] == "queued"
    assert lab.admin.delete(f"{SERVERS}/{server_id}/migrations/{queued['id']}", **latest).status == 202
    lab.agent.settle()
    assert statuses(lab) == ["cancelled"] and lab.show(server_id)["status"] == "ACTIVE"
    lab.agent.done.clear()
    lab.agent.refuse = lambda host, task: interrupt(task.kind)
    act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    assert (lab.show(server_id)["status"], where(lab, server_id)) == ("ACTIVE", source)
    assert statuses(lab) == ["cancelled"] * 2 and findings(lab) == [] and not any(lab.agent.expected.values())
    steered = [body["action"] for _, kind, body in lab.agent.done if kind == "guest.steer"]
    assert steered == (["hurry", "abort", "abort"] if moment == "guest.send" else ["abort"])
    assert "live_migration_cancel" in history(lab, server_id)


def test_what_a_live_migration_needs_is_said_beforehand(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    source = where(lab, server_id)
    target = other(lab, source)

    def asked(body: dict[str, Any], version: str = "2.100") -> tuple[int, str]:
        path = f"{SERVERS}/{server_id}/action"
        reply = lab.admin.post(path, {"os-migrateLive": body}, **{"OpenStack-API-Version": f"compute {version}"})
        return reply.status, reply.body.decode()

    for body, version in (
        ({"host": source, "block_migration": "auto"}, "2.100"),
        ({"host": "nowhere", "block_migration": "auto"}, "2.100"),
        ({"host": None, "block_migration": False}, "2.100"),
        ({"host": None, "block_migration": "auto", "force": True}, "2.100"),
        ({"host": None, "block_migration": "auto", "force": True}, "2.30"),
        ({"host": None, "block_migration": "auto", "disk_over_commit": False}, "2.100"),
        ({"host": None, "block_migration": True}, "2.1"),
        ({"host": None, "block_migration": "auto", "disk_over_commit": False}, "2.1"),
        ({"host": None}, "2.100"),
    ):
        assert asked(body, version)[0] == 400, (body, version)
    hello = lab.agent.hello[target]
    lab.agent.hello[target] = msgspec.structs.replace(hello, hypervisor_version=1, cpu_info={"arch": "arm64"})
    lab.agent.arrive()
    status, said = asked({"host": target, "block_migration": "auto"})
    assert status == 400 and "older than 1000" in said and "arm64" in said
    lab.harness.cloud.parts["compute"].building.cache.forget()
    reply = act(lab, server_id, "os-migrateLive", LIVE, lab.admin)
    lab.agent.settle()
    events = lab.events(server_id, reply.headers["x-openstack-request-id"])
    assert any("older than 1000" in (each.get("traceback") or "") for each in events)
    assert (lab.show(server_id)["status"], where(lab, server_id)) == ("ACTIVE", source)
    assert lab.act(server_id, "os-migrateLive", LIVE).status == 403
    act(lab, server_id, "os-stop")
    lab.agent.settle()
    assert lab.act(server_id, "os-migrateLive", LIVE, lab.admin).status == 409
