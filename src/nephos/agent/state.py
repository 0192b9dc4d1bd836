"""The agent's copy of what should be on one host, kept on disk (0600) for the time that the server is away."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nephos.hosts import wire
from nephos.hosts.desired import digest
from nephos.hosts.guest import GuestItem
from nephos.wiring.base import Desired, Group, Key, Kind, Network, Port, Router

log = logging.getLogger(__name__)
_WIRING: dict[str, type] = {"network": Network, "port": Port, "group": Group, "router": Router}
GUEST = "guest"


class State:
    """Desired items of one host, by kind and id; typed views of them. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()
        self._dirty = False
        self.wiring = Desired(networks={}, ports={}, groups={}, routers={})
        self.guests: dict[str, GuestItem] = {}
        self.guest_of: dict[str, str] = {}
        self.known = False
        """Whether the server, or the disk, ever told what should be here."""
        if path.exists():
            try:
                for kind, key, body in msgspec.msgpack.decode(path.read_bytes(), type=list[tuple[str, str, bytes]]):
                    self._take(kind, key, body)
                self.known = True
            except msgspec.DecodeError:
                log.warning("%s cannot be read; waiting for the server", path)

    def take(self, state: wire.HostState) -> tuple[frozenset[Key] | None, set[str]]:
        """Take over what the server says. Answers the wiring keys that changed (None: look at everything), and guests."""
        with self._lock:
            before = dict(self._raw) if state.full else {}
            wired: set[Key] = set()
            guests: set[str] = set()
            for item in state.items:
                before.pop((item.kind, item.id), None)
                if self._raw.get((item.kind, item.id)) == item.body:
                    continue
                if self._take(item.kind, item.id, item.body):
                    self._note(item.kind, item.id, wired, guests)
            for kind, key in before:
                self._take(kind, key, None)
                self._note(kind, key, wired, guests)
            self._dirty = self._dirty or bool(wired or guests)
            self.known = True
            return (None if state.full else frozenset(wired)), guests

    def save(self) -> None:
        """Write to disk what changed since the last time."""
        with self._lock:
            if not self._dirty:
                return
            self._dirty = False
            data = msgspec.msgpack.encode([(kind, key, body) for (kind, key), body in self._raw.items()])
        part = self._path.with_suffix(".part")
        try:
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            part.replace(self._path)
        except OSError:
            self._dirty = True
            raise

    def snapshot(self) -> Desired:
        """The wiring, as it should be now; the driver may keep it."""
        with self._lock:
            return Desired(
                networks=dict(self.wiring.networks),
                ports=dict(self.wiring.ports),
                groups=dict(self.wiring.groups),
                routers=dict(self.wiring.routers),
            )

    def digest(self) -> bytes:
        with self._lock:
            return digest(self._raw)

    def _take(self, kind: str, key: str, body: bytes | None) -> bool:
        """False for an item that cannot be read: what was here stays, and keeps nothing else from being taken."""
        try:
            self._put(kind, key, body)
        except msgspec.DecodeError as wrong:
            log.error("%s %s cannot be read: %s", kind, key, wrong)
            return False
        return True

    def _put(self, kind: str, key: str, body: bytes | None) -> None:
        if kind == GUEST:
            self._put_guest(key, None if body is None else msgspec.msgpack.decode(body, type=GuestItem))
        elif kind in _WIRING:
            table: dict[str, object] = self._table(kind)
            if body is None:
                table.pop(key, None)
            else:
                table[key] = msgspec.msgpack.decode(body, type=_WIRING[kind])
        if body is None:
            self._raw.pop((kind, key), None)
        else:
            self._raw[(kind, key)] = body

    def _put_guest(self, key: str, guest: GuestItem | None) -> None:
        """Without a moment in which a guest that stays is not known: its metadata is asked for at any time."""
        old = self.guests.get(key)
        if guest is None:
            self.guests.pop(key, None)
        else:
            self.guests[key] = guest
            self.guest_of.update(dict.fromkeys(guest.ports, key))
        for port in set(old.ports if old else ()) - set(guest.ports if guest else ()):
            if self.guest_of.get(port) == key:
                del self.guest_of[port]

    def _table(self, kind: str) -> dict[str, object]:
        tables: Mapping[str, dict[str, object]] = {
            "network": self.wiring.networks,  # type: ignore[dict-item]
            "port": self.wiring.ports,  # type: ignore[dict-item]
            "group": self.wiring.groups,  # type: ignore[dict-item]
            "router": self.wiring.routers,  # type: ignore[dict-item]
        }
        return tables[kind]

    @staticmethod
    def _note(kind: str, key: str, wired: set[Key], guests: set[str]) -> None:
        if kind == GUEST:
            guests.add(key)
        elif kind in _WIRING:
            wired.add(Key(Kind(kind), key))
