"""What settings of the default statefulness can do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource
from nephos.network.statefulness.store import statefulness

_of = (
    select(statefulness.c.stateful)
    .where(statefulness.c.project_id.in_([bindparam("project"), ""]))
    .order_by(statefulness.c.project_id.desc())
)


def default(tx: Tx, project_id: str) -> bool:
    """Whether a new group of a project is stateful when nobody says: the project's own setting, else everybody's."""
    row = tx.first(_of, {"project": project_id})
    return True if row is None else bool(row.stateful)


def create(tx: Tx, project_id: str, *, stateful: bool) -> str:
    """Raises SecurityGroupDefaultStatefulnessAlreadyExists (409)."""
    if tx.first(select(statefulness.c.id).where(statefulness.c.project_id == project_id)) is not None:
        raise problems.refused(
            "A security group default statefulness setting already exists for project "
            f"'{project_id or 'system-wide'}'.",
            "SecurityGroupDefaultStatefulnessAlreadyExists",
        )
    key = clock.uuid4()
    values = {"id": key, "project_id": project_id, "stateful": stateful, "revision": 1}
    tx.insert(statefulness, {**values, "created_at": tx.now, "updated_at": tx.now})
    return key


def update(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    resource.revise(tx, statefulness, row.id, values)


def remove(tx: Tx, row: Any) -> None:
    tx.execute(delete(statefulness).where(statefulness.c.id == row.id))
