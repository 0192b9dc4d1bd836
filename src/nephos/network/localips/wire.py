"""Local IPs and their associations with ports as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import ColumnElement, bindparam, select

from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import below, resource
from nephos.network.localips.store import association, local_ip
from nephos.network.ports.store import port
from nephos.network.resource import Item, Loaded, Noun, View

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=1024)]


class Create(resource.Owned, kw_only=True):
    """POST /local_ips: of a port's address, or of a new port's in a network."""

    name: Name = ""
    description: Words = ""
    local_port_id: str | UnsetType | None = UNSET
    network_id: str | UnsetType | None = UNSET
    local_ip_address: str | UnsetType | None = UNSET
    ip_mode: Literal["translate", "passthrough"] = "translate"


class Update(resource.Base, kw_only=True):
    """PUT /local_ips/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET


class Associate(resource.Owned, kw_only=True):
    """POST /local_ips/{id}/port_associations."""

    fixed_port_id: str
    fixed_ip: str | None = None


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "local_port_id": row.local_port_id,
        "network_id": row.network_id,
        "local_ip_address": row.address,
        "ip_mode": row.ip_mode,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision,
    }


_c, _a = local_ip.c, association.c
NOUN = Noun(
    name="local_ip",
    plural="local_ips",
    title="Local IP",
    table=local_ip,
    select=select(local_ip),
    scope=_c.project_id == resource.VIEWER,
    render=_render,
    columns={
        "local_port_id": _c.local_port_id,
        "network_id": _c.network_id,
        "local_ip_address": _c.address,
        "ip_mode": _c.ip_mode,
    },
)


def _names(tx: Tx, rows: Any, view: View) -> Loaded:
    return {row.id: row.name for row in hosts.all_hosts(tx)}


def _association(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "local_ip_id": row.local_ip_id,
        "local_ip_address": row.address,
        "fixed_port_id": row.id,
        "fixed_ip": row.fixed_address,
        "host": loaded.get(row.host_id, ""),
    }


def _host(values: list[str], view: View) -> ColumnElement[bool]:
    return port.c.host_id.in_(hosts.named(values))


ASSOCIATION = Noun(
    name="local_ip_port_association",
    word="port_association",
    plural="port_associations",
    title="Local IP association",
    table=association,
    select=select(association, local_ip.c.address, local_ip.c.project_id.label("owner"), port.c.host_id)
    .join(local_ip, _c.id == _a.local_ip_id)
    .join(port, port.c.id == _a.id)
    .where(_a.local_ip_id == bindparam("above")),
    scope=_c.project_id == resource.VIEWER,
    render=_association,
    lacks=resource.NO_REVISIONS,
    load=_names,
    target=below.target,
    columns={"local_ip_address": _c.address, "fixed_port_id": _a.id, "fixed_ip": _a.fixed_address},
    filters={"host": _host},
    orders={"host": port.c.host_id},
    read_only=frozenset({"local_ip_id"}),
)
"""Those of the local IP that the statements know as `above`."""
