"""One host of an agent: its drivers, what should be on it, and the loop that makes it so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nephos import errors
from nephos.agent import guestdata, moving
from nephos.agent.images import ImageCache
from nephos.agent.patience import patiently
from nephos.agent.state import State
from nephos.hosts import wire
from nephos.hypervisor.base import Hypervisor, Power
from nephos.kernel import clock
from nephos.wiring.base import Fact, Key, Kind, Wiring
from nephos.wiring.probe import Watch

log = logging.getLogger(__name__)
APPLY_SECONDS = 60.0
POST_SECONDS = 5.0
"""How long a guest that posts something waits until the ledger has it."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Host:
    """`see` reports a sighting to the server. `images` is None on a fake host, which opens none."""

    def __init__(
        self,
        name: str,
        directory: Path,
        hypervisor: Hypervisor,
        wiring: Wiring,
        images: ImageCache | None,
        see: Callable[[wire.Seen], None],
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name, self.directory = name, directory
        self.hypervisor, self.wiring, self.images = hypervisor, wiring, images
        self.state = State(directory / "desired")
        self._see = see
        self._pending: set[Key] | None = set()
        self._wanted = self._applied = 0
        self._failures: dict[Key, str] = {}
        self._changed = threading.Condition()
        self._starting: set[str] = set()
        wiring.serve_metadata(self.metadata, self.post)
        wiring.watch(self._fact)
        hypervisor.watch(self._power)

    # --- wiring ----------------------------------------------------------------------------------------------

    def take(self, state: wire.HostState) -> None:
        """The server said what should be here."""
        wired, _ = self.state.take(state)
        with self._changed:
            if wired is None:
                self._pending = None
            elif self._pending is not None:
                self._pending |= wired
            if wired is None or wired:
                self._wanted += 1
            self._changed.notify_all()

    def dirty(self) -> bool:
        with self._changed:
            return self._applied < self._wanted

    def apply(self, *, everything: bool = False) -> None:
        """Make the host's wiring as it should be. Only the agent's wiring thread calls this."""
        if not self.state.known:
            return
        with self._changed:
            changed = None if everything or self._pending is None else frozenset(self._pending)
            self._pending = set()
            wanted = self._wanted
        try:
            failures = self.wiring.apply(self.state.snapshot(), changed)
        except BaseException:
            with self._changed:
                self._pending = None
            raise
        finally:
            self.save()
        with self._changed:
            for key, why in failures.items():
                if self._failures.get(key) != why:
                    log.error("%s: wiring of %s %s failed: %s", self.name, key.kind, key.id, why)
                    self._tell_wiring(key, why)
            for key in self._failures.keys() - failures.keys():
                self._tell_wiring(key, "")
            self._failures = failures
            self._applied = max(self._applied, wanted)
            self._changed.notify_all()

    def save(self) -> None:
        """Keep on disk what the server said; `apply` does it too."""
        try:
            self.state.save()
        except OSError:
            log.exception("%s: what should be here was not kept on disk", self.name)

    def wait_wired(self, port_ids: list[str]) -> None:
        """Wait until what the server said so far is wired. Raises HostFault when one of the ports, or its network, is not."""
        with self._changed:
            wanted = self._wanted
            if not self._changed.wait_for(lambda: self._applied >= wanted, APPLY_SECONDS):
                raise errors.HostFault(f"The host's wiring was not done within {APPLY_SECONDS:g} seconds.")
            for port_id in port_ids:
                port = self.state.wiring.ports.get(port_id)
                if port is None:
                    raise errors.HostFault(f"Port {port_id} is not known on this host.")
                # The network first: what it lacks is why its ports lack it.
                for key in (Key(Kind.NETWORK, port.network_id), Key(Kind.PORT, port_id)):
                    if key in self._failures:
                        raise errors.HostFault(f"Wiring of {key.kind} {key.id} failed: {self._failures[key]}")

    # --- what guests and the host show -------------------------------------------------------------------------

    def metadata(self, port_id: str, path: str) -> bytes | None:
        """What the guest behind a port reads at 169.254.169.254."""
        guest_id = self.state.guest_of.get(port_id)
        item = self.state.guests.get(guest_id) if guest_id else None
        if item is None:
            return None
        return guestdata.lookup(msgspec.msgpack.decode(item.data, type=guestdata.GuestData), path)

    def post(self, port_id: str, path: str, body: bytes) -> int:
        """What the guest behind a port posts to 169.254.169.254: its password, once. Answers the HTTP status: 200 when the
        ledger has it, 409 when there is one already, 503 when the ledger cannot be reached. May wait POST_SECONDS."""
        guest_id = self.state.guest_of.get(port_id)
        data = self.data_of(guest_id) if guest_id else None
        if guest_id is None or data is None:
            return 404
        if not guestdata.takes_password(path):
            return 405
        if data.password:
            return 409
        try:
            password = body.decode()
        except UnicodeDecodeError:
            return 400
        if len(body) > guestdata.PASSWORD_MOST or "\0" in password:
            return 400
        if not password:
            return 200
        self._see(wire.Seen(self.name, "password", guest_id, password, clock.now_us()))
        with self._changed:
            self._changed.wait_for(lambda: self._password_of(guest_id), POST_SECONDS)
        now = self._password_of(guest_id)
        return 200 if now == password else 409 if now else 503

    def _password_of(self, guest_id: str) -> str | None:
        data = self.data_of(guest_id)
        return data.password if data is not None else None

    def data_of(self, guest_id: str) -> guestdata.GuestData | None:
        item = self.state.guests.get(guest_id)
        return None if item is None else msgspec.msgpack.decode(item.data, type=guestdata.GuestData)

    def connected(self) -> None:
        """The server is there again: tell it the power of every guest, but for those that are being started again."""
        for guest_id, power in self.hypervisor.guests().items():
            if guest_id not in self._starting:
                self._see(wire.Seen(self.name, "power", guest_id, power.value, clock.now_us()))

    def wake(self) -> None:
        """Find the guests that a reboot of the host ended, to be started by `resume_guests`. Before the first `connected`,
        so that the server does not take them for guests that shut down by themselves."""
        stamp = self.directory / "boot"
        boot = _BOOT_ID.read_text().strip()
        if stamp.exists() and stamp.read_text() != boot:
            powers = self.hypervisor.guests()
            self._starting = {
                guest_id
                for guest_id, item in self.state.guests.items()
                if item.power == Power.RUNNING and powers.get(guest_id) == Power.SHUTDOWN
            }
        stamp.write_text(boot)

    def resume_guests(self) -> None:
        """After a reboot of the host, start the guests that should run; an agent's restart touches none."""
        for guest_id in list(self._starting):
            item = self.state.guests.get(guest_id)
            try:
                if item is not None and item.power == Power.RUNNING:
                    self.wait_wired(list(item.ports))
                    patiently(lambda guest_id=guest_id: self.hypervisor.start(guest_id), threading.Event())  # type: ignore[misc]
            except errors.NephosError as wrong:
                log.error("guest %s does not start again: %s", guest_id, wrong)
                self._see(wire.Seen(self.name, "power", guest_id, Power.SHUTDOWN.value, clock.now_us()))
            finally:
                self._starting.discard(guest_id)

    def asked(self, ask: wire.Ask) -> Any:
        """A live question of the server."""
        if ask.kind == "console":
            return self.hypervisor.console_log(ask.id, limit=ask.limit)
        if ask.kind == "leftovers":
            found = [
                ("wiring", each.kind, each.name, each.why) for each in self.wiring.leftovers(self.state.snapshot())
            ]
            items = self.state.guests.values()
            known = {item.id for item in items if item.here}
            aside = {item.id for item in items if item.aside}
            return found + [("hypervisor", *each) for each in self.hypervisor.leftovers(known, aside)]
        if ask.kind == "parts":
            return msgspec.json.encode(self.hypervisor.parts(ask.id))
        if ask.kind == "piece":
            return moving.give(self.hypervisor, ask.id)
        if ask.kind == "probe":
            return msgspec.to_builtins(self.wiring.probe(msgspec.json.decode(ask.id, type=Watch)))
        if ask.kind == "uptime":
            return _uptime()
        if ask.kind == "guests":
            return {guest_id: power.value for guest_id, power in self.hypervisor.guests().items()}
        raise errors.HostFault(f"This agent does not know how to answer {ask.kind!r}.")

    def _fact(self, fact: Fact) -> None:
        self._see(wire.Seen(self.name, fact.kind, fact.port_id, fact.detail, clock.now_us()))

    def see(self, kind: str, item_id: str, value: str) -> None:
        """Tell the server of something that goes on here."""
        self._see(wire.Seen(self.name, kind, item_id, value, clock.now_us()))

    def _tell_wiring(self, key: Key, why: str) -> None:
        """The server shows why a port does not work."""
        if key.kind is Kind.PORT:
            self._see(wire.Seen(self.name, "port_wiring", key.id, why, clock.now_us()))

    def _power(self, guest_id: str, power: Power) -> None:
        self._see(wire.Seen(self.name, "power", guest_id, power.value, clock.now_us()))


def _uptime() -> str:
    """The host's uptime and load, in the words of uptime(1), which Nova's users know."""
    seconds = int(float(Path("/proc/uptime").read_text().split()[0]))
    load = ", ".join(Path("/proc/loadavg").read_text().split()[:3])
    now = (clock.iso(clock.now_us()) or "")[11:19]
    days, rest = divmod(seconds, 86400)
    return f" {now} up {days} days, {rest // 3600:2}:{rest % 3600 // 60:02},  0 users,  load average: {load}"
