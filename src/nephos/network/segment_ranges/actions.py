"""Ranges of segment ids: those of the settings and those that administrators add, and which id is free."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, select

from nephos.errors import SettingsError
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource
from nephos.network.networks.store import network
from nephos.network.segment_ranges.store import segment_range
from nephos.network.segments import types
from nephos.network.segments.store import segment
from nephos.settings import NetworkRanges

MOST_LISTED = 10_000
"""How many free ids of a range are told, the lowest first: one may hold sixteen million."""
_TRIES = 16
_CHUNK = 500


Taken = Callable[[Sequence[str]], Collection[str]]
"""Of these segment keys, those that are taken."""


class Range(msgspec.Struct, frozen=True, order=True):
    """Ids `minimum` to `maximum`, both included, of a type, on a physical network for VLAN."""

    kind: str
    physical: str | None
    minimum: int
    maximum: int


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A range to be made; `project_id` None is for all projects."""

    range: Range
    name: str = ""
    description: str = ""
    project_id: str | None = None


# --- the settings' own -----------------------------------------------------------------------------------------------


def of_settings(settings: NetworkRanges) -> list[Range]:
    """Raises SettingsError naming the key that is wrong."""
    found = [
        _read("vxlan", types.VXLAN, None, f"{settings.vni_min}:{settings.vni_max}"),
        _read("gre", types.GRE, None, settings.gre),
        _read("geneve", types.GENEVE, None, settings.geneve),
    ]
    found += [_read(f"vlan.{name}", types.VLAN, name, text) for name, text in settings.vlan.items()]
    return found


def _read(key: str, kind: str, physical: str | None, text: str) -> Range:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= types.TYPES[kind].most):
        raise SettingsError(f"network.{key}: {text!r} is no range FIRST:LAST within 1:{types.TYPES[kind].most}")
    return Range(kind, physical, int(first), int(last))


def load(cloud: Cloud) -> None:
    """Make the default ranges those of the settings. Again: nothing."""
    wanted = of_settings(cloud.settings.network)
    if cloud.settings.network.tenant_type not in types.TYPES:
        raise SettingsError(f"network.tenant_type: {cloud.settings.network.tenant_type!r} is no network type")
    with cloud.database.read() as tx:
        if sorted(range_of(row) for row in _defaults(tx)) == sorted(wanted):
            return

    def work(tx: Tx) -> None:
        left = list(wanted)
        for row in _defaults(tx):
            if range_of(row) in left:
                left.remove(range_of(row))
            else:
                tx.execute(delete(segment_range).where(segment_range.c.id == row.id))
        for each in left:
            _insert(tx, New(range=each), default=True)

    cloud.database.write(work)


def _defaults(tx: Tx) -> Sequence[Any]:
    return tx.all(select(segment_range).where(segment_range.c.is_default.is_(True)))


def range_of(row: Any) -> Range:
    return Range(row.kind, row.physical, row.minimum, row.maximum)


# --- the administrators' ---------------------------------------------------------------------------------------------


def create(tx: Tx, new: New) -> str:
    """Raises BadRequest, and NetworkSegmentRangeOverlaps naming the ranges in the way."""
    _check(new.range)
    _check_apart(tx, new.range, None)
    return _insert(tx, new, default=False)


def update(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    """Set name, description, minimum and maximum. Raises NetworkSegmentRangeReferencedByProject when an id in use would
    fall out, and as `create`."""
    _check_own(row)
    if {"minimum", "maximum"} & values.keys():
        wanted = Range(row.kind, row.physical, values.get("minimum", row.minimum), values.get("maximum", row.maximum))
        _check(wanted)
        _check_apart(tx, wanted, row.id)
        if any(not wanted.minimum <= number <= wanted.maximum for number in used(tx, range_of(row))):
            raise _referenced(row)
    resource.revise(tx, segment_range, row.id, values)


def remove(tx: Tx, row: Any) -> None:
    """Raises NetworkSegmentRangeReferencedByProject while an id of it is used."""
    _check_own(row)
    if used(tx, range_of(row)):
        raise _referenced(row)
    tx.execute(delete(segment_range).where(segment_range.c.id == row.id))


def _insert(tx: Tx, new: New, *, default: bool) -> str:
    range_id = clock.uuid4()
    values = {
        "id": range_id,
        "name": new.name,
        "description": new.description,
        "is_default": default,
        "shared": new.project_id is None,
        "project_id": new.project_id,
        "kind": new.range.kind,
        "physical": new.range.physical,
        "minimum": new.range.minimum,
        "maximum": new.range.maximum,
        "revision": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    tx.insert(segment_range, values)
    return range_id


def _check(wanted: Range) -> None:
    kind = types.TYPES.get(wanted.kind)
    if kind is None or not kind.ranged:
        raise problems.bad(
            f"Network type {wanted.kind} does not support network segment ranges.",
            "NetworkSegmentRangeNetTypeNotSupported",
        )
    if kind.physical and not wanted.physical:
        raise problems.bad(
            f"Bad network_segment_range request: Network type {kind.name} requires 'physical_network' to be specified "
            "while creating new range.",
            "BadRequest",
        )
    if not 1 <= wanted.minimum <= wanted.maximum <= kind.most:
        raise problems.bad(
            f"Invalid network {kind.name} range: '{wanted.minimum}:{wanted.maximum}', it must be within 1:{kind.most}.",
            "NetworkVlanRangeError" if kind.physical else "NetworkTunnelRangeError",
        )


def _check_apart(tx: Tx, wanted: Range, range_id: str | None) -> None:
    column = segment_range.c
    rows = tx.all(
        select(segment_range).where(
            column.is_default.is_(False),
            column.kind == wanted.kind,
            column.minimum <= wanted.maximum,
            column.maximum >= wanted.minimum,
        )
    )
    others = [row.id for row in rows if row.id != range_id and row.physical == wanted.physical]
    if others:
        raise problems.refused(
            f"Network segment range overlaps with range(s) with id {', '.join(sorted(others))}",
            "NetworkSegmentRangeOverlaps",
        )


def _check_own(row: Any) -> None:
    if row.is_default:
        raise problems.bad(
            f"Network Segment Range {row.id} is a default segment range which could not be updated or deleted.",
            "NetworkSegmentRangeDefaultReadOnly",
        )


def _referenced(row: Any) -> Exception:
    return problems.refused(
        f"Network Segment Range {row.id} is referenced by one or more project networks.",
        "NetworkSegmentRangeReferencedByProject",
    )


def used(tx: Tx, wanted: Range) -> dict[int, str]:
    """The ids of a range that are used: id → project of the network."""
    column = segment.c
    rows = tx.all(
        select(column.number, column.physical, network.c.project_id)
        .join(network, network.c.id == column.network_id)
        .where(column.kind == wanted.kind, column.number.between(wanted.minimum, wanted.maximum))
        .order_by(column.number)
    )
    return {row.number: row.project_id for row in rows if row.physical == wanted.physical}


def available(wanted: Range, taken: Iterable[int]) -> list[int]:
    """The lowest free ids of a range, at most MOST_LISTED."""
    gone, found = set(taken), []
    for number in range(wanted.minimum, wanted.maximum + 1):
        if number not in gone:
            found.append(number)
            if len(found) == MOST_LISTED:
                break
    return found


# --- giving out ------------------------------------------------------------------------------------------------------


def physical_networks(tx: Tx, kind: str) -> set[str]:
    """The physical networks that there are ranges of this type on."""
    return set(tx.column(select(segment_range.c.physical).where(segment_range.c.kind == kind))) - {None}


def take(tx: Tx, kind: str, physical: str | None, project_id: str, taken: Taken) -> tuple[str | None, int]:
    """(physical network, id) that is free: of the project's own ranges first, then of those for all, without what is
    another project's alone. `taken(keys)` tells which keys are taken.

    Raises NoNetworkAvailable (409) naming the ranges that are used up.
    """
    rows = [
        row
        for row in tx.all(select(segment_range).where(segment_range.c.kind == kind))
        if physical is None or row.physical == physical
    ]
    own = [row for row in rows if not row.shared and row.project_id == project_id]
    shared = [row for row in rows if row.shared]
    foreign = [range_of(row) for row in rows if not row.shared and row.project_id != project_id]
    own.sort(key=range_of)
    shared.sort(key=lambda row: (not row.is_default, range_of(row)))
    for row in (*own, *shared):
        apart = [each for each in foreign if each.physical == row.physical] if row.shared else []
        number = _free(range_of(row), list(_without(range_of(row), apart)), taken)
        if number is not None:
            return row.physical, number
    where = f" on physical network {physical}" if physical else ""
    names = ", ".join(
        f"{row.name or ('default' if row.is_default else row.id)} {_words(row)}" for row in (*own, *shared)
    )
    detail = f"used up: {names}." if names else f"there is no {kind} range{where} for project {project_id}."
    raise problems.refused(
        f"Unable to create the network. No tenant network is available for allocation: {detail}", "NoNetworkAvailable"
    )


def _words(row: Any) -> str:
    return f"({row.kind} {f'{row.physical}:' if row.physical else ''}{row.minimum}:{row.maximum})"


def _without(wanted: Range, apart: Sequence[Range]) -> Iterator[tuple[int, int]]:
    """The parts (first, last) of a range that lie in none of the others."""
    start = wanted.minimum
    for each in sorted(apart, key=lambda one: one.minimum):
        if each.minimum > start:
            yield start, min(each.minimum - 1, wanted.maximum)
        start = max(start, each.maximum + 1)
        if start > wanted.maximum:
            return
    yield start, wanted.maximum


def _free(wanted: Range, parts: Sequence[tuple[int, int]], taken: Taken) -> int | None:
    """A few at random, then all in order."""
    parts = [part for part in parts if part[0] <= part[1]]
    total = sum(last - first + 1 for first, last in parts)
    if not total:
        return None
    if total > _TRIES:
        found = _first(wanted, [_nth(parts, clock.pick(total)) for _ in range(_TRIES)], taken)
        if found is not None:
            return found
    for first, last in parts:
        for start in range(first, last + 1, _CHUNK):
            if (found := _first(wanted, range(start, min(start + _CHUNK, last + 1)), taken)) is not None:
                return found
    return None


def _first(wanted: Range, numbers: Iterable[int], taken: Taken) -> int | None:
    by_key = {str(types.key(wanted.kind, wanted.physical, number)): number for number in numbers}
    gone = taken(list(by_key))
    return next((number for key, number in by_key.items() if key not in gone), None)


def _nth(parts: Sequence[tuple[int, int]], position: int) -> int:
    for first, last in parts:
        if position <= last - first:
            return first + position
        position -= last - first + 1
    raise AssertionError("a position beyond the parts")
