"""Servers with all that is shown of them, in batches, and their encoded bodies kept until something shown changes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

import msgspec
from sqlalchemy import select

from nephos.compute.servers import store
from nephos.compute.showing import views
from nephos.compute.showing.views import Extras, View
from nephos.hosts import actions as hosts
from nephos.hosts.store import host
from nephos.kernel.db.engine import Tx
from nephos.network import guests as network
from nephos.network.guests import ServerPort

_s = store.server
KEY_COLUMNS = (_s.c.id, _s.c.generation, _s.c.host_id)
"""What a page needs of each row to find its kept body."""
_encode = msgspec.json.Encoder().encode
_hosts = select(host.c.id, host.c.disabled, host.c.forced_down, host.c.last_seen)


class Bodies:
    """Encoded bodies by (server, generation, ports, host status, view); the oldest go when there are too many."""

    MOST = 4096

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], bytes] = {}
        self._lock = Lock()

    def get(self, key: tuple[Any, ...]) -> bytes | None:
        return self._kept.get(key)

    def put(self, key: tuple[Any, ...], body: bytes) -> None:
        with self._lock:
            if len(self._kept) >= self.MOST:
                for old in list(self._kept)[: self.MOST // 4]:
                    del self._kept[old]
            self._kept[key] = body


def details(tx: Tx, bodies: Bodies, view: View, rows: Sequence[Any]) -> list[bytes]:
    """The encoded bodies of servers; `rows` hold at least KEY_COLUMNS. At most seven queries, three when all are kept."""
    ids = [row.id for row in rows]
    ports = network.ports_of(tx, ids) if ids else {}
    status = _host_statuses(tx) if view.host_status else {}
    keys = [
        (row.id, row.generation, hash(tuple(ports.get(row.id, ()))), status.get(row.host_id or "", ""), view)
        for row in rows
    ]
    found = [bodies.get(key) for key in keys]
    missing = [row.id for row, body in zip(rows, found, strict=True) if body is None]
    if missing:
        whole = store.by_ids(tx, missing)
        tags = store.tags_of(tx, missing)
        names = group_names(tx, missing)
        for at, key in enumerate(keys):
            if found[at] is None:
                row = whole[key[0]]
                extras = Extras(
                    addresses(ports.get(row.id, ())), names.get(row.id, ()), tags.get(row.id, ()), str(key[3])
                )
                encoded = _encode(views.detailed(view, row, extras))
                found[at] = encoded
                bodies.put(key, encoded)
    return [body for body in found if body is not None]


def extras_of(tx: Tx, row: Any, *, host_status: bool = False) -> Extras:
    """What is shown of one server besides its row."""
    ports = network.ports_of(tx, [row.id]).get(row.id, ())
    status = _host_statuses(tx).get(row.host_id or "", "") if host_status else ""
    return Extras(
        addresses(ports),
        group_names(tx, [row.id]).get(row.id, ()),
        store.tags_of(tx, [row.id]).get(row.id, ()),
        status,
    )


def group_names(tx: Tx, server_ids: Sequence[str]) -> dict[str, list[str]]:
    """server id → the names of its security groups, as often as ports carry different ones of that name."""
    found = network.security_groups_of(tx, server_ids)
    return {server_id: [each.name for each in groups] for server_id, groups in found.items()}


def addresses(ports: Iterable[ServerPort]) -> dict[str, list[dict[str, Any]]]:
    """network name → addresses, fixed ones first and then floating ones, as Nova lists them."""
    found: dict[str, list[dict[str, Any]]] = {}
    floating: dict[str, list[dict[str, Any]]] = {}
    for port in ports:
        fixed = found.setdefault(port.network_name, [])
        fixed += [_address(port, each.address, each.version, "fixed") for each in port.addresses]
        floating.setdefault(port.network_name, []).extend(
            _address(port, each.address, 4, "floating") for each in port.floating
        )
    return {name: fixed + floating[name] for name, fixed in found.items()}


def _address(port: ServerPort, address: str, version: int, kind: str) -> dict[str, Any]:
    return {"addr": address, "version": version, "OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": port.mac}


def with_address(tx: Tx, server_ids: Sequence[str], patterns: Mapping[int, str | None]) -> set[str]:
    """The servers that have an address, fixed or floating, that matches the pattern of its version."""
    wanted = {version: re.compile(pattern) for version, pattern in patterns.items() if pattern}
    found: set[str] = set()
    for server_id, ports in network.ports_of(tx, server_ids).items() if server_ids else ():
        for port in ports:
            pairs = [(each.version, each.address) for each in port.addresses]
            pairs += [(4, each.address) for each in port.floating]
            if any(version in wanted and wanted[version].search(address) for version, address in pairs):
                found.add(server_id)
    return found


def _host_statuses(tx: Tx) -> dict[str, str]:
    return {row.id: _host_status(row, tx.now) for row in tx.all(_hosts)}


def _host_status(row: Any, now: int) -> str:
    if row.forced_down:
        return "DOWN"
    if not hosts.up(row, now):
        return "UNKNOWN"
    return "MAINTENANCE" if row.disabled else "UP"
