"""Address scopes as the API shows and takes them (extension address-scope)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import or_, select

from nephos.network import resource
from nephos.network.addressscopes.store import address_scope
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing import scope

Name = Annotated[str, Meta(max_length=255)]


class Create(resource.Owned, kw_only=True):
    """POST /address-scopes."""

    ip_version: Literal[4, 6]
    name: Name = ""
    shared: bool = False


class Update(resource.Base, kw_only=True):
    """PUT /address-scopes/{id}."""

    name: Name | UnsetType = UNSET
    shared: bool | UnsetType = UNSET


def _target(row: Any) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "shared": bool(row.shared)}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "ip_version": row.version,
        "shared": bool(row.shared),
        "project_id": row.project_id,
        "tenant_id": row.project_id,
    }


_c = address_scope.c
_seen = scope.shared_with(_c.id)
NOUN = Noun(
    name="address_scope",
    plural="address_scopes",
    title="Address scope",
    table=address_scope,
    select=select(address_scope, _seen.label("shared")),
    scope=or_(_c.project_id == resource.VIEWER, _seen),
    render=_render,
    lacks=resource.NO_REVISIONS,
    target=_target,
    guarded=frozenset({"shared"}),
    columns={"ip_version": _c.version},
    filters={"shared": scope.flag(_seen)},
)
