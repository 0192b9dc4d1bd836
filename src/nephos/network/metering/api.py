"""/metering/metering-labels and /metering/metering-label-rules."""

from __future__ import annotations

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, problems, resource
from nephos.network.metering import actions
from nephos.network.metering.wire import LABEL, RULE, CreateLabel, CreateRule
from nephos.network.resource import V, View

_create_label = resource.Body(LABEL, CreateLabel, bulk=True)
_create_rule = resource.Body(RULE, CreateRule, bulk=True)
labels, show_label = resource.readers(LABEL)


def create_label(call: Call) -> Reply:
    return resource.make(call, LABEL, _create_label, _make_label)


def _make_label(tx: Tx, view: View, model: CreateLabel) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    values = {"name": model.name, "description": model.description, "shared": model.shared}
    return actions.create_label(tx, {"project_id": project_id, **values})


def delete_label(call: Call) -> Reply:
    return resource.remove(
        call, LABEL, call.params["id"], lambda tx, view, row: actions.remove_label(tx, view.cloud, row)
    )
rules, show_rule = resource.readers(RULE)


def create_rule(call: Call) -> Reply:
    return resource.make(call, RULE, _create_rule, _make_rule)


def _make_rule(tx: Tx, view: View, model: CreateRule) -> str:
    above = resource.fetch(tx, LABEL, view, model.metering_label_id)
    view.call.permit(LABEL.target(above))
    newer = model.source_ip_prefix, model.destination_ip_prefix
    if model.remote_ip_prefix is not None and any(newer):
        raise problems.bad(
            "Cannot use 'remote-ip-prefix' in conjunction with 'source-ip-prefix' or 'destination-ip-prefix'.",
            "HTTPBadRequest",
        )
    if model.remote_ip_prefix is None and not any(newer):
        raise problems.invalid("remote_ip_prefix", "one of remote, source and destination prefix is needed")
    values = {
        "direction": model.direction,
        "excluded": model.excluded,
        "remote": _range("remote_ip_prefix", model.remote_ip_prefix),
        "source": _range("source_ip_prefix", model.source_ip_prefix),
        "destination": _range("destination_ip_prefix", model.destination_ip_prefix),
    }
    return actions.create_rule(tx, view.cloud, above, values)


def _range(name: str, text: str | None) -> str | None:
    return str(addressing.network(name, text)) if text else None


def delete_rule(call: Call) -> Reply:
    return resource.remove(
        call, RULE, call.params["id"], lambda tx, view, row: actions.remove_rule(tx, view.cloud, row)
    )


_LABELS, _RULES = V + "/metering/metering-labels", V + "/metering/metering-label-rules"
ROUTES = (
    Route("GET", _LABELS, labels, "get_metering_label", target="later"),
    Route("POST", _LABELS, create_label, "create_metering_label", 201, target="later"),
    Route("GET", _LABELS + "/{id}", show_label, "get_metering_label", target="later"),
    Route("DELETE", _LABELS + "/{id}", delete_label, "delete_metering_label", 204, target="later"),
    Route("GET", _RULES, rules, "get_metering_label_rule", target="later"),
    Route("POST", _RULES, create_rule, "create_metering_label_rule", 201, target="later"),
    Route("GET", _RULES + "/{id}", show_rule, "get_metering_label_rule", target="later"),
    Route("DELETE", _RULES + "/{id}", delete_rule, "delete_metering_label_rule", 204, target="later"),
)
