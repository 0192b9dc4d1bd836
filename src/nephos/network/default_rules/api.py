"""/default-security-group-rules."""

from __future__ import annotations

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import resource
from nephos.network.addressgroups.wire import NOUN as ADDRESS_GROUP
from nephos.network.default_rules import actions
from nephos.network.default_rules.store import PARENT
from nephos.network.default_rules.wire import NOUN, Create
from nephos.network.groups.api import new_rule
from nephos.network.groups.wire import GROUP
from nephos.network.resource import V, View

_create = resource.Body(NOUN, Create, bulk=True)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    view.call.permit({})
    if model.remote_group_id not in (None, PARENT):
        resource.fetch(tx, GROUP, view, str(model.remote_group_id))
    if model.remote_address_group_id is not None:
        resource.fetch(tx, ADDRESS_GROUP, view, model.remote_address_group_id)
    return actions.create(
        tx, new_rule(model), in_default=model.used_in_default_sg, in_others=model.used_in_non_default_sg
    )


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


_ONE = V + "/default-security-group-rules/{id}"
ROUTES = (
    Route("GET", V + "/default-security-group-rules", index, "get_default_security_group_rule", target="later"),
    Route(
        "POST", V + "/default-security-group-rules", create, "create_default_security_group_rule", 201, target="later"
    ),
    Route("GET", _ONE, show, "get_default_security_group_rule", target="later"),
    Route("DELETE", _ONE, delete, "delete_default_security_group_rule", 204, target="later"),
)
