"""RBAC policies as the API shows and takes them."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import select

from nephos.network import resource
from nephos.network.networks.store import rbac
from nephos.network.resource import Item, Loaded, Noun, View


class Create(resource.Owned, kw_only=True):
    """POST /rbac-policies."""

    object_type: str
    object_id: str
    action: str
    target_tenant: str | UnsetType = UNSET
    target_project: str | UnsetType = UNSET


class Update(resource.Base, kw_only=True):
    """PUT /rbac-policies/{id}."""

    target_tenant: str | UnsetType = UNSET
    target_project: str | UnsetType = UNSET


def _target(row: Any) -> dict[str, Any]:
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "target_tenant": row.target,
        "target_project": row.target,
    }


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "object_type": row.object_type,
        "object_id": row.object_id,
        "action": row.action,
        "target_tenant": row.target,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
    }


_c = rbac.c
NOUN = Noun(
    name="rbac_policy",
    plural="rbac_policies",
    title="Rbac policy",
    table=rbac,
    select=select(rbac),
    scope=rbac.c.project_id == resource.VIEWER,
    render=_render,
    lacks=resource.NO_REVISIONS,
    target=_target,
    guarded=frozenset({"target_tenant", "target_project"}),
    columns={"object_type": _c.object_type, "object_id": _c.object_id, "action": _c.action},
    filters={"target_tenant": _c.target, "target_project": _c.target},
)
