"""The tables of flavors. `id` is the one that users see and may choose; servers keep a copy of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Float, ForeignKey, Integer, Select, Table, Text, UniqueConstraint, bindparam, or_, select

from nephos.kernel.db.engine import Tx
from nephos.kernel.db.schema import boolean, document, integer, metadata, text, when

flavor = Table(
    "compute_flavor",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    text("id"),
    text("name"),
    integer("vcpus"),
    integer("ram_mb"),
    integer("root_gb"),
    integer("ephemeral_gb", default=0),
    integer("swap_mb", default=0),
    Column("rxtx_factor", Float, nullable=False, default=1.0),
    boolean("public", default=True),
    boolean("disabled"),
    text("description", null=True),
    document("extra_specs"),
    when("created_at"),
    when("updated_at", null=True),
    UniqueConstraint("id"),
    UniqueConstraint("name"),
)

access = Table(
    "compute_flavor_access",
    metadata,
    Column("flavor_id", Text, ForeignKey("compute_flavor.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", Text, primary_key=True),
)

SORTS = {
    "flavorid": flavor.c.id,
    "id": flavor.c.number,
    "name": flavor.c.name,
    "memory_mb": flavor.c.ram_mb,
    "root_gb": flavor.c.root_gb,
    "ephemeral_gb": flavor.c.ephemeral_gb,
    "swap": flavor.c.swap_mb,
    "vcpus": flavor.c.vcpus,
    "vcpu_weight": flavor.c.number,
    "rxtx_factor": flavor.c.rxtx_factor,
    "is_public": flavor.c.public,
    "disabled": flavor.c.disabled,
    "description": flavor.c.description,
    "created_at": flavor.c.created_at,
    "updated_at": flavor.c.updated_at,
}

_by_id = select(flavor).where(flavor.c.id == bindparam("id"))
_granted = select(access.c.flavor_id).where(access.c.project_id == bindparam("project"))


def by_id(tx: Tx, flavor_id: str) -> Any | None:
    return tx.first(_by_id, {"id": flavor_id})


def granted(tx: Tx, project_id: str | None) -> set[str]:
    """Ids of the private flavors that a project may use."""
    return set(tx.column(_granted, {"project": project_id}))


def visible(statement: Select[Any], project_id: str | None) -> Select[Any]:
    """Only public flavors, and those that were granted to the project."""
    mine = select(access.c.flavor_id).where(access.c.project_id == project_id)
    return statement.where(or_(flavor.c.public, flavor.c.id.in_(mine)), ~flavor.c.disabled)


def projects_of(tx: Tx, flavor_id: str) -> Sequence[str]:
    return tx.column(select(access.c.project_id).where(access.c.flavor_id == flavor_id).order_by(access.c.project_id))


def names_taken(tx: Tx, ids: Iterable[str]) -> set[str]:
    return set(tx.column(select(flavor.c.id).where(flavor.c.id.in_(list(ids)))))
