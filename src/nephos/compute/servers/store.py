"""The table of servers. The row is the truth from the request on (S2-16); flavor and image are copied into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Update,
    bindparam,
    delete,
    func,
    select,
    update,
)

from nephos.kernel.db.engine import Tx
from nephos.kernel.db.schema import boolean, document, integer, metadata, text, when
from nephos.kernel.operations import history

NOUN = "server"

server = Table(
    "compute_server",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    text("id"),
    text("project_id"),
    text("user_id"),
    text("name"),
    text("description", null=True),
    text("hostname", null=True),
    text("vm_state"),
    text("task_state", null=True),
    integer("power_state", default=0),
    integer("progress", default=0),
    text("host_id", null=True),
    text("host_name", null=True),
    text("zone", null=True),
    text("wanted_zone", null=True),
    text("image_id", null=True, index=True),
    document("image"),
    text("flavor_id"),
    document("flavor"),
    integer("vcpus"),
    integer("ram_mb"),
    text("key_name", null=True),
    text("public_key", null=True),
    text("key_type", null=True),
    text("user_data", null=True),
    boolean("config_drive"),
    document("metadata"),
    document("hints"),
    text("group_id", null=True, index=True),
    text("access_ipv4", null=True),
    text("access_ipv6", null=True),
    text("disk_config", default="MANUAL"),
    text("admin_pass", null=True),
    text("guest_password", null=True),
    text("locked_by", null=True),
    text("locked_reason", null=True),
    integer("launch_index", default=0),
    text("reservation_id", index=True),
    document("files"),
    document("security_groups"),
    document("nic_tags"),
    document("trusted_certs"),
    text("shelved_image_id", null=True),
    when("shelved_at", null=True),
    document("fault"),
    when("launched_at", null=True),
    when("terminated_at", null=True),
    when("created_at"),
    when("updated_at"),
    boolean("deleted"),
    when("deleted_at", null=True),
    integer("generation", default=1),
    UniqueConstraint("id"),
    Index("ix_compute_server_list", "project_id", "deleted", "created_at", "id"),
    Index("ix_compute_server_all", "deleted", "created_at", "id"),
    Index("ix_compute_server_host", "host_id", "deleted"),
    Index("ix_compute_server_quota", "project_id", "deleted", "vcpus", "ram_mb"),
)
"""`image` is {"properties", "min_disk", …} as it was at boot; `flavor` the whole flavor with extra specs; `hints` the
scheduler hints as given; `fault` {"code", "message", "details", "created"}; `security_groups` the names asked for, which
are shown until there are ports; `guest_password`
what the guest itself posted; `files` (path, base64) to inject; `nic_tags` port id → device tag; `trusted_certs` the ids of
certificates asked for, which are kept and shown (images here carry no signatures);
`shelved_image_id` what a shelved server's disk became. `generation` is bumped by
every change that is shown."""

tag = Table(
    "compute_server_tag",
    metadata,
    Column("server_id", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Index("ix_compute_server_tag", "tag", "server_id"),
)

_s = server
_by_id = select(_s).where(_s.c.id == bindparam("id"))
_usage = (
    select(func.count(), func.coalesce(func.sum(_s.c.vcpus), 0), func.coalesce(func.sum(_s.c.ram_mb), 0))
    .where(_s.c.project_id == bindparam("project"), ~_s.c.deleted)
    .select_from(_s)
)
_changes: dict[tuple[str, ...], Update] = {}
_of_host = select(_s).where(_s.c.host_id == bindparam("host"), ~_s.c.deleted)


def by_id(tx: Tx, server_id: str) -> Any | None:
    """A server's row, also a deleted one's."""
    return tx.first(_by_id, {"id": server_id})


def sweep(tx: Tx, before: int, most: int) -> int:
    """Take away servers that were deleted before a time (microseconds), at most so many, with all that is kept of them."""
    gone = (_s.c.deleted, _s.c.created_at < before, _s.c.deleted_at < before)
    found = tx.column(select(_s.c.id).where(*gone).order_by(_s.c.created_at).limit(most))
    busy = history.busy(tx, NOUN, found) if found else set()
    ids = [each for each in found if each not in busy]
    if ids:
        history.forget(tx, NOUN, ids)
        tx.execute(delete(tag).where(tag.c.server_id.in_(ids)))
        tx.execute(delete(_s).where(_s.c.id.in_(ids)))
    return len(ids)


def by_ids(tx: Tx, server_ids: Iterable[str]) -> dict[str, Any]:
    ids = list(server_ids)
    return {row.id: row for row in tx.all(select(_s).where(_s.c.id.in_(ids)))} if ids else {}


def of_host(tx: Tx, host_id: str) -> Sequence[Any]:
    """The servers of a host that are not deleted."""
    return tx.all(_of_host, {"host": host_id})


def change(tx: Tx, server_id: str, **values: Any) -> None:
    """Change what is shown of a server: bumps its generation."""
    names = tuple(values)
    statement = _changes.get(names)
    if statement is None:
        statement = _changes[names] = _change_of(names)
    tx.execute(statement, {"key": server_id, "now": tx.now, **{f"new_{name}": value for name, value in values.items()}})


def _change_of(names: Iterable[str]) -> Update:
    """The update of a set of columns. Built once for each set: building one costs more than running it."""
    new: dict[str, ColumnElement[Any]] = {name: bindparam(f"new_{name}", type_=_s.c[name].type) for name in names}
    new |= {"updated_at": bindparam("now"), "generation": _s.c.generation + 1}
    return update(_s).where(_s.c.id == bindparam("key")).values(new)


def usage(tx: Tx, project_id: str, user_id: str | None = None) -> tuple[int, int, int]:
    """(servers, vcpus, RAM in MiB) that a project, or one user in it, has: counted from the rows (S3-34)."""
    statement = _usage if user_id is None else _usage.where(_s.c.user_id == user_id)
    row: Any = tx.execute(statement, {"project": project_id}).one()
    return int(row[0]), int(row[1]), int(row[2])


def tags_of(tx: Tx, server_ids: Iterable[str]) -> dict[str, list[str]]:
    """server id → its tags in order, for the servers that have any."""
    found: dict[str, list[str]] = {}
    rows = tx.all(select(tag).where(tag.c.server_id.in_(list(server_ids))).order_by(tag.c.tag))
    for row in rows:
        found.setdefault(row.server_id, []).append(row.tag)
    return found


def hosts_of(tx: Tx, server_ids: Iterable[str]) -> dict[str, str]:
    """server id → host id, for the servers that are on one."""
    chosen = select(_s.c.id, _s.c.host_id).where(
        _s.c.id.in_(list(server_ids)), _s.c.host_id.is_not(None), ~_s.c.deleted
    )
    return {row.id: row.host_id for row in tx.all(chosen)}


def group_hosts(tx: Tx, group_id: str, *, beside: str) -> Mapping[str, int]:
    """host id → how many servers of a server group are on it, `beside` one of them."""
    chosen = (
        select(_s.c.host_id, func.count())
        .where(_s.c.group_id == group_id, _s.c.id != beside, _s.c.host_id.is_not(None), ~_s.c.deleted)
        .group_by(_s.c.host_id)
    )
    return _counts(tx.all(chosen))


def members_of(tx: Tx, group_ids: Iterable[str]) -> dict[str, list[str]]:
    """server group id → ids of its servers that are not deleted."""
    chosen = (
        select(_s.c.group_id, _s.c.id).where(_s.c.group_id.in_(list(group_ids)), ~_s.c.deleted).order_by(_s.c.number)
    )
    found: dict[str, list[str]] = {}
    for row in tx.all(chosen):
        found.setdefault(row.group_id, []).append(row.id)
    return found


def counts_by_host(tx: Tx) -> dict[str, int]:
    """host id → how many servers it has."""
    chosen = select(_s.c.host_id, func.count()).where(_s.c.host_id.is_not(None), ~_s.c.deleted).group_by(_s.c.host_id)
    return _counts(tx.all(chosen))


def _counts(rows: Sequence[Any]) -> dict[str, int]:
    return {row[0]: int(row[1]) for row in rows}
