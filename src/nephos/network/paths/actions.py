"""What hosts say of the tunnels to their peers (S0-32, S1-20 … S1-22): kept, shown to operators, and reckoned with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, or_, select, update

from nephos.hosts import actions as hosts
from nephos.hosts.store import host
from nephos.hosts.wire import Seen
from nephos.kernel.cloud import Cloud, Finding
from nephos.kernel.db.engine import Tx
from nephos.network import touch
from nephos.network.paths.store import path

VXLAN_OVERHEAD = 50
_UP = re.compile(r"up (\d{1,5})/(\d{1,5})\Z")
GRE_OVERHEAD = 42
_narrowest = select(func.min(path.c.mtu)).where(path.c.up.is_(True), path.c.mtu < path.c.wanted)
_narrow_rounds = (
    select(path.c.detour_mtu, host.c.tunnel_fallback)
    .join(host, host.c.id == path.c.host_id)
    .where(path.c.up.is_(False), path.c.detour_up.is_(True), path.c.detour_mtu < path.c.wanted)
)
_one = select(path.c.up).where(path.c.host_id == bindparam("host"), path.c.peer == bindparam("peer"))
_detours = select(host.c.tunnel_address).where(
    host.c.tunnel_fallback == bindparam("fallback"),
    host.c.id != bindparam("host"),
    select(path.c.up)
    .where(
        path.c.up.is_(False),
        or_(
            and_(path.c.host_id == bindparam("host"), path.c.peer == host.c.tunnel_address),
            and_(path.c.host_id == host.c.id, path.c.peer == bindparam("own")),
        ),
    )
    .exists(),
)


def note(tx: Tx, cloud: Cloud, seen: Seen) -> None:
    """A host says how its path to a peer is: "down" or "up MTU/WANTED"; "gone" when it has none any more.

    When VXLAN ceases or begins to pass, both hosts are told which way their networks take now.
    """
    was_down = tx.scalar(_one, {"host": seen.host, "peer": seen.id}) is False
    tx.execute(delete(path).where(path.c.host_id == seen.host, path.c.peer == seen.id))
    found = _UP.match(seen.value)
    if seen.value != "gone":
        values = {"host_id": seen.host, "peer": seen.id, "up": found is not None, "since": seen.at}
        sizes = {"mtu": int(found[1]), "wanted": int(found[2])} if found else {"mtu": None, "wanted": None}
        tx.insert(path, {**values, **sizes, "detour_up": None, "detour_mtu": None})
    if was_down != (found is None and seen.value != "gone"):
        _tell(tx, cloud, seen.host, seen.id)


def note_detour(tx: Tx, seen: Seen) -> None:
    """A host says how it reaches a peer by the fall-back, in the same words."""
    found = _UP.match(seen.value)
    values: dict[str, Any] = {"detour_up": None if seen.value == "gone" else found is not None, "detour_mtu": None}
    if found:
        values |= {"detour_mtu": int(found[1]), "wanted": int(found[2])}
    own = (path.c.host_id == seen.host, path.c.peer == seen.id, path.c.up.is_(False))
    tx.execute(update(path).where(*own).values(**values))


def _tell(tx: Tx, cloud: Cloud, host_id: str, peer: str) -> None:
    """Two hosts take another way to each other, where both set the same one."""
    own = tx.first(select(host.c.tunnel_fallback).where(host.c.id == host_id))
    if own is None or own.tunnel_fallback is None:
        return
    alike = host.c.tunnel_fallback == own.tunnel_fallback
    other = tx.scalar(select(host.c.id).where(host.c.tunnel_address == peer, alike))
    if other is not None:
        touch.carried(tx, cloud, [host_id, other])


def detours(tx: Tx, own: Any) -> frozenset[str]:
    """The tunnel addresses of hosts to which, or from which, VXLAN does not pass, and whose fall-back is the host's own:
    both of such a pair take it. `own` is a row with id, tunnel_address and tunnel_fallback."""
    if own.tunnel_address is None or own.tunnel_fallback is None:
        return frozenset()
    values = {"host": own.id, "own": own.tunnel_address, "fallback": own.tunnel_fallback}
    return frozenset(tx.column(_detours, values))


def narrowest(tx: Tx) -> int | None:
    """The least MTU of the underlay, in bytes, that a path was found to have; None when all are wide enough."""
    mtu = tx.scalar(_narrowest)
    found = [] if mtu is None else [int(mtu) + VXLAN_OVERHEAD]
    found += [row.detour_mtu + _overhead(row.tunnel_fallback) for row in tx.all(_narrow_rounds)]
    return min(found, default=None)


def _overhead(fallback: str | None) -> int:
    """Bytes of an underlay's packet that are not the guest's; Geneve has as many as VXLAN."""
    return GRE_OVERHEAD if fallback == "gre" else VXLAN_OVERHEAD


def listing(tx: Tx) -> Sequence[Any]:
    """Every path, by host: host_id, peer, up, mtu, wanted, since, detour_up, detour_mtu."""
    return tx.all(select(path).order_by(path.c.host_id, path.c.peer))


def ways_round(tx: Tx) -> dict[tuple[str, str], str]:
    """(host, peer) → what carries their networks meanwhile, of the pairs that VXLAN does not connect."""
    known = {row.id: row for row in hosts.all_hosts(tx)}
    by_address = {row.tunnel_address: row for row in known.values() if row.tunnel_address}
    found: dict[tuple[str, str], str] = {}
    for row in listing(tx):
        one, other = known.get(row.host_id), by_address.get(row.peer)
        if row.up or one is None or other is None:
            continue
        if one.tunnel_fallback is not None and one.tunnel_fallback == other.tunnel_fallback:
            found |= dict.fromkeys([(one.id, row.peer), (other.id, one.tunnel_address)], one.tunnel_fallback)
    return found


def _meanwhile(row: Any, way: str | None) -> str:
    """What a path that is down means to the networks."""
    if way is None:
        return "; host.tunnel_fallback, set alike on both, leads round it"
    if row.detour_up is False:
        return f"; nor are those by {way}, its fall-back"
    if row.detour_up and row.detour_mtu < row.wanted:
        underlay = row.detour_mtu + _overhead(way)
        return f"; its networks go by {way} meanwhile, where the underlay's MTU is {underlay}"
    return f"; its networks go by {way} meanwhile"


def check(tx: Tx) -> Iterator[Finding]:
    """Paths between hosts that are both up, on which tunnelled packets or large ones get lost."""
    rows = [row for row in listing(tx) if not row.up or row.mtu < row.wanted]
    if not rows:
        return
    known = hosts.all_hosts(tx)
    names = {row.id: row.name for row in known}
    present = {row.id for row in known if hosts.up(row, tx.now)}
    by_address = {row.tunnel_address: row for row in known if row.tunnel_address}
    around = ways_round(tx)
    for row in rows:
        other = by_address.get(row.peer)
        if row.host_id not in present or other is None or other.id not in present:
            continue
        name = f"{names[row.host_id]} → {other.name}"
        if row.up:
            why = f"frames of {row.wanted} bytes do not pass, those of {row.mtu} do: the underlay's MTU is {row.mtu + VXLAN_OVERHEAD}"
        else:
            why = f"tunnelled packets to {row.peer} are not answered: its UDP port for VXLAN is blocked on the way, or the host is mute"
            why += _meanwhile(row, around.get((row.host_id, row.peer)))
        yield Finding("tunnel", name, why)
