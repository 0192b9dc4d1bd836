"""What segments can do: be reserved for a network, added to it and removed, and tell which of them a host carries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, bindparam, delete, exists, select, union_all

from nephos.hosts import store as hosts
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.networks.store import network
from nephos.network.segment_ranges import actions as ranges
from nephos.network.segments import types
from nephos.network.segments.store import segment
from nephos.network.segments.types import Segment
from nephos.network.subnets.store import subnet

_keys_in: BindParameter[Any] = bindparam("keys", expanding=True)
_taken = union_all(
    select(segment.c.segment_key).where(segment.c.segment_key.in_(_keys_in)),
    # Networks that a server of the previous release made have their segment in their own row alone.
    select(network.c.segment_key).where(network.c.segment_key.in_(_keys_in)),
)
_of_networks = (
    select(segment)
    .where(segment.c.network_id.in_(bindparam("networks", expanding=True)))
    .order_by(segment.c.network_id, segment.c.position, segment.c.id)
)
_physical = select(hosts.host.c.physical).where(hosts.host.c.id == bindparam("host"))
_routed = select(subnet.c.id, subnet.c.segment_id).where(
    subnet.c.network_id == bindparam("network"), subnet.c.segment_id.is_not(None)
)


class Reserved(msgspec.Struct, frozen=True):
    """A segment that nobody else has."""

    kind: str
    physical: str | None
    number: int | None
    key: str | None


# --- of networks -----------------------------------------------------------------------------------------------------


def reserve(tx: Tx, cloud: Cloud, wanted: Segment, project_id: str) -> Reserved:
    """What is wanted, with what was left open chosen. Raises BadRequest; 409 FlatNetworkInUse, VlanIdInUse,
    TunnelIdInUse, NoNetworkAvailable."""
    kind, physical, number = types.check(wanted), wanted.physical or None, wanted.number
    if kind.ranged and physical is not None and physical not in _known(tx, kind.name):
        raise problems.bad(
            f"Invalid input for operation: physical_network '{physical}' unknown for {kind.name.upper()} provider "
            "network: no range and no host has it."
        )
    if kind.ranged and number is None:
        physical, number = ranges.take(tx, kind.name, physical, project_id, lambda keys: taken(tx, keys))
        return Reserved(kind.name, physical, number, types.key(kind.name, physical, number))
    key = types.key(kind.name, physical, number)
    if key is not None and taken(tx, [key]):
        raise _in_use(kind.name, physical, number)
    return Reserved(kind.name, physical, number, key)


def taken(tx: Tx, keys: Sequence[str]) -> Collection[str]:
    """Of these segment keys, those that a network has."""
    return set(tx.column(_taken, {"keys": list(keys)}))


def is_free(tx: Tx, wanted: Segment) -> bool:
    """Whether some host has this physical network and no other network this segment of it."""
    key = types.key(str(wanted.kind), wanted.physical, wanted.number)
    return wanted.physical in _mapped(tx) and key is not None and not taken(tx, [key])


def _mapped(tx: Tx) -> set[str]:
    return {name for row in tx.all(select(hosts.host.c.physical)) for name in row.physical or ()}


def _known(tx: Tx, kind: str) -> set[str]:
    return ranges.physical_networks(tx, kind) | _mapped(tx)


def _in_use(kind: str, physical: str | None, number: int | None) -> Exception:
    if kind == types.FLAT:
        return problems.refused(
            f"Unable to create the flat network. Physical network {physical} is in use.", "FlatNetworkInUse"
        )
    if kind == types.VLAN:
        return problems.refused(
            f"Unable to create the network. The VLAN {number} on physical network {physical} is in use.", "VlanIdInUse"
        )
    return problems.refused(f"Unable to create the network. The tunnel ID {number} is in use.", "TunnelIdInUse")


def add(
    tx: Tx, network_id: str, new: Reserved, position: int, name: str | None = None, description: str | None = None
) -> str:
    """Write a reserved segment; answers its id."""
    segment_id = clock.uuid4()
    values = {
        "id": segment_id,
        "network_id": network_id,
        "name": name,
        "description": description,
        "kind": new.kind,
        "physical": new.physical,
        "number": new.number,
        "segment_key": new.key,
        "position": position,
        "revision": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    tx.insert(segment, values)
    return segment_id


def of_networks(tx: Tx, network_ids: Iterable[str]) -> dict[str, list[Any]]:
    """Every network's segments, in their order."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(_of_networks, {"networks": list(network_ids)}):
        found.setdefault(row.network_id, []).append(row)
    return found


def remove_all(tx: Tx, network_id: str) -> None:
    tx.execute(delete(segment).where(segment.c.network_id == network_id))


def renumber(tx: Tx, cloud: Cloud, row: Any, number: int) -> None:
    """Give a VLAN network another VLAN; its hosts follow. Raises BadRequest, VlanIdInUse."""
    found = of_networks(tx, [row.id]).get(row.id, [])
    if row.kind != types.VLAN or len(found) != 1:
        raise problems.bad("Invalid input for operation: Only VLAN type networks can be updated.")
    new = reserve(tx, cloud, Segment(kind=row.kind, physical=row.physical, number=number), row.project_id)
    resource.revise(tx, segment, found[0].id, {"number": new.number, "segment_key": new.key})
    resource.revise(tx, network, row.id, {"segment": new.number, "segment_key": new.key})
    touch.networks(tx, cloud, [row.id])


def adopt(cloud: Cloud) -> None:
    """Networks of the previous release get their segment as a row of its own. Again: nothing."""
    alone = select(network).where(~exists().where(segment.c.network_id == network.c.id))
    with cloud.database.read() as tx:
        if tx.first(alone.limit(1)) is None:
            return

    def work(tx: Tx) -> None:
        for row in tx.all(alone):
            add(tx, row.id, Reserved(row.kind, row.physical, row.segment, row.segment_key), 0)

    cloud.database.write(work)


# --- of the API ------------------------------------------------------------------------------------------------------


def create(tx: Tx, cloud: Cloud, row: Any, wanted: Segment, name: str | None, description: str | None) -> str:
    """One more segment of a network (its row). Raises as `reserve`."""
    new = reserve(tx, cloud, wanted, row.project_id)
    present = of_networks(tx, [row.id]).get(row.id, [])
    segment_id = add(tx, row.id, new, max((each.position for each in present), default=-1) + 1, name, description)
    resource.revise(tx, network, row.id, {"multi": bool(present)})
    touch.networks(tx, cloud, [row.id])
    return segment_id


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Raises SegmentInUse (409) for one that subnets belong to, and for a network's only one."""
    users = tx.column(select(subnet.c.id).where(subnet.c.segment_id == row.id))
    if users:
        reason = f"The segment is still associated with subnet(s) {', '.join(sorted(users))}"
        raise problems.refused(f"Segment '{row.id}' cannot be deleted: {reason}.", "SegmentInUse")
    left = [each for each in of_networks(tx, [row.network_id])[row.network_id] if each.id != row.id]
    if not left:
        raise problems.refused(
            f"Segment '{row.id}' cannot be deleted: it is the only one of network {row.network_id}.", "SegmentInUse"
        )
    touch.networks(tx, cloud, [row.network_id])
    tx.execute(delete(segment).where(segment.c.id == row.id))
    first = left[0]
    values = {"kind": first.kind, "physical": first.physical, "segment": first.number, "segment_key": first.segment_key}
    resource.revise(tx, network, row.network_id, {**values, "multi": len(left) > 1})


# --- of hosts and subnets --------------------------------------------------------------------------------------------


def carried(rows: Sequence[Any], physical: Collection[str] | None) -> Any:
    """The segment of a network that a host with these physical networks carries: the first that it can, else the
    first."""
    able = (row for row in rows if row.physical is None or row.physical in (physical or ()))
    return next(able, rows[0])


def check_subnet(tx: Tx, network_id: str, segment_id: str | None, others: Sequence[Any]) -> None:
    """Whether a subnet may belong to this segment beside its network's `others`. Raises SegmentNotFound,
    NetworkIdsDontMatch, SubnetsNotAllAssociatedWithSegments."""
    if segment_id is not None:
        row = tx.first(select(segment.c.network_id).where(segment.c.id == segment_id))
        if row is None:
            raise problems.missing("Segment", segment_id)
        if row.network_id != network_id:
            raise problems.bad(
                f"The subnet's network id, '{network_id}', doesn't match the network_id of segment '{segment_id}'",
                "NetworkIdsDontMatch",
            )
    if any((each.segment_id is None) != (segment_id is None) for each in others):
        raise problems.bad(
            f"All of the subnets on network '{network_id}' must either all be associated with segments or all not "
            "associated with any segment.",
            "SubnetsNotAllAssociatedWithSegments",
        )


def routed(tx: Tx, network_id: str) -> Mapping[str, str]:
    """Subnet → segment of a routed network; empty for any other."""
    return dict(tx.all(_routed, {"network": network_id}))  # type: ignore[arg-type]


def of_host(tx: Tx, network_id: str, host_id: str) -> str:
    """The segment of a routed network that a host carries. Raises HostNotConnectedToAnySegment (409)."""
    physical = tx.scalar(_physical, {"host": host_id}) or ()
    rows = of_networks(tx, [network_id]).get(network_id, [])
    for row in rows:
        if row.physical is None or row.physical in physical:
            return str(row.id)
    raise problems.refused(
        f"Host {host_id} is not connected to any segments on routed provider network '{network_id}'. It should be "
        "connected to one.",
        "HostNotConnectedToAnySegment",
    )
