"""A server's addresses and ports: `/servers/{id}/ips`, `/servers/{id}/os-interface`, and the old address actions."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.interfaces import steps
from nephos.compute.lifecycle.actions import require
from nephos.compute.servers import actions, states
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.showing import bodies
from nephos.compute.waiting import wait
from nephos.compute.wire import Strict, Uuid, since
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.network import guests as network
from nephos.network.guests import NetworkRequest, ServerPort

Address = Annotated[str, Meta(min_length=1, max_length=64)]
_WITH_PORTS = frozenset({states.ACTIVE, states.PAUSED, states.STOPPED})


class NetworkId(Strict):
    network_id: Annotated[str, Meta(min_length=1, max_length=255)] | int = field(name="networkId")


class AddFixedIp(Strict):
    add: NetworkId = field(name="addFixedIp")


class OneAddress(Strict):
    address: Address


class RemoveFixedIp(Strict):
    remove: OneAddress = field(name="removeFixedIp")


class Floating(Strict):
    address: Address
    fixed_address: Address | None = None


class AddFloatingIp(Strict):
    add: Floating = field(name="addFloatingIp")


class RemoveFloatingIp(Strict):
    remove: OneAddress = field(name="removeFloatingIp")


class FixedIp(Strict):
    ip_address: Address


class Attachment(Strict):
    net_id: Uuid | None = None
    port_id: Uuid | None = None
    fixed_ips: Annotated[list[FixedIp], Meta(min_length=1, max_length=1)] | None = None
    tag: common.Tag | None = None


class AttachmentBody(Strict):
    attachment: Attachment = field(default_factory=Attachment, name="interfaceAttachment")


# --- addresses -------------------------------------------------------------------------------------------------


def _addresses(call: Call) -> dict[str, list[dict[str, Any]]]:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        found = bodies.addresses(network.ports_of(tx, [row.id]).get(row.id, ()))
    return {name: [{"addr": one["addr"], "version": one["version"]} for one in each] for name, each in found.items()}


def ips(call: Call) -> Reply:
    return Reply({"addresses": _addresses(call)})


def ips_of_network(call: Call) -> Reply:
    name, found = call.params["network"], _addresses(call)
    if name not in found:
        raise errors.NotFound(f"Network {name} is not one of the server's.")
    return Reply({name: found[name]})


def _change(call: Call, change: Any) -> Reply:
    """Change a server's addresses in one unit of work: its host and its shown addresses follow."""

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        actions.refuse_locked(row, call.who, "change addresses of")
        require(row, "change addresses of", None)
        change(tx, row)
        actions.change(tx, call.cloud, row)

    call.cloud.database.write(work)
    return Reply()


def add_fixed_ip(call: Call) -> Reply:
    network_id = str(call.body(AddFixedIp).add.network_id)
    return _change(call, lambda tx, row: network.add_fixed_ip(tx, call.cloud, row.id, network_id))


def remove_fixed_ip(call: Call) -> Reply:
    address = common.address(call.body(RemoveFixedIp).remove.address, "address")
    return _change(call, lambda tx, row: network.remove_fixed_ip(tx, call.cloud, row.id, address))


def add_floating_ip(call: Call) -> Reply:
    given = call.body(AddFloatingIp).add
    address = common.address(given.address, "address", 4)
    fixed = None if given.fixed_address is None else common.address(given.fixed_address, "fixed_address", 4)

    def change(tx: Tx, row: Any) -> None:
        try:
            network.associate_floating(
                tx, call.cloud, server_id=row.id, project_id=row.project_id, address=address, fixed=fixed
            )
        except errors.Conflict as used:
            raise errors.BadRequest(used.message) from used

    return _change(call, change)


def remove_floating_ip(call: Call) -> Reply:
    address = common.address(call.body(RemoveFloatingIp).remove.address, "address", 4)

    def change(tx: Tx, row: Any) -> None:
        network.disassociate_floating(tx, call.cloud, server_id=row.id, project_id=row.project_id, address=address)

    return _change(call, change)


# --- ports -----------------------------------------------------------------------------------------------------


def _port(call: Call, port: ServerPort) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "port_id": port.id,
        "net_id": port.network_id,
        "mac_addr": port.mac,
        "port_state": port.port_state,
        "fixed_ips": [{"subnet_id": each.subnet_id, "ip_address": each.address} for each in port.addresses],
    }
    if since(call, 70):
        shown["tag"] = port.tag
    return shown


def list_ports(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        found = network.ports_of(tx, [row.id]).get(row.id, [])
    return Reply({"interfaceAttachments": [_port(call, each) for each in found]})


def show_port(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        found = _find(tx, seen(call, tx), call.params["port"])
    return Reply({"interfaceAttachment": _port(call, found)})


def _find(tx: Tx, row: Any, port_id: str) -> ServerPort:
    for each in network.ports_of(tx, [row.id]).get(row.id, []):
        if each.id == port_id:
            return each
    raise errors.NotFound(f"Port {port_id} not found.")


def attach(call: Call) -> Reply:
    """One more card. Nova answers when the guest has it, and so does this, unless that takes very long."""
    given = call.body(AttachmentBody).attachment
    request = _request(call, given)

    def work(tx: Tx) -> tuple[str, str, str]:
        row = seen(call, tx)
        actions.refuse_locked(row, call.who, "attach_interface")
        require(row, "attach_interface", _WITH_PORTS)
        wanted = network.check(tx, call.cloud, call.who, [request] if request is not None else None)
        if len(wanted) != 1:
            raise errors.BadRequest("There is no network to attach: name one by net_id or port_id.")
        port_id = network.attach(
            tx,
            call.cloud,
            server_id=row.id,
            project_id=row.project_id,
            user_id=row.user_id,
            hostname=row.hostname,
            zone=row.zone or "",
            request=wanted[0],
            host_id=row.host_id,
        )
        try:
            steps.claim_networks(tx, row)
        except errors.Conflict as short:
            raise errors.BadRequest(
                f"Failed to allocate additional resources to complete interface attach operation: {short.message}"
            ) from short
        return row.id, port_id, actions.begin(tx, call.cloud, steps.ATTACH, row, call.who, call.request_id, {"port": port_id})

    server_id, port_id, operation_id = call.cloud.database.write(work)
    wait(call, operation_id, "Failed to attach network adapter device to")
    with call.cloud.database.read() as tx:
        port = steps.find(tx, server_id, port_id)
    if port is None:
        raise errors.NotFound(f"Port {port_id} is gone.")
    return Reply({"interfaceAttachment": _port(call, port)})


def _request(call: Call, given: Attachment) -> NetworkRequest | None:
    if given.tag is not None and not since(call, 49):
        raise errors.BadRequest("Invalid input: Additional properties are not allowed ('tag' was unexpected).")
    if given.net_id is not None and given.port_id is not None:
        raise errors.BadRequest("Must not input both network_id and port_id")
    fixed = common.address(given.fixed_ips[0].ip_address, "ip_address") if given.fixed_ips else None
    if fixed is not None and given.net_id is None:
        raise errors.BadRequest("Must input network_id when request IP address")
    if given.net_id is None and given.port_id is None:
        return None
    return NetworkRequest(network_id=given.net_id, port_id=given.port_id, fixed_ip=fixed, tag=given.tag)


def detach(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        row = seen(call, tx)
        actions.refuse_locked(row, call.who, "detach_interface")
        require(row, "detach_interface", _WITH_PORTS)
        _find(tx, row, call.params["port"])
        actions.begin(tx, call.cloud, steps.DETACH, row, call.who, call.request_id, {"port": call.params["port"]})

    call.cloud.database.write(work)
    return Reply()


_RULE, _PORTS, _OLD = "os_compute_api:", SERVER + "/os-interface", Version(2, 43)


def _action(name: str, handler: Any, rule: str) -> Route:
    return Route("POST", SERVER + "/action", handler, _RULE + rule, 202, target="later", action=name, until=_OLD)


ROUTES = (
    Route("GET", SERVER + "/ips", ips, f"{_RULE}ips:index", target="later"),
    Route("GET", SERVER + "/ips/{network}", ips_of_network, f"{_RULE}ips:show", target="later"),
    Route("GET", _PORTS, list_ports, f"{_RULE}os-attach-interfaces:list", target="later"),
    Route("POST", _PORTS, attach, f"{_RULE}os-attach-interfaces:create", target="later"),
    Route("GET", _PORTS + "/{port}", show_port, f"{_RULE}os-attach-interfaces:show", target="later"),
    Route("DELETE", _PORTS + "/{port}", detach, f"{_RULE}os-attach-interfaces:delete", 202, target="later"),
    _action("addFixedIp", add_fixed_ip, "os-multinic:add"),
    _action("removeFixedIp", remove_fixed_ip, "os-multinic:remove"),
    _action("addFloatingIp", add_floating_ip, "os-floating-ips:add"),
    _action("removeFloatingIp", remove_floating_ip, "os-floating-ips:remove"),
)
