"""Power, locks, states, console log, metadata and tags of a server that runs."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building.steps import Building
from tests.compute.conftest import Lab


def test_stop_start_and_reboot(lab: Lab) -> None:
    server = lab.boot()
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    assert lab.act(server_id, "os-start").status == 409
    assert lab.act(server_id, "os-stop").status == 202
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "powering-off"
    assert lab.act(server_id, "os-stop").status == 409
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["status"] == "SHUTOFF" and shown["OS-EXT-STS:power_state"] == 4
    assert lab.agent.guests[host][server_id] == "shutdown" and lab.agent.item(host, server_id).power == "shutdown"
    assert lab.act(server_id, "reboot", {"type": "SOFT"}).status == 409
    assert lab.act(server_id, "os-start").status == 202
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.item(host, server_id).power == "running"
    for kind, status, action in (("SOFT", "REBOOT", "reboot"), ("HARD", "HARD_REBOOT", "reset")):
        assert lab.act(server_id, "reboot", {"type": kind}).status == 202
        assert lab.show(server_id)["status"] == status
        lab.agent.settle()
        assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.done[-1][2]["action"] == action
    history = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in history] == ["reboot", "reboot", "start", "stop", "create"]


def test_a_server_is_held_and_goes_on(lab: Lab) -> None:
    server = lab.boot()
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    for do, undo, status, power, told in (
        ("pause", "unpause", "PAUSED", 3, "paused"),
        ("suspend", "resume", "SUSPENDED", 4, "suspended"),
    ):
        assert lab.act(server_id, undo).status == 409
        assert lab.act(server_id, do).status == 202
        lab.agent.settle()
        lab.agent.saw(host, "power", server_id, told)
        shown = lab.show(server_id)
        assert (shown["status"], shown["OS-EXT-STS:power_state"]) == (status, power)
        assert lab.agent.guests[host][server_id] == told
        assert lab.act(server_id, do).status == 409 and lab.act(server_id, "os-stop").status == 409
        assert lab.act(server_id, undo).status == 202
        lab.agent.settle()
        assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.guests[host][server_id] == "running"
    assert lab.act(server_id, "suspend").status == 202
    lab.agent.settle()
    lab.demo.delete(f"/compute/v2.1/servers/{server_id}")
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server_id}").status == 404


def test_what_a_host_could_not_do_is_told_and_leaves_the_server_as_it_was(lab: Lab) -> None:
    server = lab.boot()
    lab.agent.refuse = lambda host, task: "the guest does not listen" if task.kind == "guest.power" else None
    reply = lab.act(server["id"], "os-stop")
    lab.agent.settle()
    shown = lab.show(server["id"])
    assert shown["status"] == "ACTIVE" and shown["OS-EXT-STS:task_state"] is None
    events = lab.events(server["id"], reply.headers["x-openstack-request-id"])
    assert events[-1]["result"] == "Error" and events[-1]["traceback"] == "the guest does not listen"


def test_a_host_that_is_away_is_said_at_once(lab: Lab) -> None:
    server = lab.boot()
    building: Building = lab.harness.cloud.parts["compute"].building
    building.is_up = lambda tx, host_id: False  # type: ignore[method-assign]
    assert lab.act(server["id"], "os-stop").status == 409
    assert lab.show(server["id"])["OS-EXT-STS:task_state"] is None


def test_locks(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    assert lab.act(server_id, "lock", {"locked_reason": "mine"}).status == 202
    shown = lab.show(server_id)
    assert shown["locked"] and shown["locked_reason"] == "mine"
    assert lab.act(server_id, "os-stop").status == 409
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 409
    assert lab.act(server_id, "unlock").status == 202
    assert lab.act(server_id, "lock", None, lab.admin).status == 202
    assert lab.act(server_id, "unlock").status == 403
    assert lab.act(server_id, "os-stop", None, lab.admin).status == 202
    assert lab.act(server_id, "lock", {"reason": 1}).status == 400
    history = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in history] == ["stop", "lock", "unlock", "lock", "create"]


def test_states_that_an_operator_sets(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    assert lab.act(server_id, "os-resetState", {"state": "error"}).status == 403
    assert lab.act(server_id, "os-resetState", {"state": "error"}, lab.admin).status == 202
    assert lab.show(server_id)["status"] == "ERROR"
    assert lab.act(server_id, "os-resetState", {"state": "asleep"}, lab.admin).status == 400
    assert lab.act(server_id, "os-resetState", {"state": "active"}, lab.admin).status == 202
    assert lab.show(server_id)["status"] == "ACTIVE"


def test_the_console_log(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    asked: list[Any] = []

    def answer(host_id: str, kind: str, item: str, limit: int | None) -> bytes:
        asked.append((kind, item, limit))
        return b"first\r\nsecond \x1b[0m\nlast \xff"

    lab.harness.cloud.hosts.asker = answer
    whole = lab.act(server_id, "os-getConsoleOutput", {})
    assert whole.status == 200 and whole.json["output"] == "first\nsecond [0m\nlast \ufffd"
    assert lab.act(server_id, "os-getConsoleOutput", {"length": 1}).json["output"] == "last \ufffd"
    assert lab.act(server_id, "os-getConsoleOutput", {"length": "2"}).json["output"].startswith("second")
    assert asked[0] == ("console", server_id, None)
    assert lab.act(server_id, "os-getConsoleOutput", {"length": -2}).status == 400

    def fail(*_: Any) -> Any:
        raise errors.HostFault("there is no log")

    lab.harness.cloud.hosts.asker = fail
    reply = lab.act(server_id, "os-getConsoleOutput", {})
    assert reply.status == 404 and "there is no log" in reply.json["itemNotFound"]["message"]


def test_what_is_not_served_says_so(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    for action in ("restore", "os-getVNCConsole"):
        reply = lab.act(server_id, action, {})
        assert reply.status == 501 and action in reply.json["notImplemented"]["message"]
    assert lab.act(server_id, "dance", {}).status == 400


def test_metadata(lab: Lab) -> None:
    server = lab.boot(metadata={"a": "1"})
    url = f"/compute/v2.1/servers/{server['id']}/metadata"
    assert lab.demo.post(url, {"metadata": {"b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert lab.demo.put(f"{url}/ä", {"meta": {"ä": "3"}}).status == 400
    assert lab.demo.put(f"{url}/c", {"meta": {"c": "drei"}}).json == {"meta": {"c": "drei"}}
    assert lab.demo.put(f"{url}/c", {"meta": {"d": "3"}}).status == 400
    assert lab.demo.get(f"{url}/c").json == {"meta": {"c": "drei"}}
    assert lab.demo.delete(f"{url}/a").status == 204 and lab.demo.delete(f"{url}/a").status == 404
    assert lab.demo.put(url, {"metadata": {"z": "26"}}).json == {"metadata": {"z": "26"}}
    assert lab.demo.get(url).json == {"metadata": {"z": "26"}} == {"metadata": lab.show(server["id"])["metadata"]}
    assert lab.demo.post(url, {"metadata": {f"k{at}": "v" for at in range(128)}}).status == 403
    lab.agent.settle()
    host = server["OS-EXT-SRV-ATTR:host"]
    assert b"26" in bytes(lab.agent.item(host, server["id"]).data)


def test_tags(lab: Lab) -> None:
    url = f"/compute/v2.1/servers/{lab.boot()['id']}/tags"
    assert lab.demo.put(f"{url}/new").status == 201 and lab.demo.put(f"{url}/new").status == 204
    assert lab.demo.get(f"{url}/new").status == 204 and lab.demo.get(f"{url}/old").status == 404
    assert lab.demo.put(url, {"tags": ["b", "a", "b"]}).json == {"tags": ["a", "b"]}
    assert lab.demo.get(url).json == {"tags": ["a", "b"]}
    assert lab.demo.delete(f"{url}/a").status == 204 and lab.demo.delete(f"{url}/a").status == 404
    assert lab.demo.put(url, {"tags": ["x" * 61]}).status == 400
    assert lab.demo.put(f"{url}/" + "x" * 61).status == 400
    assert lab.demo.put(url, {"tags": [f"t{at}" for at in range(51)]}).status == 400
    assert lab.demo.put(url, {"tags": [f"t{at}" for at in range(50)]}).status == 200
    assert lab.demo.put(f"{url}/more").status == 400
    assert lab.demo.delete(url).status == 204 and lab.demo.get(url).json == {"tags": []}
    lab.demo.headers["OpenStack-API-Version"] = "compute 2.25"
    assert lab.demo.get(url).status == 404


def test_nobody_acts_on_the_servers_of_others(lab: Lab) -> None:
    server_id = lab.boot(lab.admin)["id"]
    base = f"/compute/v2.1/servers/{server_id}"
    for method, path, body in (
        ("GET", base, None),
        ("PUT", base, {"server": {"name": "x"}}),
        ("DELETE", base, None),
        ("POST", base + "/action", {"os-stop": None}),
        ("GET", base + "/metadata", None),
        ("PUT", base + "/tags", {"tags": []}),
        ("GET", base + "/os-instance-actions", None),
        ("GET", base + "/ips", None),
        ("GET", base + "/os-interface", None),
        ("GET", base + "/os-security-groups", None),
    ):
        assert lab.demo.request(method, path, body).status == 404, (method, path)
    assert lab.show(server_id)["status"] == "ACTIVE"
