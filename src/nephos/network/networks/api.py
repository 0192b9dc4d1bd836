"""/networks."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.floatingips import actions as floatingips
from nephos.network.groups import actions as groups
from nephos.network.networks import actions
from nephos.network.networks.wire import NOUN, Create, Update
from nephos.network.resource import V, View

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)


def index(call: Call) -> Reply:
    return resource.index(call, NOUN)


def show(call: Call) -> Reply:
    return resource.show(call, NOUN, call.params["id"])


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = {
        "project_id": project_id,
        "tenant_id": project_id,
        "network:project_id": project_id,
        "shared": model.shared,
        "router:external": model.external,
    }
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    groups.ensure_default(tx, view.cloud, project_id)
    segment = actions.Segment(
        kind=model.kind or None,
        physical=model.physical or None,
        number=None if model.segment is UNSET else model.segment,
    )
    new = actions.New(
        project_id=project_id,
        name=model.name,
        description=model.description,
        admin_state_up=model.admin_state_up,
        shared=model.shared,
        external=model.external,
        is_default=model.is_default,
        mtu=None if model.mtu is UNSET else model.mtu,
        port_security_enabled=model.port_security_enabled,
        dns_domain=model.dns_domain,
        zone_hints=tuple(model.availability_zone_hints),
        segment=segment,
    )
    return actions.create(tx, view.cloud, new)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    values = resource.settings_of(model)
    for name in ("kind", "physical", "segment"):
        if name in values and values.pop(name) != getattr(row, name):
            raise problems.bad("Invalid input for operation: Plugin does not support updating provider attributes.")
    actions.update(tx, view.cloud, row, values)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], _remove)


def _remove(tx: Tx, view: View, row: Any) -> None:
    """Floating IPs of an external network that lead nowhere go with it."""
    if row.external:
        floatingips.remove_idle(tx, view.cloud, row.id)
    actions.delete_network(tx, view.cloud, row)


ROUTES = (
    Route("GET", V + "/networks", index, "get_network", target="later"),
    Route("POST", V + "/networks", create, "create_network", 201, target="later"),
    Route("GET", V + "/networks/{id}", show, "get_network", target="later"),
    Route("PUT", V + "/networks/{id}", update, "update_network", target="later"),
    Route("DELETE", V + "/networks/{id}", delete, "delete_network", 204, target="later"),
)
