"""/ports/{id}/bindings."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import select

from nephos.errors import NotFound
from nephos.hosts import actions as hosts
from nephos.hosts import store as known
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.bindings import actions
from nephos.network.ports.api import check_vnic
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.ports.wire import vif_details
from nephos.network.resource import Item, V, View


class Create(resource.Base, kw_only=True):
    """POST /ports/{id}/bindings."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    vnic_type: str = "normal"
    profile: dict[str, Any] | None = None
    project_id: str | None = None
    tenant_id: str | None = None


class _Body(resource.Base, kw_only=True):
    binding: Create


_body = msgspec.json.Decoder(_Body, strict=False)


def index(call: Call) -> Reply:
    view = View(call)
    fields = set(call.query.many("fields")) - {""}
    with call.cloud.database.read() as tx:
        row = _port(tx, view, "get_port_binding")
        found = _shown(tx, row)
    for name, values in call.query.items():
        if name in ("host", "vif_type", "vnic_type", "status"):
            found = [each for each in found if each[name] in values]
        elif name != "fields":
            raise problems.bad(f"['{name}'] is invalid attribute for filtering", "HTTPBadRequest")
    return Reply({"bindings": [{k: v for k, v in each.items() if not fields or k in fields} for each in found]})


def create(call: Call) -> Reply:
    view = View(call)
    try:
        wanted = _body.decode(resource.raw_body(call)).binding
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise problems.bad(f"Invalid input for binding. Reason: {wrong}", "HTTPBadRequest") from wrong
    vnic_type = check_vnic(wanted.vnic_type)

    def work(tx: Tx) -> Item:
        row = _port(tx, view, "create_port_binding")
        try:
            host_id = str(hosts.by_name(tx, wanted.host).id)
        except NotFound as lacking:
            raise problems.invalid("host", f"there is no host '{wanted.host}'") from lacking
        actions.create(tx, row, host_id, wanted.host, vnic_type=vnic_type, profile=wanted.profile or {})
        return next(each for each in _shown(tx, row) if each["host"] == wanted.host)

    return Reply({"binding": view.cloud.database.write(work)}, 201)


def activate(call: Call) -> Reply:
    view, host = View(call), call.params["host"]

    def work(tx: Tx) -> Item:
        row = _port(tx, view, "activate")
        actions.activate(tx, view.cloud, row, _host(tx, host, row.id), host)
        return next(each for each in _shown(tx, _port(tx, view, "activate")) if each["host"] == host)

    return Reply({"binding": view.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    view, host = View(call), call.params["host"]

    def work(tx: Tx) -> None:
        row = _port(tx, view, "delete_port_binding")
        actions.remove(tx, view.cloud, row, _host(tx, host, row.id), host)

    view.cloud.database.write(work)
    return Reply(status=204)


def _port(tx: Tx, view: View, rule: str) -> Any:
    return resource.fetch(tx, PORT, view, view.call.params["id"], rule)


def _host(tx: Tx, name: str, port_id: str) -> str:
    try:
        return str(hosts.by_name(tx, name).id)
    except NotFound as lacking:
        raise problems.missing(f"Binding for port {port_id} for host", name, "PortBindingNotFound") from lacking


def _shown(tx: Tx, row: Any) -> list[Item]:
    """All bindings, the active one first."""
    found: list[Item] = []
    if row.host_id is not None:
        name = tx.scalar(select(known.host.c.name).where(known.host.c.id == row.host_id))
        found.append(_item(row, str(name), row.vnic_type, row.profile, "ACTIVE"))
    found += [_item(row, each.name, each.vnic_type, each.profile, "INACTIVE") for each in actions.all_of(tx, row.id)]
    return found


def _item(row: Any, host: str, vnic_type: str, profile: Any, status: str) -> Item:
    return {
        "host": host,
        "vif_type": "bridge",
        "vif_details": vif_details(row),
        "vnic_type": vnic_type,
        "profile": profile or {},
        "status": status,
        "project_id": row.project_id,
    }


_MANY = V + "/ports/{id}/bindings"
ROUTES = (
    Route("GET", _MANY, index, "get_port_binding", target="later"),
    Route("POST", _MANY, create, "create_port_binding", 201, target="later"),
    Route("PUT", _MANY + "/{host}/activate", activate, "activate", target="later"),
    Route("DELETE", _MANY + "/{host}", delete, "delete_port_binding", 204, target="later"),
)
