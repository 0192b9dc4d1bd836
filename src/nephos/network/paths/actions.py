"""What hosts say of the tunnels to their peers (S0-32, S1-20 … S1-22): kept, shown to operators, and reckoned with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import delete, func, select

from nephos.hosts import actions as hosts
from nephos.hosts.wire import Seen
from nephos.kernel.cloud import Finding
from nephos.kernel.db.engine import Tx
from nephos.network.paths.store import path

VXLAN_OVERHEAD = 50
_UP = re.compile(r"up (\d{1,5})/(\d{1,5})\Z")
_narrowest = select(func.min(path.c.mtu)).where(path.c.up.is_(True), path.c.mtu < path.c.wanted)


def note(tx: Tx, seen: Seen) -> None:
    """A host says how its path to a peer is: "down" or "up MTU/WANTED"; "gone" when it has none any more."""
    tx.execute(delete(path).where(path.c.host_id == seen.host, path.c.peer == seen.id))
    if seen.value == "gone":
        return
    found = _UP.match(seen.value)
    values = {"host_id": seen.host, "peer": seen.id, "up": found is not None, "mtu": None, "wanted": None, "since": seen.at}
    if found:
        values |= {"mtu": int(found[1]), "wanted": int(found[2])}
    tx.insert(path, values)


def narrowest(tx: Tx) -> int | None:
    """The least MTU of the underlay, in bytes, that a path was found to have; None when all are wide enough."""
    mtu = tx.scalar(_narrowest)
    return None if mtu is None else int(mtu) + VXLAN_OVERHEAD


def listing(tx: Tx) -> Sequence[Any]:
    """Every path, by host: host_id, peer, up, mtu, wanted, since."""
    return tx.all(select(path).order_by(path.c.host_id, path.c.peer))


def check(tx: Tx) -> Iterator[Finding]:
    """Paths between hosts that are both up, on which tunnelled packets or large ones get lost."""
    rows = [row for row in listing(tx) if not row.up or row.mtu < row.wanted]
    if not rows:
        return
    known = hosts.all_hosts(tx)
    names = {row.id: row.name for row in known}
    present = {row.id for row in known if hosts.up(row, tx.now)}
    by_address = {row.tunnel_address: row for row in known if row.tunnel_address}
    for row in rows:
        other = by_address.get(row.peer)
        if row.host_id not in present or other is None or other.id not in present:
            continue
        name = f"{names[row.host_id]} → {other.name}"
        if row.up:
            why = f"frames of {row.wanted} bytes do not pass, those of {row.mtu} do: the underlay's MTU is {row.mtu + VXLAN_OVERHEAD}"
        else:
            why = f"tunnelled packets to {row.peer} are not answered: its UDP port for VXLAN is blocked on the way, or the host is mute"
        yield Finding("tunnel", name, why)
