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
from nephos.network.qos import actions as qos
from nephos.network.qos import needs
from nephos.network.resource import V, View
from nephos.network.segments import actions as segments
from nephos.network.segments import types
from nephos.network.segments.types import Segment

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


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
        qos_policy_id=_policy(tx, view, model, project_id),
        zone_hints=tuple(model.availability_zone_hints),
        segments=_segments(model),
    )
    return actions.create(tx, view.cloud, new)


def _policy(tx: Tx, view: View, model: Create, project_id: str) -> str | None:
    """The QoS policy that was asked for, else the project's default one."""
    if model.qos_policy_id is UNSET:
        return qos.default_of(tx, project_id)
    if model.qos_policy_id:
        qos.check_usable(tx, str(model.qos_policy_id), project_id, admin=view.sees_all)
    return model.qos_policy_id or None


def _segments(model: Create) -> tuple[Segment, ...]:
    """What was asked for by the provider or the multi-provider extension. Raises SegmentsSetInConjunctionWithProviders,
    SegmentsContainDuplicateEntry, InvalidInput."""
    one = Segment(
        kind=resource.given(model.kind) or None,
        physical=resource.given(model.physical) or None,
        number=resource.given(model.segment),
    )
    several = tuple(
        Segment(kind=each.kind or None, physical=each.physical or None, number=each.segment)
        for each in resource.given(model.segments) or ()
    )
    if one != Segment():
        if several:
            raise problems.bad(
                "Segments and provider values cannot both be set.", "SegmentsSetInConjunctionWithProviders"
            )
        return (one,)
    whole = [each for each in several if not (each.kind and types.type_of(each.kind).ranged and each.number is None)]
    if len(set(whole)) != len(whole):
        raise problems.bad("Duplicate segment entry in request.", "SegmentsContainDuplicateEntry")
    return several


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    values = resource.settings_of(model)
    if values.get("qos_policy_id", row.qos_policy_id) != row.qos_policy_id:
        qos.check_removable(tx, row.qos_policy_id, view.project_id, admin=view.sees_all)
    if values.get("qos_policy_id"):
        qos.check_usable(tx, values["qos_policy_id"], row.project_id, admin=view.sees_all)
    if values.pop("segments", None):
        raise problems.bad("Invalid input for operation: Plugin does not support updating provider attributes.")
    for name in ("kind", "physical"):
        if name in values and values.pop(name) != getattr(row, name):
            raise problems.bad("Invalid input for operation: Plugin does not support updating provider attributes.")
    number = values.pop("segment", row.segment)
    if number is not None and number != row.segment:
        segments.renumber(tx, view.cloud, row, number)
    policed = values.get("qos_policy_id", row.qos_policy_id) != row.qos_policy_id
    actions.update(tx, view.cloud, row, values)
    if policed:
        needs.changed(tx, view.cloud, "network", row.id)


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
