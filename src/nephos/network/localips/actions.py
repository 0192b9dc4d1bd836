"""What local IPs can do: lead the guests of a host to a port of that host."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, exists, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, touch
from nephos.network.localips.store import association, local_ip
from nephos.network.ports.store import port
from nephos.network.subnets import addresses

_in_use = select(exists().where(association.c.local_ip_id == bindparam("key")))
_one = select(association).where(association.c.local_ip_id == bindparam("key"), association.c.id == bindparam("port"))
_of_ports = (
    select(association.c.id, association.c.fixed_address, local_ip.c.address, local_ip.c.ip_mode)
    .join(local_ip, local_ip.c.id == association.c.local_ip_id)
    .where(association.c.id.in_(bindparam("ports", expanding=True)))
    .order_by(association.c.id, local_ip.c.address, local_ip.c.id)
)
_here = (
    select(association.c.id)
    .join(local_ip, local_ip.c.id == association.c.local_ip_id)
    .join(port, port.c.id == association.c.id)
    .where(
        local_ip.c.address == bindparam("address"),
        port.c.network_id == bindparam("network"),
        port.c.host_id == bindparam("host"),
        port.c.admin_state_up.is_(True),
    )
    .order_by(association.c.id)
)
_led_to = (
    select(association.c.id, port.c.host_id)
    .join(local_ip, local_ip.c.id == association.c.local_ip_id)
    .join(port, port.c.id == association.c.id)
    .where(local_ip.c.local_port_id == bindparam("port"))
)


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A local IP to be made of an address that `local_port_id` has."""

    project_id: str
    name: str
    description: str
    local_port_id: str
    network_id: str
    address: str
    ip_mode: str


def address_of(tx: Tx, port_id: str, wanted: str | None) -> str:
    """The IPv4 address of a port that is meant: `wanted`, or its only one.

    Raises LocalIPNoIP, LocalIPRequestedIPNotFound and LocalIPNoRequestedIP (400).
    """
    have = [one.address for one in addresses.of_ports(tx, [port_id]).get(port_id, [])]
    four = [one for one in have if ipaddress.ip_address(one).version == 4]
    if not four:
        raise problems.bad(
            f"Invalid input for operation: Specified Port {port_id} has no fixed IPv4 address.", "LocalIPNoIP"
        )
    if wanted is not None and wanted not in four:
        raise problems.bad(
            f"Invalid input for operation: Specified Port {port_id} does not have requested IP address: {wanted}.",
            "LocalIPRequestedIPNotFound",
        )
    if wanted is None and len(four) > 1:
        raise problems.bad(
            f"Invalid input for operation: Specified Port {port_id} has several IPs, should specify exact IP address to "
            "use for Local IP.",
            "LocalIPNoRequestedIP",
        )
    return wanted or four[0]


def create(tx: Tx, new: New) -> str:
    key = clock.uuid4()
    values = {"id": key, **msgspec.structs.asdict(new), "revision": 1}
    tx.insert(local_ip, {**values, "created_at": tx.now, "updated_at": tx.now})
    return key


def remove(tx: Tx, row: Any) -> None:
    """Its port is the caller's to remove. Raises LocalIPInUse (409)."""
    if tx.scalar(_in_use, {"key": row.id}):
        raise problems.refused(f"Local IP {row.id} is still associated with one or more ports.", "LocalIPInUse")
    tx.execute(delete(local_ip).where(local_ip.c.id == row.id))


def associate(tx: Tx, cloud: Cloud, above: Any, leaf: Any, wanted: str | None) -> None:
    """Lead local IP `above` to port `leaf` on the port's host. Again with another address: 409.

    Raises what `address_of` raises.
    """
    fixed = address_of(tx, leaf.id, wanted)
    if tx.first(_one, {"key": above.id, "port": leaf.id}) is not None:
        raise problems.refused(
            f"Local IP {above.id} is associated with port {leaf.id} already.", "NeutronDbObjectDuplicateEntry"
        )
    tx.insert(association, {"local_ip_id": above.id, "id": leaf.id, "fixed_address": fixed})
    touch.ports(tx, cloud, leaf.host_id, [leaf.id])


def part(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Undo `associate`; `row` has the association's columns and the port's host."""
    tx.execute(
        delete(association).where(association.c.local_ip_id == row.local_ip_id, association.c.id == row.id)
    )
    touch.ports(tx, cloud, row.host_id, [row.id])


def unhook(tx: Tx, port_id: str, only: Collection[str]) -> None:
    """A port loses some addresses, and its host is told of that: associations with them go."""
    where = (association.c.id == port_id, association.c.fixed_address.in_(list(only)))
    tx.execute(delete(association).where(*where))


def surrender(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Port `row`, which has addresses of local IPs, goes with its server, and they go with it.

    Raises ServicePortInUse (409) when it is not compute's own port.
    """
    if not row.made_by_compute:
        raise problems.refused(
            f"Port {row.id} cannot be deleted directly via the port API: still referenced by Local IPs.",
            "ServicePortInUse",
        )
    told = touch.Told(tx, cloud)
    for each in tx.all(_led_to, {"port": row.id}):
        told.add(each.host_id, "port", [each.id])
    tx.execute(delete(local_ip).where(local_ip.c.local_port_id == row.id))
    told.send()


def of_ports(tx: Tx, port_ids: Iterable[str]) -> dict[str, Sequence[Any]]:
    """What leads to ports: rows of fixed_address, address and ip_mode by port."""
    found: dict[str, Any] = {}
    for row in tx.all(_of_ports, {"ports": list(port_ids)}):
        found.setdefault(row.id, []).append(row)
    return found


def led_to(tx: Tx, row: Any, text: str) -> str | None:
    """The port that an address leads to from port `row` on its host; None when it is no local IP there, or its own."""
    key = tx.scalar(_here, {"address": text, "network": row.network_id, "host": row.host_id})
    return None if key in (None, row.id) else str(key)
