"""Segments as the API shows and takes them (extensions segment, standard-attr-segment)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select, true

from nephos.kernel import clock
from nephos.network import resource
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.segments.store import segment

Name = Annotated[str, Meta(max_length=255)]
_Physical = Annotated[str, Meta(max_length=64)]


class Create(resource.Owned, kw_only=True):
    """POST /segments."""

    network_id: str
    network_type: Annotated[str, Meta(max_length=32)]
    physical_network: _Physical | UnsetType | None = UNSET
    segmentation_id: int | UnsetType | None = UNSET
    name: Name | UnsetType | None = UNSET
    description: Name | UnsetType | None = UNSET


class Update(resource.Base, kw_only=True):
    """PUT /segments/{id}."""

    name: Name | UnsetType | None = UNSET
    description: Name | UnsetType | None = UNSET


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "network_id": row.network_id,
        "name": row.name,
        "description": row.description,
        "network_type": row.kind,
        "physical_network": row.physical,
        "segmentation_id": row.number,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision,
    }


_c = segment.c
NOUN = Noun(
    name="segment",
    plural="segments",
    title="Segment",
    table=segment,
    select=select(segment),
    scope=true(),
    render=_render,
    target=lambda row: {},
    columns={
        "network_id": _c.network_id,
        "network_type": _c.kind,
        "physical_network": _c.physical,
        "segmentation_id": _c.number,
    },
)
