"""Trunks as the API shows and takes them (extension trunk)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.ports.store import port
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.trunks import actions
from nephos.network.trunks.store import trunk

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]


class SubPort(resource.Base, kw_only=True):
    """A port that is to go behind a tag."""

    port_id: str
    segmentation_type: str | UnsetType | None = UNSET
    segmentation_id: int | UnsetType | None = UNSET


class Create(resource.Owned, kw_only=True):
    """POST /trunks."""

    port_id: str
    name: Name = ""
    description: Words = ""
    admin_state_up: bool = True
    sub_ports: Annotated[list[SubPort], Meta(max_length=4094)] = []


class Update(resource.Base, kw_only=True):
    """PUT /trunks/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET


def sub_port(row: Any) -> Item:
    """A subport as a trunk lists it."""
    return {"port_id": row.port_id, "segmentation_type": row.kind, "segmentation_id": row.number}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "port_id": row.port_id,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "sub_ports": [sub_port(each) for each in loaded.get(row.id, ())],
        **resource.standard(row),
    }


def _load(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    return actions.subports_of(tx, [row.id for row in rows])


_c = trunk.c
NOUN = Noun(
    name="trunk",
    plural="trunks",
    title="Trunk",
    table=trunk,
    # A trunk is up when its parent is: one fact, in one place.
    select=select(trunk, port.c.status).join(port, port.c.id == _c.port_id),
    scope=_c.project_id == resource.VIEWER,
    render=_render,
    load=_load,
    columns={"port_id": _c.port_id, "admin_state_up": _c.admin_state_up, "status": port.c.status},
    read_only=frozenset({"sub_ports"}),
)
