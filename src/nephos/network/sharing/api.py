"""/rbac-policies."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.resource import V, View
from nephos.network.sharing import actions
from nephos.network.sharing.kinds import KINDS
from nephos.network.sharing.wire import NOUN, Create, Update

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = _whom(model.target_tenant, model.target_project)
    if target is None:
        raise problems.bad(
            "Failed to parse request. Required attribute 'target_tenant' not specified", "HTTPBadRequest"
        )
    whole = {"project_id": project_id, "tenant_id": project_id, "target_tenant": target, "target_project": target}
    view.call.permit(whole)
    _create.enforce(view, model, whole, "create")
    kind = KINDS.get(model.object_type)
    if kind is None:
        raise problems.invalid("object_type", f"'{model.object_type}' is not in {sorted(KINDS)}")
    if model.action not in kind.actions:
        raise problems.bad(
            f"Invalid action '{model.action}' for object type '{model.object_type}'. Valid actions: "
            f"{', '.join(kind.actions)}",
            "InvalidInput",
        )
    row = resource.fetch(tx, kind.noun, view, model.object_id)
    if row.project_id != view.project_id and not view.admin:
        raise problems.bad("Only admins can manipulate policies on objects they do not own.")
    return actions.create(
        tx,
        view.cloud,
        row=row,
        project_id=project_id,
        action=model.action,
        target=target,
        object_type=model.object_type,
    )


def _whom(tenant: str | UnsetType, project: str | UnsetType) -> str | None:
    found = {each for each in (tenant, project) if each is not UNSET}
    if len(found) > 1:
        raise problems.bad("'target_tenant' and 'target_project' do not match", "HTTPBadRequest")
    text = str(found.pop()) if found else None
    if text is not None and not 0 < len(text) <= 255:
        raise problems.invalid("target_tenant", "it is from 1 to 255 characters")
    return text


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    target = _whom(model.target_tenant, model.target_project)
    if target is not None:
        actions.retarget(tx, view.cloud, row, target)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


ROUTES = (
    Route("GET", V + "/rbac-policies", index, "get_rbac_policy", target="later"),
    Route("POST", V + "/rbac-policies", create, "create_rbac_policy", 201, target="later"),
    Route("GET", V + "/rbac-policies/{id}", show, "get_rbac_policy", target="later"),
    Route("PUT", V + "/rbac-policies/{id}", update, "update_rbac_policy", target="later"),
    Route("DELETE", V + "/rbac-policies/{id}", delete, "delete_rbac_policy", 204, target="later"),
)
