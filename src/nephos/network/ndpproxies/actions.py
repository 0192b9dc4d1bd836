"""What NDP proxies can do: lead packets for a guest's own IPv6 address from an external network to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, touch
from nephos.network.addressscopes import actions as addressscopes
from nephos.network.ndpproxies.store import ndp_proxy
from nephos.network.ports.store import ROUTER, port
from nephos.network.routers.store import router
from nephos.network.subnets import addresses
from nephos.network.subnets.store import address

_by_port = select(ndp_proxy).where(ndp_proxy.c.port_id == bindparam("port"))
_inner = (
    select(address.c.subnet_id)
    .join(port, port.c.id == address.c.port_id)
    .where(port.c.device_id == bindparam("router"), port.c.device_owner == ROUTER)
)


def create(tx: Tx, cloud: Cloud, leaf: Any, way: Any, wanted: str | None, values: dict[str, Any]) -> str:
    """For an IPv6 address of port `leaf` on router `way`: the first that the router reaches when none is wanted.

    Raises RouterNDPProxyNotEnable, PortUnreachableRouter, InvalidAddress, BadRequest, and AddressScopeConflict (409):
    nobody answers outside for addresses that are not unique there.
    """
    if not way.ndp_proxy:
        raise problems.refused(
            f"The enable_ndp_proxy parameter of router {way.id} must be set as True while create ndp proxy entry on it.",
            "RouterNDPProxyNotEnable",
        )
    own = [one for one in addresses.of_ports(tx, [leaf.id]).get(leaf.id, []) if ":" in one.address]
    if not own:
        raise problems.bad(
            f"Bad ndp_proxy request: Requested port {leaf.id} must allocate one IPv6 address at least.", "BadRequest"
        )
    inner = set(tx.column(_inner, {"router": way.id}))
    found = next((one for one in own if one.subnet_id in inner and wanted in (None, one.address)), None)
    if found is None:
        if wanted is None:
            raise problems.refused(
                f"The port {leaf.id} cannot reach the router {way.id} by IPv6 subnet.", "PortUnreachableRouter"
            )
        why = "cannot reach the router" if wanted in {one.address for one in own} else "does not belong to the port"
        raise problems.bad(f"The address {wanted} is invalid, reason: it {why}.", "InvalidAddress")
    outer, own_scope = (addressscopes.of_network(tx, each, 6) for each in (way.gateway_network_id, leaf.network_id))
    if outer != own_scope:
        raise problems.refused(
            f"The external network is of address scope {outer}, the port's of {own_scope}: they must be of the same.",
            "AddressScopeConflict",
        )
    holder = tx.first(
        select(ndp_proxy.c.id).where(ndp_proxy.c.router_id == way.id, ndp_proxy.c.address == found.address)
    )
    if holder is not None:
        raise problems.refused(
            f"Address {found.address} has NDP proxy {holder.id} on router {way.id} already.",
            "NeutronDbObjectDuplicateEntry",
        )
    key = clock.uuid4()
    tx.insert(
        ndp_proxy,
        {
            "id": key,
            **values,
            "router_id": way.id,
            "port_id": leaf.id,
            "address": str(ipaddress.ip_address(found.address)),
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    touch.router(tx, cloud, way.host_id, way.id)
    return key


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    tx.execute(delete(ndp_proxy).where(ndp_proxy.c.id == row.id))
    touch.router(tx, cloud, tx.scalar(select(router.c.host_id).where(router.c.id == row.router_id)), row.router_id)


def unhook(tx: Tx, cloud: Cloud, port_id: str, only: Collection[str] | None = None) -> None:
    """Proxies of a port, or of some addresses of it, go with them."""
    for row in tx.all(_by_port, {"port": port_id}):
        if only is None or row.address in only:
            remove(tx, cloud, row)
