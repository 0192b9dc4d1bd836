"""Ranges of segment ids as the API shows and takes them (extension network-segment-range)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row, select, true

from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.segment_ranges import actions
from nephos.network.segment_ranges.store import segment_range

Name = Annotated[str, Meta(max_length=255)]
_Number = Annotated[int, Meta(ge=1, le=(1 << 32) - 1)]


class Create(resource.Owned, kw_only=True):
    """POST /network_segment_ranges."""

    name: Name = ""
    description: Name = ""
    shared: bool = True
    network_type: Literal["vlan", "vxlan", "gre", "geneve"]
    physical_network: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET
    minimum: _Number
    maximum: _Number


class Update(resource.Base, kw_only=True):
    """PUT /network_segment_ranges/{id}."""

    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    minimum: _Number | UnsetType = UNSET
    maximum: _Number | UnsetType = UNSET


def _load(tx: Tx, rows: Sequence[Row[Any]], view: View) -> Loaded:
    return {row.id: actions.used(tx, actions.range_of(row)) for row in rows}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    used: dict[int, str] = loaded[row.id]
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "default": row.is_default,
        "shared": row.shared,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "network_type": row.kind,
        "physical_network": row.physical,
        "minimum": row.minimum,
        "maximum": row.maximum,
        "used": {str(number): project for number, project in used.items()},
        "available": actions.available(actions.range_of(row), used),
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision,
    }


_c = segment_range.c
NOUN = Noun(
    name="network_segment_range",
    plural="network_segment_ranges",
    title="Network Segment Range",
    table=segment_range,
    select=select(segment_range),
    scope=true(),
    render=_render,
    load=_load,
    filters={
        "network_type": _c.kind,
        "physical_network": _c.physical,
        "default": _c.is_default,
        "shared": _c.shared,
        "minimum": _c.minimum,
        "maximum": _c.maximum,
    },
    read_only=frozenset({"available", "used"}),
)
