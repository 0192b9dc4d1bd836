"""/local_ips and /local_ips/{id}/port_associations."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, below, problems, resource
from nephos.network.localips import actions
from nephos.network.localips.wire import ASSOCIATION, NOUN, Associate, Create, Update
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports import actions as ports
from nephos.network.ports.store import LOCAL
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.resource import V, View
from nephos.network.subnets import addresses

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
_associate = resource.Body(ASSOCIATION, Associate, bulk=True)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    wanted = _four("local_ip_address", resource.given(model.local_ip_address))
    port_id, network_id = resource.given(model.local_port_id), resource.given(model.network_id)
    if port_id is not None:
        leaf = resource.fetch(tx, PORT, view, port_id)
    elif network_id is not None:
        leaf = ports.get(tx, _own_port(tx, view, project_id, network_id, wanted))
    else:
        raise problems.bad(
            "Invalid input for operation: Either Port ID or Network ID must be specified for Local IP create.",
            "LocalIPPortOrNetworkRequired",
        )
    new = actions.New(
        project_id=project_id,
        name=model.name,
        description=model.description,
        local_port_id=leaf.id,
        network_id=leaf.network_id,
        address=actions.address_of(tx, leaf.id, wanted),
        ip_mode=model.ip_mode,
    )
    key = actions.create(tx, new)
    if port_id is None:
        resource.revise(tx, PORT.table, leaf.id, {"device_id": key})
    return key


def _own_port(tx: Tx, view: View, project_id: str, network_id: str, wanted: str | None) -> str:
    """A port that only holds the address. Raises BadRequest for a network without IPv4, and what making a port raises."""
    above = resource.fetch(tx, NETWORK, view, network_id)
    four = [each for each in addresses.subnets_of(tx, above.id) if each.version == 4]
    if not four:
        raise problems.bad(
            f"Bad local_ip request: Network {network_id} does not contain any IPv4 subnet.", "BadRequest"
        )
    fixed = [addresses.Wanted(address=wanted)] if wanted is not None else None
    new = ports.New(
        project_id=project_id,
        network_id=above.id,
        device_owner=LOCAL,
        groups=(),
        port_security=False,
        fixed=fixed,
        status="N/A",
    )
    return ports.create(tx, view.cloud, new, four)


def _four(attribute: str, text: str | None) -> str | None:
    """Raises BadRequest for what is no IPv4 address."""
    if text is None:
        return None
    found = addressing.address(attribute, text)
    if found.version != 4:
        raise problems.invalid(attribute, f"'{text}' is not an IPv4 address, and a local IP is")
    return str(found)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    resource.revise(tx, NOUN.table, row.id, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], _remove)


def _remove(tx: Tx, view: View, row: Any) -> None:
    actions.remove(tx, row)
    leaf = ports.get(tx, row.local_port_id)
    if leaf.device_owner == LOCAL and leaf.device_id == row.id:
        ports.remove(tx, view.cloud, leaf)


def associations(call: Call) -> Reply:
    return resource.index(call, ASSOCIATION, below.owned(call, NOUN))


def association(call: Call) -> Reply:
    return resource.show(call, ASSOCIATION, call.params["port_id"], below.view(call, NOUN))


def associate(call: Call) -> Reply:
    return resource.make(call, ASSOCIATION, _associate, _lead, below.owned(call, NOUN))


def _lead(tx: Tx, view: View, model: Associate) -> str:
    above = resource.fetch(tx, NOUN, view, view.bind["above"])
    leaf = resource.fetch(tx, PORT, view, model.fixed_port_id)
    actions.associate(tx, view.cloud, above, leaf, _four("fixed_ip", model.fixed_ip))
    return str(leaf.id)


def part(call: Call) -> Reply:
    return resource.remove(
        call,
        ASSOCIATION,
        call.params["port_id"],
        lambda tx, view, row: actions.part(tx, view.cloud, row),
        below.view(call, NOUN),
    )


_ONE, _RULE = V + "/local_ips/{id}", "local_ip_port_association"
_MANY = _ONE + "/port_associations"
ROUTES = (
    Route("GET", V + "/local_ips", index, "get_local_ip", target="later"),
    Route("POST", V + "/local_ips", create, "create_local_ip", 201, target="later"),
    Route("GET", _ONE, show, "get_local_ip", target="later"),
    Route("PUT", _ONE, update, "update_local_ip", target="later"),
    Route("DELETE", _ONE, delete, "delete_local_ip", 204, target="later"),
    Route("GET", _MANY, associations, f"get_{_RULE}", target="later"),
    Route("POST", _MANY, associate, f"create_{_RULE}", 201, target="later"),
    Route("GET", _MANY + "/{port_id}", association, f"get_{_RULE}", target="later"),
    Route("DELETE", _MANY + "/{port_id}", part, f"delete_{_RULE}", 204, target="later"),
)
