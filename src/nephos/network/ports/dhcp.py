"""The DHCP port of a network: one, with an address in every subnet that has DHCP, the same on all hosts."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network.networks.store import network
from nephos.network.ports import actions
from nephos.network.ports.store import ACTIVE, DHCP, port
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted

_port = select(port).where(port.c.network_id == bindparam("network"), port.c.device_owner == DHCP)
_owner = select(network.c.project_id).where(network.c.id == bindparam("network"))


def ensure(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """Make, change or remove it so that it fits the network's subnets. Touching hosts is the caller's."""
    rows = addresses.subnets_of(tx, network_id)
    served = [row for row in rows if row.dhcp]
    present = tx.first(_port, {"network": network_id})
    if present is None:
        if served:
            new = actions.New(
                project_id=tx.scalar(_owner, {"network": network_id}) or "",
                network_id=network_id,
                device_id=f"dhcp-{network_id}",
                device_owner=DHCP,
                groups=(),
                port_security=False,
                fixed=[Wanted(subnet_id=row.id) for row in served],
                status=ACTIVE,
                counted=False,
            )
            actions.create(tx, cloud, new, served)
        return
    if not served:
        actions.remove(tx, cloud, present)
        return
    have = addresses.of_ports(tx, [present.id]).get(present.id, [])
    wanted = {row.id for row in served}
    addresses.give_back(tx, present.id, [one for one in have if one.subnet_id not in wanted])
    missing = [row for row in served if row.id not in {one.subnet_id for one in have}]
    if missing:
        addresses.take(
            tx,
            port_id=present.id,
            network_id=network_id,
            owner=DHCP,
            mac=present.mac,
            wanted=[Wanted(subnet_id=row.id) for row in missing],
            subnets=missing,
            place=len(have),
        )
