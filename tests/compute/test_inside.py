"""What is asked of a guest itself: a password, and a dump of its kernel."""

from __future__ import annotations

from sqlalchemy import select

from nephos.compute.servers import store
from nephos.kernel.operations.store import operation
from tests.compute.conftest import Lab


def test_a_password_is_changed_while_the_caller_waits_and_kept_nowhere(lab: Lab) -> None:
    server = lab.boot(config_drive=True)
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    body = {"adminPass": "open sesame"}
    reply = lab.agent.during(lambda: lab.act(server_id, "changePassword", body))
    assert reply.status == 202 and not reply.body
    lab.agent.settle()
    assert lab.agent.done[-1] == (host, "guest.password", {"id": server_id, "user": "root", "password": "open sesame"})
    assert lab.show(server_id)["OS-EXT-STS:task_state"] is None
    with lab.harness.cloud.database.read() as tx:
        row = store.by_id(tx, server_id)
        assert row is not None and row.admin_pass is None
        assert "sesame" not in str(tx.all(select(operation.c.data, operation.c.error)))
    history = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert history[0]["action"] == "changePassword"


def test_a_guest_that_takes_none_is_a_conflict(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    lab.agent.refuse = lambda host, task: "no agent listens" if task.kind == "guest.password" else None
    reply = lab.agent.during(lambda: lab.act(server_id, "changePassword", {"adminPass": "x"}))
    assert reply.status == 409 and "no agent listens" in reply.json["conflictingRequest"]["message"]
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    assert lab.act(server_id, "changePassword", {}).status == 400
    lab.act(server_id, "os-stop")
    lab.agent.settle()
    assert lab.act(server_id, "changePassword", {"adminPass": "x"}).status == 409


def test_a_dump(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    assert lab.act(server_id, "trigger_crash_dump").status == 202
    lab.agent.settle()
    assert lab.agent.done[-1][1:] == ("guest.dump", {"id": server_id}) and lab.show(server_id)["status"] == "ACTIVE"
    lab.act(server_id, "os-stop")
    lab.agent.settle()
    assert lab.act(server_id, "trigger_crash_dump").status == 409
