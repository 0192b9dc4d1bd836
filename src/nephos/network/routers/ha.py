"""Highly available routers' network: one a project, with a leg for every host of each of its routers.

Nobody but administrators sees it. It is there as long as the project has such a router.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems
from nephos.network.networks import actions as networks
from nephos.network.ports import actions as ports
from nephos.network.ports import store as owners
from nephos.network.routers.store import ACTIVE, STANDBY, ha_network, router
from nephos.network.subnets import actions as subnets

RANGE = "169.254.192.0/18"
MOST = 255
_network = select(ha_network.c.network_id).where(ha_network.c.project_id == bindparam("project"))
_numbers = select(router.c.ha_number).where(router.c.project_id == bindparam("project"), router.c.ha.is_(True))


def number(tx: Tx, project_id: str) -> int:
    """A free VRRP number. Raises NoVRIDAvailable (409) when the project has 255 highly available routers."""
    taken = set(tx.column(_numbers, {"project": project_id}))
    for candidate in range(1, MOST + 1):
        if candidate not in taken:
            return candidate
    raise problems.refused(
        f"No more Virtual Router Identifier (VRID) available when creating router. The limit of number of HA Routers "
        f"per tenant is {MOST - 1}.",
        "NoVRIDAvailable",
    )


def leg(tx: Tx, cloud: Cloud, row: Any, host_id: str) -> str:
    """A leg of the router in the project's HA network on this host."""
    network_id = ensure(tx, cloud, row.project_id)
    new = ports.New(
        project_id="",
        network_id=network_id,
        name=f"HA port project {row.project_id}"[:255],
        device_id=row.id,
        device_owner=owners.HA,
        groups=(),
        port_security=False,
        host_id=host_id,
        status=owners.ACTIVE,
        counted=False,
    )
    return ports.create(tx, cloud, new)


def ensure(tx: Tx, cloud: Cloud, project_id: str) -> str:
    """The project's HA network, made when it is missing: it is there from the first router on, as Neutron's is."""
    found: str | None = tx.scalar(_network, {"project": project_id})
    return found or _make(tx, cloud, project_id)


def _make(tx: Tx, cloud: Cloud, project_id: str) -> str:
    wanted = networks.New(project_id="", name=f"HA network project {project_id}"[:255], port_security_enabled=False)
    network_id = networks.create(tx, cloud, wanted)
    subnet = subnets.New(
        project_id="",
        network_id=network_id,
        version=4,
        cidr=RANGE,
        name=f"HA subnet project {project_id}"[:255],
        gateway=None,
        dhcp=False,
    )
    subnets.create(tx, cloud, subnet)
    tx.insert(ha_network, {"project_id": project_id, "network_id": network_id})
    return network_id


def tidy(tx: Tx, cloud: Cloud, project_id: str) -> None:
    """Remove the project's HA network when no router needs it any more."""
    network_id = tx.scalar(_network, {"project": project_id})
    if network_id is None or tx.column(_numbers, {"project": project_id}):
        return
    tx.execute(delete(ha_network).where(ha_network.c.project_id == project_id))
    networks.delete_network(tx, cloud, networks.get(tx, network_id))


__all__ = ["ACTIVE", "STANDBY", "ensure", "leg", "number", "tidy"]
