"""What deleted servers leave is kept for as long as the settings say, and then is gone without a trace or a finding."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from nephos.compute.servers.store import server, tag
from nephos.doctor.audit import audit
from nephos.image.images.store import used_id
from nephos.kernel import sweeper
from nephos.kernel.operations.store import event, operation
from nephos.kernel.sweeper import Sweeper
from tests.compute.conftest import Lab

DAY = 86_400 * 1_000_000


def age(lab: Lab, days: int, *ids: str) -> None:
    """Make it so many days ago that these servers were made and deleted."""
    ago = {name: server.c[name] - days * DAY for name in ("created_at", "updated_at", "deleted_at")}
    lab.harness.cloud.database.write(lambda tx: tx.execute(update(server).where(server.c.id.in_(ids)).values(ago)))


def rows(lab: Lab, column: Any) -> set[Any]:
    with lab.harness.cloud.database.read() as tx:
        return set(tx.column(select(column)))


def sweep(lab: Lab, days: int) -> int:
    cloud = lab.harness.cloud
    return Sweeper(cloud.database, cloud.sweeps, days).sweep()


def test_what_deleted_servers_leave_goes_when_it_is_old_enough(lab: Lab) -> None:
    path = "/compute/v2.1/servers"
    old, young, living = (lab.boot(name=name, tags=["t"])["id"] for name in ("old", "young", "living"))
    for each in (old, young):
        assert lab.demo.delete(f"{path}/{each}").status == 204
    lab.agent.settle()
    age(lab, 31, old)
    age(lab, 29, young)
    lab.harness.cloud.database.write(
        lambda tx: tx.execute(update(server).where(server.c.id == living).values(created_at=tx.now - 400 * DAY))
    )
    assert lab.admin.get(f"{path}/{old}/os-instance-actions").status == 200

    assert sweep(lab, 30) == 1
    assert rows(lab, server.c.id) == {young, living}
    assert rows(lab, operation.c.noun_id) == {young, living}
    assert rows(lab, event.c.operation_id) <= rows(lab, operation.c.id)
    assert old not in rows(lab, tag.c.server_id)
    assert sweep(lab, 30) == 0
    assert {each.why for each in audit(lab.harness.cloud)} == {"cannot be asked: No agent is connected to this server."}
    assert lab.admin.get(f"{path}/{old}/os-instance-actions").status == 404
    shown = lab.admin.get(f"{path}?deleted=true&all_tenants=1").json["servers"]
    assert [each["id"] for each in shown] == [young]


def test_a_server_that_is_still_worked_on_stays_and_many_go_in_parts(lab: Lab, monkeypatch: Any) -> None:
    monkeypatch.setattr(sweeper, "AT_ONCE", 2)
    monkeypatch.setattr(sweeper, "_PAUSE_SECONDS", 0)
    ids = [lab.boot()["id"] for _ in range(5)]
    for each in ids:
        lab.demo.delete(f"/compute/v2.1/servers/{each}")
    lab.agent.settle()
    age(lab, 31, *ids)
    lab.harness.cloud.database.write(
        lambda tx: tx.execute(
            update(operation).where(operation.c.noun_id == ids[4], operation.c.kind == "server.delete").values(state="undoing")
        )
    )
    assert sweep(lab, 30) == 4
    assert rows(lab, server.c.id) == {ids[4]}


def test_an_id_of_a_deleted_image_may_be_used_again_after_that_time(lab: Lab) -> None:
    body = {"name": "i", "id": "7e1b3a0c-1111-4222-8333-944444444444", "disk_format": "raw", "container_format": "bare"}
    for status in (201, 409):
        assert lab.admin.post("/image/v2/images", body).status == status
        lab.admin.delete(f"/image/v2/images/{body['id']}")
    sweep(lab, 30)
    assert lab.admin.post("/image/v2/images", body).status == 409
    lab.harness.cloud.database.write(lambda tx: tx.execute(update(used_id).values(deleted_at=tx.now - 31 * DAY)))
    assert sweep(lab, 30) == 1
    assert lab.admin.post("/image/v2/images", body).status == 201
