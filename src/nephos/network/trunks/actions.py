"""What trunks can do. A subport lives where its parent lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.networks.store import network
from nephos.network.ports import actions as ports
from nephos.network.ports.store import ACTIVE, port
from nephos.network.quotas import actions as quotas
from nephos.network.trunks.store import SUBPORT, subport, trunk

VLAN, INHERIT = "vlan", "inherit"
HIGHEST = 4094
_subports = (
    select(subport, port.c.mac)
    .join(port, port.c.id == subport.c.port_id)
    .where(subport.c.trunk_id.in_(bindparam("trunks", expanding=True)))
    .order_by(subport.c.number)
)
_of_parents = select(trunk.c.id, trunk.c.port_id).where(trunk.c.port_id.in_(bindparam("ports", expanding=True)))
_carried = select(network.c.mtu, network.c.kind, network.c.segment).where(network.c.id == bindparam("network"))


class Sub(msgspec.Struct, frozen=True, kw_only=True):
    """A port to be put behind a tag; `number` None with kind inherit: the VLAN id of its network."""

    port_id: str
    kind: str
    number: int | None


def create(
    tx: Tx, cloud: Cloud, *, project_id: str, parent: Any, name: str, description: str, admin_state_up: bool
) -> str:
    """A trunk without subports. Raises OverQuota, TrunkPortInUse and PortInUseAsSubPort (409)."""
    quotas.take(tx, cloud, project_id, "trunk")
    _check_free(tx, parent.id, "TrunkPortInUse")
    trunk_id = clock.uuid4()
    tx.insert(
        trunk,
        {
            "id": trunk_id,
            "project_id": project_id,
            "name": name,
            "description": description,
            "admin_state_up": admin_state_up,
            "port_id": parent.id,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return trunk_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    resource.revise(tx, trunk, row.id, values)
    if values.get("admin_state_up", row.admin_state_up) != row.admin_state_up:
        parent = ports.get(tx, row.port_id)
        touch.ports(tx, cloud, parent.host_id, [each.port_id for each in subports_of(tx, [row.id]).get(row.id, ())])


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Its subports are ordinary ports again. Raises TrunkDisabled, TrunkInUse (409) while a guest has the parent."""
    check_enabled(row)
    if ports.get(tx, row.port_id).host_id is not None:
        raise problems.refused(
            f"Trunk {row.id} is currently in use: its port {row.port_id} is on a host.", "TrunkInUse"
        )
    have = [each.port_id for each in subports_of(tx, [row.id]).get(row.id, ())]
    for port_id in have:
        _free(tx, cloud, port_id)
    tx.execute(delete(trunk).where(trunk.c.id == row.id))


def add(tx: Tx, cloud: Cloud, row: Any, subs: Sequence[Sub]) -> None:
    """Raises TrunkDisabled, DuplicateSubPort, PortInUseAsTrunkParent, PortInUseAsSubPort, PortInUse and
    SubPortMtuGreaterThanTrunkPortMtu (409), and BadRequest for a VLAN id that is none."""
    check_enabled(row)
    parent = ports.get(tx, row.port_id)
    room: Any = tx.first(_carried, {"network": parent.network_id})
    taken = {each.number for each in subports_of(tx, [row.id]).get(row.id, ())}
    for sub in subs:
        child = ports.get(tx, sub.port_id)
        if child.id == parent.id:
            raise problems.refused(
                f"Port {child.id} is currently a parent port for trunk {row.id}.", "PortInUseAsTrunkParent"
            )
        _check_free(tx, child.id, "PortInUseAsTrunkParent")
        if child.device_id or child.host_id is not None:
            raise problems.refused(
                f"Unable to complete operation on port {child.id}: it has an attached device "
                f"{child.device_id or child.host_id}.",
                "PortInUse",
            )
        carried: Any = tx.first(_carried, {"network": child.network_id})
        number = _number(sub, carried)
        if number in taken:
            raise problems.refused(
                f"segmentation_type {sub.kind} and segmentation_id {number} already in use on trunk {row.id}.",
                "DuplicateSubPort",
            )
        if carried.mtu > room.mtu:
            raise problems.refused(
                f"MTU {carried.mtu} of subport {child.id} cannot be greater than MTU {room.mtu} of trunk {row.id}.",
                "SubPortMtuGreaterThanTrunkPortMtu",
            )
        taken.add(number)
        tx.insert(subport, {"port_id": child.id, "trunk_id": row.id, "kind": VLAN, "number": number})
        resource.revise(tx, port, child.id, {"device_owner": SUBPORT})
        if parent.host_id is not None:
            ports.bind(tx, cloud, ports.get(tx, child.id), parent.host_id)
            if parent.status == ACTIVE:
                ports.activate(tx, [child.id])
    resource.revise(tx, trunk, row.id)


def drop(tx: Tx, cloud: Cloud, row: Any, port_ids: Iterable[str]) -> None:
    """Ports leave the trunk. Raises TrunkDisabled (409), SubPortNotFound."""
    check_enabled(row)
    have = {each.port_id for each in subports_of(tx, [row.id]).get(row.id, ())}
    for port_id in port_ids:
        if port_id not in have:
            raise problems.missing(
                f"SubPort of trunk {row.id} with parent port {row.port_id}:", port_id, "SubPortNotFound"
            )
        have.discard(port_id)
        _free(tx, cloud, port_id)
    resource.revise(tx, trunk, row.id)


def subports_of(tx: Tx, trunk_ids: Iterable[str]) -> dict[str, list[Any]]:
    """Every trunk's subports (port_id, kind, number, mac), by VLAN id."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(_subports, {"trunks": list(trunk_ids)}):
        found.setdefault(row.trunk_id, []).append(row)
    return found


def of_parents(tx: Tx, port_ids: Iterable[str]) -> dict[str, tuple[str, list[Any]]]:
    """parent port → its trunk and the subports."""
    rows = tx.all(_of_parents, {"ports": list(port_ids)})
    subs = subports_of(tx, [row.id for row in rows]) if rows else {}
    return {row.port_id: (row.id, subs.get(row.id, [])) for row in rows}


def check_enabled(row: Any) -> None:
    """Raises TrunkDisabled (409)."""
    if not row.admin_state_up:
        raise problems.refused(f"Trunk {row.id} is currently disabled.", "TrunkDisabled")


def _number(sub: Sub, carried: Any) -> int:
    number = sub.number
    if sub.kind == INHERIT:
        if carried.kind != VLAN or carried.segment is None:
            raise problems.bad(
                f"Invalid input for operation: Invalid segmentation_type inherit for subport {sub.port_id}: its "
                f"network is of type {carried.kind}, not {VLAN}."
            )
        number = int(carried.segment)
    elif sub.kind != VLAN:
        raise problems.bad(
            f"Invalid input for operation: segmentation_type '{sub.kind}' is not in ['inherit', 'vlan']."
        )
    if number is None or not 1 <= number <= HIGHEST:
        raise problems.bad(
            f"Invalid input for operation: segmentation_id '{number}' is no VLAN id from 1 to {HIGHEST}."
        )
    return number


def _check_free(tx: Tx, port_id: str, words: str) -> None:
    """Raises what `words` says for a parent of a trunk, PortInUseAsSubPort for a subport."""
    user = tx.scalar(select(trunk.c.id).where(trunk.c.port_id == port_id))
    if user is not None:
        raise problems.refused(f"Port {port_id} is currently a parent port for trunk {user}.", words)
    user = tx.scalar(select(subport.c.trunk_id).where(subport.c.port_id == port_id))
    if user is not None:
        raise problems.refused(f"Port {port_id} is currently a subport for trunk {user}.", "PortInUseAsSubPort")


def _free(tx: Tx, cloud: Cloud, port_id: str) -> None:
    ports.unbind(tx, cloud, ports.get(tx, port_id))
    tx.execute(delete(subport).where(subport.c.port_id == port_id))
    resource.revise(tx, port, port_id, {"device_owner": ""})
