"""What compute asks of the network service: a server's ports, from the request to their removal.

Everything takes `tx` first and is part of compute's own unit of work, so a server and its ports come and go together.
Errors are Nova's where Nova words them (`check`), else Neutron's (NetworkNotFound, IpAddressAlreadyAllocated, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, select, update

from nephos import errors
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import notifications, problems, resource
from nephos.network.discovery import topology
from nephos.network.floatingips import actions as floatingips
from nephos.network.floatingips.store import floatingip
from nephos.network.groups import actions as groups
from nephos.network.groups.store import group
from nephos.network.guest_requests import NetworkRequest, check, port_in_use, resolve_groups
from nephos.network.networks import actions as networks
from nephos.network.networks.store import network
from nephos.network.ports import actions as ports
from nephos.network.ports.store import ACTIVE, COMPUTE, port, port_group
from nephos.network.ports.wire import NOUN
from nephos.network.qos import needs as qos_needs
from nephos.network.qos.needs import Need
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted
from nephos.network.subnets.store import address, subnet
from nephos.network.trunks.store import subport, trunk

__all__ = [
    "GroupRef",
    "NetworkRequest",
    "PortAddress",
    "PortFloating",
    "ServerPort",
    "activate",
    "add_fixed_ip",
    "add_security_group",
    "allocate",
    "associate_floating",
    "attach",
    "bind",
    "check",
    "detach",
    "disassociate_floating",
    "needs",
    "needs_of_server",
    "ports_of",
    "release",
    "remove_fixed_ip",
    "remove_security_group",
    "security_groups_of",
    "unbind",
]

_shown = (
    select(
        port.c.id,
        port.c.device_id,
        port.c.network_id,
        port.c.mac,
        port.c.status,
        port.c.nic_tag,
        port.c.nic_order,
        port.c.host_id,
        network.c.name.label("network_name"),
        network.c.mtu,
    )
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.device_id.in_(bindparam("servers", expanding=True)), port.c.device_owner.startswith(COMPUTE))
    .order_by(port.c.nic_order, port.c.created_at, port.c.id)
)
_addressed = (
    select(
        address.c.port_id,
        address.c.address,
        address.c.subnet_id,
        subnet.c.version,
        floatingip.c.id.label("floating_id"),
        floatingip.c.address.label("floating_address"),
    )
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .outerjoin(
        floatingip,
        and_(floatingip.c.fixed_port_id == address.c.port_id, floatingip.c.fixed_address == address.c.address),
    )
    .where(address.c.port_id.in_(bindparam("ports", expanding=True)))
    .order_by(address.c.place, address.c.address)
)
_named = (
    select(port_group.c.port_id, group.c.id, group.c.name)
    .join(group, group.c.id == port_group.c.group_id)
    .where(port_group.c.port_id.in_(bindparam("ports", expanding=True)))
    .order_by(group.c.name, group.c.id)
)
_of_servers = (
    select(port.c.device_id, group.c.id, group.c.name)
    .join(port_group, port_group.c.port_id == port.c.id)
    .join(group, group.c.id == port_group.c.group_id)
    .where(port.c.device_id.in_(bindparam("servers", expanding=True)), port.c.device_owner.startswith(COMPUTE))
    .distinct()
    .order_by(group.c.name, group.c.id)
)
_own = (
    select(port)
    .where(port.c.device_id == bindparam("server"), port.c.device_owner.startswith(COMPUTE))
    .order_by(port.c.nic_order, port.c.created_at, port.c.id)
)
_run = (
    update(port)
    .where(
        port.c.device_id == bindparam("server"),
        port.c.device_owner.startswith(COMPUTE),
        port.c.host_id.is_not(None),
        port.c.status != ACTIVE,
    )
    .values(status=ACTIVE, updated_at=bindparam("now"), revision=port.c.revision + 1)
)
_behind = (
    select(subport.c.port_id)
    .join(trunk, trunk.c.id == subport.c.trunk_id)
    .join(port, port.c.id == trunk.c.port_id)
    .where(port.c.device_id == bindparam("server"))
)


class PortAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A fixed address; `version` is 4 or 6."""

    address: str
    version: int
    subnet_id: str


class PortFloating(msgspec.Struct, frozen=True, kw_only=True):
    """A floating IP of a port, and the fixed address that it leads to."""

    id: str
    address: str
    fixed_address: str


class ServerPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a server as compute shows it and as its NIC is made. `port_state` is ACTIVE or DOWN."""

    id: str
    network_id: str
    network_name: str
    mac: str
    addresses: tuple[PortAddress, ...] = ()
    floating: tuple[PortFloating, ...] = ()
    mtu: int = 1500
    port_state: str = "DOWN"
    security_groups: tuple[str, ...] = ()
    tag: str | None = None
    order: int = 0
    host_id: str | None = None


class GroupRef(msgspec.Struct, frozen=True, kw_only=True):
    """A security group's id and name."""

    id: str
    name: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What a port needs to know of the server that it is for."""

    id: str
    project_id: str
    hostname: str
    zone: str
    host_id: str | None


# --- making and removing ---------------------------------------------------------------------------------------------


def needs(tx: Tx, requests: Sequence[NetworkRequest]) -> list[Need]:
    """What the minimum rules of a server's ports ask of its host: of ports that are there, and of such as will be made."""
    port_ids = [each.port_id for each in requests if each.port_id is not None]
    network_ids = [each.network_id for each in requests if each.network_id is not None and each.port_id is None]
    return qos_needs.of_ports(tx, port_ids, network_ids)


def needs_of_server(tx: Tx, server_id: str) -> list[Need]:
    """What the ports that a server has ask of its host."""
    return qos_needs.of_ports(tx, [row.id for row in tx.all(_own, {"server": server_id})])


def allocate(
    tx: Tx,
    cloud: Cloud,
    *,
    server_id: str,
    project_id: str,
    user_id: str,
    hostname: str,
    zone: str,
    requests: Sequence[NetworkRequest],
    security_groups: Sequence[str] = (),
    host_id: str | None,
) -> list[str]:
    """Make and bind ports in the order of the requests; answers their ids. Again for the same server: what it has.

    `host_id` None leaves them unbound (`bind` does it later). Raises as creating a port does.
    """
    present = tx.all(_own, {"server": server_id})
    if present or not requests:
        return [row.id for row in present]
    server = Server(id=server_id, project_id=project_id, hostname=hostname, zone=zone, host_id=host_id)
    wanted = resolve_groups(tx, project_id, security_groups)
    if "default" in security_groups or not wanted:
        wanted = [groups.ensure_default(tx, cloud, project_id), *wanted]
    ids = [_place(tx, cloud, server, request, wanted, order) for order, request in enumerate(requests)]
    _tell(tx, cloud, ids, requests)
    return ids


def _tell(tx: Tx, cloud: Cloud, ids: Sequence[str], requests: Sequence[NetworkRequest]) -> None:
    """Ports that were made are told of as created, those that the user had made as updated."""
    adopted = {each.port_id for each in requests}
    items = _shown_to_listeners(tx, cloud, ids)
    notifications.ports_created(tx, [item for item in items if item["id"] not in adopted])
    notifications.ports_updated(tx, [item for item in items if item["id"] in adopted])


def _shown_to_listeners(tx: Tx, cloud: Cloud, ids: Sequence[str]) -> list[resource.Item]:
    """Nothing where nobody listens."""
    return resource.reply(tx, NOUN, resource.SystemView(cloud), ids) if tx.outbox is not None else []


def _place(tx: Tx, cloud: Cloud, server: Server, request: NetworkRequest, wanted: Sequence[str], order: int) -> str:
    if request.port_id is not None:
        return _adopt(tx, cloud, server, request, order)
    network_id = request.network_id or topology.ensure(tx, cloud, server.project_id)
    row = networks.get(tx, network_id)
    new = ports.New(
        project_id=server.project_id,
        network_id=row.id,
        fixed=[Wanted(address=request.fixed_ip)] if request.fixed_ip is not None else None,
        device_id=server.id,
        device_owner=COMPUTE + server.zone,
        groups=wanted if row.port_security_enabled else (),
        port_security=row.port_security_enabled,
        dns_name=server.hostname,
        host_id=server.host_id,
        made_by_compute=True,
        nic_tag=request.tag,
        nic_order=order,
    )
    return ports.create(tx, cloud, new)


def _adopt(tx: Tx, cloud: Cloud, server: Server, request: NetworkRequest, order: int) -> str:
    """A port that the user made becomes the server's. Raises Conflict when somebody else was quicker."""
    row = ports.get(tx, str(request.port_id))
    if row.device_id and row.device_id != server.id:
        raise port_in_use(row.id)
    values = {
        "device_id": server.id,
        "device_owner": COMPUTE + server.zone,
        "dns_name": row.dns_name or server.hostname,
        "nic_tag": request.tag,
        "nic_order": order,
    }
    ports.change(tx, cloud, row, values)
    if server.host_id is not None:
        ports.bind(tx, cloud, ports.get(tx, row.id), server.host_id)
    return str(row.id)


def bind(tx: Tx, cloud: Cloud, server_id: str, host_id: str, *, zone: str | None = None) -> None:
    """The server's ports live on this host now, which may be of another availability zone: indexes are given, hosts are
    told. Again: nothing."""
    for row in tx.all(_own, {"server": server_id}):
        if zone is not None and row.device_owner != COMPUTE + zone:
            ports.change(tx, cloud, row, {"device_owner": COMPUTE + zone})
        ports.bind(tx, cloud, ports.get(tx, row.id), host_id)


def unbind(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """The server's ports live on no host now; addresses are kept."""
    for row in tx.all(_own, {"server": server_id}):
        ports.unbind(tx, cloud, row)


def activate(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """The guest runs on its host: its bound ports are ACTIVE, and those behind their tags."""
    tx.execute(_run, {"server": server_id, "now": tx.now})
    ports.activate(tx, tx.column(_behind, {"server": server_id}))


def release(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """Delete the ports that compute made for the server, unbind and hand back those that the user made."""
    for row in tx.all(_own, {"server": server_id}):
        _let_go(tx, cloud, row)


def _let_go(tx: Tx, cloud: Cloud, row: Any) -> None:
    if row.made_by_compute:
        was = _shown_to_listeners(tx, cloud, [row.id])
        ports.remove(tx, cloud, row)
        notifications.ports_deleted(tx, was)
        return
    ports.unhook_floating(tx, cloud, row.id)
    ports.unbind(tx, cloud, row)
    values = {"device_id": "", "device_owner": "", "dns_name": "", "nic_tag": None, "nic_order": 0}
    ports.change(tx, cloud, ports.get(tx, row.id), values)
    notifications.ports_updated(tx, _shown_to_listeners(tx, cloud, [row.id]))


def attach(
    tx: Tx,
    cloud: Cloud,
    *,
    server_id: str,
    project_id: str,
    user_id: str,
    hostname: str,
    zone: str,
    request: NetworkRequest,
    host_id: str | None,
) -> str:
    """One more port for a server that is there already, after `check`; answers its id."""
    server = Server(id=server_id, project_id=project_id, hostname=hostname, zone=zone, host_id=host_id)
    order = max((row.nic_order for row in tx.all(_own, {"server": server_id})), default=-1) + 1
    port_id = _place(tx, cloud, server, request, [groups.ensure_default(tx, cloud, project_id)], order)
    _tell(tx, cloud, [port_id], [request])
    return port_id


def detach(tx: Tx, cloud: Cloud, server_id: str, port_id: str) -> None:
    """As `release`, for one port. Raises NotFound when the server does not have it."""
    for row in tx.all(_own, {"server": server_id}):
        if row.id == port_id:
            _let_go(tx, cloud, row)
            return
    raise problems.missing("Port", port_id)


# --- addresses -------------------------------------------------------------------------------------------------------


def add_fixed_ip(tx: Tx, cloud: Cloud, server_id: str, network_id: str) -> str:
    """One more address, of this network, for the server's port there (the addFixedIp action); answers it."""
    row = next((each for each in tx.all(_own, {"server": server_id}) if each.network_id == network_id), None)
    if row is None:
        raise errors.BadRequest(f"Network {network_id} could not be found for instance {server_id}.")
    have = _addresses(tx, row.id)
    choices = [each for each in addresses.subnets_of(tx, network_id) if not addresses.is_auto(each)]
    if not choices:
        raise errors.BadRequest(f"Network {network_id} has no subnet that gives addresses.")
    wanted = [*(Wanted(subnet_id=one.subnet_id, address=one.address) for one in have), Wanted(subnet_id=choices[0].id)]
    ports.change(tx, cloud, row, {}, fixed=wanted)
    return (({one.address for one in _addresses(tx, row.id)}) - {one.address for one in have}).pop()


def remove_fixed_ip(tx: Tx, cloud: Cloud, server_id: str, address: str) -> None:
    """Take an address from the server's port (removeFixedIp). Raises BadRequest when the server does not have it."""
    for row in tx.all(_own, {"server": server_id}):
        have = _addresses(tx, row.id)
        if any(one.address == address for one in have):
            kept = [Wanted(subnet_id=one.subnet_id, address=one.address) for one in have if one.address != address]
            ports.change(tx, cloud, row, {}, fixed=kept)
            return
    raise errors.BadRequest(f"Fixed IP {address} could not be found for instance {server_id}.")


def _addresses(tx: Tx, port_id: str) -> list[addresses.Taken]:
    return addresses.of_ports(tx, [port_id]).get(port_id, [])


def associate_floating(
    tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, address: str, fixed: str | None
) -> None:
    """Lead a floating IP of the project to the server (addFloatingIp). Raises NotFound, BadRequest, Conflict."""
    row = _floating(tx, project_id, address)
    for each in ports_of(tx, [server_id]).get(server_id, []):
        for one in each.addresses:
            if one.version == 4 and fixed in (None, one.address):
                floatingips.associate(tx, cloud, row, each.id, one.address)
                return
    wanted = f"fixed address {fixed}" if fixed else "fixed IPv4 address"
    raise errors.BadRequest(f"Instance {server_id} has no {wanted} to associate floating IP {address} with.")


def disassociate_floating(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, address: str) -> None:
    """Undo `associate_floating`. Raises NotFound, Conflict when it leads elsewhere."""
    row = _floating(tx, project_id, address)
    if row.fixed_port_id not in {each.id for each in tx.all(_own, {"server": server_id})}:
        raise errors.Conflict(f"Floating IP {address} is not associated with instance {server_id}.")
    floatingips.disassociate(tx, cloud, row)


def _floating(tx: Tx, project_id: str, text: str) -> Any:
    row = tx.first(select(floatingip).where(floatingip.c.address == text, floatingip.c.project_id == project_id))
    if row is None:
        raise problems.missing("Floating IP", text, "FloatingIPNotFound")
    return row


# --- looking ---------------------------------------------------------------------------------------------------------


def ports_of(tx: Tx, server_ids: Sequence[str]) -> dict[str, list[ServerPort]]:
    """Every server's ports in the order of the request; at most three queries for all of them."""
    rows = tx.all(_shown, {"servers": list(server_ids)})
    if not rows:
        return {}
    ids = {"ports": [row.id for row in rows]}
    fixed: dict[str, list[Any]] = {}
    for each in tx.all(_addressed, ids):
        fixed.setdefault(each.port_id, []).append(each)
    names: dict[str, list[str]] = {}
    for each in tx.all(_named, ids):
        names.setdefault(each.port_id, []).append(each.name)
    found: dict[str, list[ServerPort]] = {}
    for row in rows:
        mine = fixed.get(row.id, ())
        one = ServerPort(
            id=row.id,
            network_id=row.network_id,
            network_name=row.network_name,
            mac=row.mac,
            addresses=tuple(
                PortAddress(address=each.address, version=each.version, subnet_id=each.subnet_id) for each in mine
            ),
            floating=tuple(
                PortFloating(id=each.floating_id, address=each.floating_address, fixed_address=each.address)
                for each in mine
                if each.floating_id is not None
            ),
            mtu=row.mtu,
            port_state=row.status,
            security_groups=tuple(names.get(row.id, ())),
            tag=row.nic_tag,
            order=row.nic_order,
            host_id=row.host_id,
        )
        found.setdefault(row.device_id, []).append(one)
    return found


def security_groups_of(tx: Tx, server_ids: Sequence[str]) -> dict[str, list[GroupRef]]:
    """Every server's security groups, each once, by name."""
    found: dict[str, list[GroupRef]] = {}
    for row in tx.all(_of_servers, {"servers": list(server_ids)}):
        found.setdefault(row.device_id, []).append(GroupRef(id=row.id, name=row.name))
    return found


# --- security groups -------------------------------------------------------------------------------------------------


def add_security_group(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, group: str) -> None:
    """Put a group (name or id) on the server's ports. Raises NotFound, Conflict when a name is ambiguous."""
    group_id = _group(tx, cloud, project_id, group)
    for row, have in _own_groups(tx, server_id):
        if group_id not in have and row.port_security_enabled:
            ports.change(tx, cloud, row, {}, wanted=[*have, group_id])


def remove_security_group(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, group: str) -> None:
    """Take a group from the server's ports. Raises NotFound, also when no port has it."""
    group_id = _group(tx, cloud, project_id, group)
    having = [(row, have) for row, have in _own_groups(tx, server_id) if group_id in have]
    if not having:
        raise errors.NotFound(
            f"Security group {group} not associated with the instance {server_id}.", code="SecurityGroupNotFound"
        )
    for row, have in having:
        ports.change(tx, cloud, row, {}, wanted=[each for each in have if each != group_id])


def _own_groups(tx: Tx, server_id: str) -> list[tuple[Any, list[str]]]:
    rows = tx.all(_own, {"server": server_id})
    have = ports.groups_of(tx, [row.id for row in rows]) if rows else {}
    return [(row, have.get(row.id, [])) for row in rows]


def _group(tx: Tx, cloud: Cloud, project_id: str, name: str) -> str:
    if name == groups.DEFAULT:
        return groups.ensure_default(tx, cloud, project_id)
    try:
        return resolve_groups(tx, project_id, [name])[0]
    except errors.BadRequest as unknown:
        raise errors.NotFound(unknown.message, code="SecurityGroupNotFound") from unknown
