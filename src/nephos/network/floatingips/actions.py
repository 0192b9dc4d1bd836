"""What floating IPs can do."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select

from nephos.errors import Conflict, NotFound
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.floatingips.store import floatingip
from nephos.network.forwardings import actions as forwardings
from nephos.network.forwardings.store import forwarding
from nephos.network.networks import actions as networks
from nephos.network.ports import actions as ports
from nephos.network.ports.store import ACTIVE, DOWN, FLOATING, GATEWAY, ROUTER, port
from nephos.network.quotas import actions as quotas
from nephos.network.routers.store import router
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted
from nephos.network.subnets.store import address, subnet

_by_id = select(floatingip).where(floatingip.c.id == bindparam("id"))
_outer = port.alias("outer")
_routes_to = (
    select(router.c.id, router.c.host_id, address.c.address, subnet.c.gateway)
    .join(port, port.c.device_id == router.c.id)
    .join(address, address.c.port_id == port.c.id)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .where(
        port.c.device_owner == ROUTER,
        address.c.subnet_id == bindparam("subnet"),
        select(_outer.c.id)
        .where(
            _outer.c.device_id == router.c.id,
            _outer.c.device_owner == GATEWAY,
            _outer.c.network_id == bindparam("external"),
        )
        .exists(),
    )
    .order_by(router.c.created_at)
)


_pools = (
    select(subnet)
    .where(subnet.c.network_id.in_(bindparam("networks", expanding=True)), subnet.c.version == 4)
    .order_by(subnet.c.created_at, subnet.c.id)
)


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A floating IP to be made; `admin` may lead it to a port of another project."""

    project_id: str
    network_id: str
    subnet_id: str | None = None
    address: str | None = None
    port_id: str | None = None
    fixed_address: str | None = None
    admin: bool = False
    description: str = ""
    dns_name: str = ""
    dns_domain: str = ""
    qos_policy_id: str | None = None


def get(tx: Tx, floating_id: str) -> Any:
    """Raises FloatingIPNotFound."""
    row = tx.first(_by_id, {"id": floating_id})
    if row is None:
        raise problems.missing("Floating IP", floating_id, "FloatingIPNotFound")
    return row


def create(tx: Tx, cloud: Cloud, new: New) -> str:
    """Raises OverQuota, BadRequest for a network that is not external, and what taking an address raises."""
    quotas.take(tx, cloud, new.project_id, "floatingip")
    external = networks.get(tx, new.network_id)
    if not external.external:
        raise problems.bad(
            f"Bad floatingip request: Network {external.id} is not a valid external network.", "BadRequest"
        )
    if new.fixed_address is not None and new.port_id is None:
        raise problems.bad(
            "Bad floatingip request: fixed_ip_address cannot be specified without a port_id.", "BadRequest"
        )
    floating_id = clock.uuid4()
    port_id = _own_port(tx, cloud, new, external.id, floating_id)
    mine = [one for one in addresses.of_ports(tx, [port_id]).get(port_id, []) if ":" not in one.address]
    if not mine:
        raise problems.bad(
            f"Unable to find any IP address on external network {external.id}.", "ExternalIpAddressExhausted"
        )
    tx.insert(
        floatingip,
        {
            "id": floating_id,
            "project_id": new.project_id,
            "description": new.description,
            "network_id": external.id,
            "subnet_id": mine[0].subnet_id,
            "port_id": port_id,
            "address": mine[0].address,
            "status": DOWN,
            "dns_name": new.dns_name,
            "dns_domain": new.dns_domain,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if new.port_id is not None:
        associate(tx, cloud, get(tx, floating_id), new.port_id, new.fixed_address, admin=new.admin)
    return floating_id


def _own_port(tx: Tx, cloud: Cloud, new: New, network_id: str, floating_id: str) -> str:
    four = [row for row in addresses.subnets_of(tx, network_id) if row.version == 4]
    if not four:
        raise problems.bad(
            f"Bad floatingip request: Network {network_id} does not contain any IPv4 subnet.", "BadRequest"
        )
    fixed: list[Wanted] | None = None
    if new.address is not None or new.subnet_id is not None:
        fixed = [Wanted(subnet_id=new.subnet_id, address=new.address)]
    wanted = ports.New(
        project_id="",
        network_id=network_id,
        device_id=floating_id,
        device_owner=FLOATING,
        groups=(),
        port_security=False,
        fixed=fixed,
        status="N/A",
        counted=False,
        qos_policy_id=new.qos_policy_id,
    )
    try:
        return ports.create(tx, cloud, wanted, four)
    except Conflict as taken:
        if taken.code in ("IpAddressGenerationFailure", "IpAddressGenerationFailureNoMatchingSubnet"):
            raise problems.refused(
                f"No more IP addresses available on network {network_id}.", "IpAddressGenerationFailure"
            ) from taken
        raise


def associate(tx: Tx, cloud: Cloud, row: Any, port_id: str, fixed: str | None, *, admin: bool = False) -> None:
    """Lead the floating IP to a port's address, of another project only by an administrator.

    Raises BadRequest, FloatingIPPortAlreadyAssociated (409), ExternalGatewayForFloatingIPNotFound (404).
    """
    found = _leads_to(tx, row, port_id, fixed, admin=admin)
    way = _way(tx, row.network_id, found.subnet_id)
    if way is None:
        raise NotFound(
            f"External network {row.network_id} is not reachable from subnet {found.subnet_id}. Therefore, cannot "
            f"associate Port {port_id} with a Floating IP.",
            code="ExternalGatewayForFloatingIPNotFound",
        )
    if row.router_id is not None and row.router_id != way.id:
        _tell(tx, cloud, row.router_id)
    if row.fixed_port_id is not None:
        touch.edges(tx, cloud, row.fixed_port_id)
    resource.revise(
        tx,
        floatingip,
        row.id,
        {
            "fixed_port_id": port_id,
            "fixed_address": found.address,
            "router_id": way.id,
            "status": ACTIVE if way.host_id else DOWN,
        },
    )
    touch.router(tx, cloud, way.host_id, way.id)
    touch.edges(tx, cloud, port_id)
    touch.guests(tx, cloud, {row.fixed_port_id, port_id} - {None})


def _leads_to(tx: Tx, row: Any, port_id: str, fixed: str | None, *, admin: bool) -> addresses.Taken:
    """The address of the port, when the floating IP may lead there; what else `associate` raises."""
    leaf = ports.get(tx, port_id)
    if leaf.device_owner.startswith("network:"):
        raise problems.bad(
            f"Bad floatingip request: Port {port_id} is unable to be assigned a floating IP: it is a "
            f"{leaf.device_owner}.",
            "BadRequest",
        )
    if leaf.project_id != row.project_id and not admin:
        raise problems.bad(
            f"Bad floatingip request: Port {port_id} is associated with a different tenant than Floating IP "
            f"{row.id} and "
            "therefore cannot be bound.",
            "BadRequest",
        )
    if forwardings.of_floating(tx, [row.id]):
        raise problems.refused(f"Floating IP {row.id} in use by Port Forwarding resources.", "FipInUseByPortForwarding")
    if forwardings.of_port(tx, port_id):
        raise problems.bad(
            f"Cannot associate floating IP to port {port_id} because it already has a Port Forwarding binding.",
            "PortHasPortForwarding",
        )
    found = _fixed_address(tx, leaf, fixed, "floatingip")
    other = tx.first(
        select(floatingip.c.id, floatingip.c.address).where(
            floatingip.c.fixed_port_id == port_id,
            floatingip.c.fixed_address == found.address,
            floatingip.c.id != row.id,
        )
    )
    if other is not None:
        raise problems.refused(
            f"Cannot associate floating IP {row.address} ({row.id}) with port {port_id} using fixed IP "
            f"{found.address}, as "
            f"that fixed IP already has a floating IP on external network {row.network_id}: {other.address}.",
            "FloatingIPPortAlreadyAssociated",
        )
    return found


def _way(tx: Tx, network_id: str, subnet_id: str) -> Any | None:
    """The router between an external network and a subnet: the one that is the subnet's gateway, if there are several."""
    ways = tx.all(_routes_to, {"subnet": subnet_id, "external": network_id})
    return next((each for each in ways if each.address == each.gateway), ways[0] if ways else None)


def way_to(tx: Tx, leaf: Any, wanted: str | None, network_id: str, what: str) -> tuple[str, str]:
    """(address of the port, router) for what leads from an external network to a port. Raises BadRequest."""
    found = _fixed_address(tx, leaf, wanted, what)
    way = _way(tx, network_id, found.subnet_id)
    if way is None:
        raise problems.bad(
            f"Bad {what} request: External network {network_id} is not reachable from subnet {found.subnet_id}. Cannot "
            f"lead to port {leaf.id}.",
            "BadRequest",
        )
    return found.address, way.id


def _fixed_address(tx: Tx, leaf: Any, wanted: str | None, what: str) -> addresses.Taken:
    four = [one for one in addresses.of_ports(tx, [leaf.id]).get(leaf.id, []) if ":" not in one.address]
    words = f"Bad {what} request: "
    if wanted is not None:
        text = str(ipaddress.ip_address(wanted))
        found = next((one for one in four if one.address == text), None)
        if found is None:
            raise problems.bad(f"{words}Port {leaf.id} does not have fixed ip {text}.", "BadRequest")
        return found
    if not four:
        raise problems.bad(
            f"{words}Cannot add floating IP to port {leaf.id} that has no fixed IPv4 addresses.", "BadRequest"
        )
    if len(four) > 1 and what == "floatingip":
        raise problems.bad(
            f"{words}Port {leaf.id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when "
            "assigning "
            "a floating IP.",
            "BadRequest",
        )
    return four[0]


def disassociate(tx: Tx, cloud: Cloud, row: Any) -> None:
    """It leads nowhere from now on."""
    if row.fixed_port_id is not None:
        touch.edges(tx, cloud, row.fixed_port_id)
    values = {"fixed_port_id": None, "fixed_address": None, "router_id": None, "status": DOWN}
    resource.revise(tx, floatingip, row.id, values)
    if row.router_id is not None:
        _tell(tx, cloud, row.router_id)
    touch.guests(tx, cloud, [row.fixed_port_id])


def limit(tx: Tx, cloud: Cloud, row: Any, policy_id: str | None) -> None:
    """Give it a QoS policy, which its own port holds, or none."""
    ports.change(tx, cloud, ports.get(tx, row.port_id), {"qos_policy_id": policy_id})
    resource.revise(tx, floatingip, row.id)
    if row.router_id is not None:
        _tell(tx, cloud, row.router_id)


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """With its own port and address. Raises FipInUseByPortForwarding (409) naming a port forwarding that it has."""
    user = tx.scalar(select(forwarding.c.id).where(forwarding.c.floatingip_id == row.id).limit(1))
    if user is not None:
        raise problems.refused(
            f"Floating IP {row.id} in use by Port Forwarding resources: {user}.", "FipInUseByPortForwarding"
        )
    if row.fixed_port_id is not None:
        touch.edges(tx, cloud, row.fixed_port_id)
    tx.execute(delete(floatingip).where(floatingip.c.id == row.id))
    if row.fixed_port_id is not None:
        touch.guests(tx, cloud, [row.fixed_port_id])
    ports.remove(tx, cloud, ports.get(tx, row.port_id))
    if row.router_id is not None:
        _tell(tx, cloud, row.router_id)


def pools(tx: Tx, network_ids: Sequence[str]) -> Sequence[Any]:
    """The IPv4 subnets of these networks, from which floating IPs are taken."""
    return tx.all(_pools, {"networks": list(network_ids)})


def remove_idle(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """Remove a network's floating IPs that lead nowhere."""
    idle = select(floatingip).where(floatingip.c.network_id == network_id, floatingip.c.router_id.is_(None))
    for row in tx.all(idle):
        remove(tx, cloud, row)


def _tell(tx: Tx, cloud: Cloud, router_id: str) -> None:
    touch.router(tx, cloud, tx.scalar(select(router.c.host_id).where(router.c.id == router_id)), router_id)
