"""Settings of the default statefulness as the API shows and takes them (security-groups-default-statefulness)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import or_, select

from nephos.network import resource
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.statefulness.store import statefulness


class Create(resource.Base, kw_only=True):
    """POST /security-groups-default-statefulness; without a project it is for all."""

    project_id: str | None = None
    tenant_id: str | None = None
    stateful: bool = True


class Update(resource.Base, kw_only=True):
    """PUT /security-groups-default-statefulness/{id}."""

    stateful: bool | UnsetType = UNSET


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {"id": row.id, "project_id": row.project_id or None, "stateful": row.stateful}


_c = statefulness.c
NOUN = Noun(
    name="security_groups_default_statefulness",
    word="security_group_default_statefulness",
    plural="security_groups_default_statefulness",
    title="Security group default statefulness",
    table=statefulness,
    select=select(statefulness),
    scope=or_(_c.project_id == resource.VIEWER, _c.project_id == ""),
    render=_render,
    lacks=resource.NO_REVISIONS,
    columns={"stateful": _c.stateful},
)
