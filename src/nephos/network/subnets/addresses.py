"""Taking addresses: which one, and that nobody else has it.

A free one is found from a cursor that goes round the pools, so that an address just given back is not given out at
once. The next few from there are looked up together, then some at random; only when all are taken are gaps searched.
Every taking moves the cursor of the subnet's row, so two that take from one subnet at once cannot both commit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, exists, select, update

from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems
from nephos.network.ports import store as ports
from nephos.network.subnets.store import address, subnet

_PROBES = 32
_WORD = 1 << 64
_HIGHEST = (1 << 63) - 1
AUTO = ("slaac", "dhcpv6-stateless")

_of_network = (
    select(subnet).where(subnet.c.network_id == bindparam("network")).order_by(subnet.c.created_at, subnet.c.id)
)
_move = update(subnet).where(subnet.c.id == bindparam("key")).values(next=bindparam("number"))
_taken = select(address.c.number).where(
    address.c.subnet_id == bindparam("subnet"), address.c.number.in_(bindparam("numbers", expanding=True))
)
_taken_from = select(address.c.number).where(
    address.c.subnet_id == bindparam("subnet"), address.c.number.between(bindparam("first"), bindparam("last"))
)
_holder = select(address.c.port_id).where(
    address.c.subnet_id == bindparam("subnet"), address.c.address == bindparam("address")
)
_after = address.alias("after")
_gap = (
    select(address.c.number)
    .where(
        address.c.subnet_id == bindparam("subnet"),
        address.c.number.between(bindparam("first"), bindparam("last")),
        ~exists().where(_after.c.subnet_id == address.c.subnet_id, _after.c.number == address.c.number + 1),
    )
    .order_by(address.c.number)
    .limit(1)
)
_give_back = delete(address).where(address.c.port_id == bindparam("port"))
_give_one_back = delete(address).where(
    address.c.subnet_id == bindparam("subnet"), address.c.address == bindparam("address")
)
_of_some = select(address.c.port_id, address.c.subnet_id, address.c.address)
_of_ports = _of_some.where(address.c.port_id.in_(bindparam("ports", expanding=True))).order_by(
    address.c.port_id, address.c.place
)
_of_port = _of_some.where(address.c.port_id == bindparam("port")).order_by(address.c.place)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A fixed IP as it is asked for."""

    subnet_id: str | None = None
    address: str | None = None


class Taken(msgspec.Struct, frozen=True):
    """A fixed IP of a port."""

    subnet_id: str
    address: str


def subnets_of(tx: Tx, network_id: str) -> Sequence[Any]:
    """The network's subnets, oldest first."""
    return tx.all(_of_network, {"network": network_id})


def of_ports(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[Taken]]:
    """Every port's addresses in their order."""
    found: dict[str, list[Taken]] = {}
    ids = list(port_ids)
    # a list of any length costs more to send than the question for one
    for row in tx.all(_of_port, {"port": ids[0]}) if len(ids) == 1 else tx.all(_of_ports, {"ports": ids}):
        found.setdefault(row.port_id, []).append(Taken(row.subnet_id, row.address))
    return found


def is_auto(row: Any) -> bool:
    """Whether guests give themselves their addresses in this subnet."""
    return row.address_mode in AUTO


def take(
    tx: Tx,
    *,
    port_id: str,
    network_id: str,
    owner: str,
    mac: str,
    wanted: Sequence[Wanted] | None,
    subnets: Sequence[Any] | None = None,
    place: int = 0,
    auto: bool = True,
) -> list[Taken]:
    """Take addresses for a port. `wanted` None: one of each IP version; `auto` adds those of self-addressing subnets.

    Raises IpAddressGenerationFailure (409) when nothing is free, IpAddressAlreadyAllocated (409), and BadRequest for
    what the network cannot give.
    """
    rows = subnets_of(tx, network_id) if subnets is None else subnets
    eligible = _for_service(rows, owner, network_id, fixed=wanted is not None)
    routing = owner in (ports.ROUTER, ports.GATEWAY)
    found: list[Taken] = []
    if wanted is None:
        for version in (4, 6):
            choices = [row for row in eligible if row.version == version and not is_auto(row)]
            if choices:
                found.append(_any_of(tx, port_id, choices, network_id, place + len(found)))
    else:
        for one in wanted:
            row = _subnet_for(one, rows, network_id)
            if one.address is not None:
                found.append(_this(tx, port_id, row, one.address, place + len(found), routing=routing, mac=mac))
            elif routing or not is_auto(row):
                found.append(_any_of(tx, port_id, [row], network_id, place + len(found)))
    if auto and not routing:
        have = {one.subnet_id for one in found}
        for row in eligible:
            if is_auto(row) and row.id not in have:
                text = addressing.eui64(ipaddress.ip_network(row.cidr), mac)
                found.append(_put(tx, port_id, row, text, place + len(found)))
    return found


def give_back(tx: Tx, port_id: str, only: Iterable[Taken] | None = None) -> None:
    """Free a port's addresses, or some of them."""
    if only is None:
        tx.execute(_give_back, {"port": port_id})
        return
    for one in only:
        tx.execute(_give_one_back, {"subnet": one.subnet_id, "address": one.address})


def _for_service(rows: Sequence[Any], owner: str, network_id: str, *, fixed: bool) -> list[Any]:
    """Subnets that a device of this owner may use (subnet service types)."""
    if owner in (ports.ROUTER, ports.DHCP):
        return list(rows)
    typed = [row for row in rows if row.service_types]
    if not typed:
        return list(rows)
    matching = [row for row in typed if any(owner.startswith(each) for each in row.service_types)] if owner else []
    found = matching or [row for row in rows if not row.service_types]
    if rows and not found and not fixed:
        raise problems.refused(
            f"No more IP addresses available on network {network_id}: none of its subnets serves "
            f"{owner or 'this port'}.",
            "IpAddressGenerationFailureNoMatchingSubnet",
        )
    return found


def _subnet_for(one: Wanted, rows: Sequence[Any], network_id: str) -> Any:
    by_id: Mapping[str, Any] = {row.id: row for row in rows}
    if one.subnet_id is not None:
        row = by_id.get(one.subnet_id)
        if row is None:
            raise problems.bad(
                f"Invalid input for operation: Failed to create port on network {network_id}, because fixed_ips "
                f"included invalid subnet {one.subnet_id}."
            )
        if one.address is not None and ipaddress.ip_address(one.address) not in ipaddress.ip_network(row.cidr):
            raise problems.bad(
                f"IP address {one.address} is not a valid IP for the specified subnet.", "InvalidIpForSubnet"
            )
        return row
    if one.address is None:
        raise problems.bad("Invalid input for operation: IP allocation requires subnet_id or ip_address.")
    wanted = ipaddress.ip_address(one.address)
    for row in rows:
        if wanted in ipaddress.ip_network(row.cidr):
            return row
    raise problems.bad(
        f"IP address {one.address} is not a valid IP for any of the subnets on the specified network.",
        "InvalidIpForNetwork",
    )


def _this(tx: Tx, port_id: str, row: Any, wanted: str, place: int, *, routing: bool, mac: str) -> Taken:
    range_ = ipaddress.ip_network(row.cidr)
    text = str(ipaddress.ip_address(wanted))
    if is_auto(row) and not routing and text != addressing.eui64(range_, mac):
        raise problems.bad(
            f"IPv6 address {text} can not be directly assigned to a port on subnet {row.id} as the subnet is "
            "configured "
            "for automatic addresses",
            "AllocationOnAutoAddressSubnet",
        )
    ends = (str(range_.network_address), str(range_.broadcast_address))
    if range_.num_addresses > 2 and (text == ends[0] or (row.version == 4 and text == ends[1])):
        raise problems.bad(f"IP address {text} is not a valid IP for the specified subnet.", "InvalidIpForSubnet")
    holder = tx.scalar(_holder, {"subnet": row.id, "address": text})
    if holder is not None:
        raise problems.refused(
            f"IP address {text} already allocated in subnet {row.id}: port {holder} has it.",
            "IpAddressAlreadyAllocated",
        )
    return _put(tx, port_id, row, text, place)


def _put(tx: Tx, port_id: str, row: Any, text: str, place: int) -> Taken:
    number = int(ipaddress.ip_address(text)) - int(ipaddress.ip_network(row.cidr).network_address)
    tx.insert(
        address,
        {
            "subnet_id": row.id,
            "address": text,
            "number": _signed(number) if number < _WORD else None,
            "port_id": port_id,
            "place": place,
        },
    )
    return Taken(row.id, text)


def _any_of(tx: Tx, port_id: str, rows: Sequence[Any], network_id: str, place: int) -> Taken:
    for row in rows:
        base = int(ipaddress.ip_network(row.cidr).network_address)
        number = free(tx, row, base)
        if number is not None:
            tx.execute(_move, {"key": row.id, "number": min(number + 1, _HIGHEST)})
            return _put(tx, port_id, row, str(_as_address(row.version, base + number % _WORD)), place)
    raise problems.refused(f"No more IP addresses available on network {network_id}.", "IpAddressGenerationFailure")


def _as_address(version: int, number: int) -> addressing.IPAddress:
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)


def free(tx: Tx, row: Any, base: int) -> int | None:
    """The number of a free address of the subnet's pools, None when there is none; at most a few queries. `row` was read
    in the same work: its cursor is behind only by what the port itself took since, which the first look passes over."""
    pools = numbers(row, base)
    total = sum(last - first + 1 for first, last in pools)
    if not total:
        return None
    start = next((max(row.next, first) for first, last in pools if row.next <= last), pools[0][0])
    if total <= 2 * _PROBES:
        probes = [number for first, last in pools for number in range(first, last + 1)]
        probes.sort(key=lambda number: (number < start, number))
        return _first_free(tx, row.id, probes)
    last = min(start + 7, next(high for low, high in pools if low <= start <= high))
    taken = set(tx.column(_taken_from, {"subnet": row.id, "first": start, "last": last}))
    found = next((number for number in range(start, last + 1) if number not in taken), None)
    if found is not None:
        return found
    found = _first_free(tx, row.id, [_nth(pools, clock.pick(total)) for _ in range(_PROBES)])
    if found is not None:
        return found
    rotated = [(max(start, first), last) for first, last in pools if last >= start] + pools
    for first, last in rotated:
        gap = _first_gap(tx, row.id, first, last)
        if gap is not None:
            return gap
    return None


def _first_free(tx: Tx, subnet_id: str, probes: Sequence[int]) -> int | None:
    taken = set(tx.column(_taken, {"subnet": subnet_id, "numbers": list(probes)}))
    return next((number for number in probes if number not in taken), None)


def _first_gap(tx: Tx, subnet_id: str, first: int, last: int) -> int | None:
    if not tx.column(_taken, {"subnet": subnet_id, "numbers": [first]}):
        return first
    end: int | None = tx.scalar(_gap, {"subnet": subnet_id, "first": first, "last": last - 1})
    return None if end is None else end + 1


def numbers(row: Any, base: int) -> list[tuple[int, int]]:
    """The pools as numbers, in order, as far as numbers are kept: in the first /64 of the range.

    A number is the distance from the range's start; as a column holds 64 bits with a sign, that of the upper half of a
    /64 is less by 2^64. A pool across the middle is two.
    """
    found = []
    for first, last in sorted(
        (int(ipaddress.ip_address(each[0])), int(ipaddress.ip_address(each[1]))) for each in row.pools
    ):
        low, high = first - base, min(last - base, _WORD - 1)
        if low <= _HIGHEST:
            found.append((low, min(high, _HIGHEST)))
        if low < _WORD and high > _HIGHEST:
            found.append((_signed(max(low, _HIGHEST + 1)), _signed(high)))
    return found


def _signed(number: int) -> int:
    return number if number <= _HIGHEST else number - _WORD


def _nth(pools: Sequence[tuple[int, int]], position: int) -> int:
    for first, last in pools:
        if position <= last - first:
            return first + position
        position -= last - first + 1
    raise AssertionError("a position beyond the pools")
