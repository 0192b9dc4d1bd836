"""Proof of the overlay: every pair of hosts that share a network sends real tunnelled frames both ways, all the time.

A port scan proves nothing about a tunnel (S1-20). So each host has one more VXLAN device, with a network identifier that
no network has and the tunnels' own port; frames of an experimental EtherType (RFC 9542) go through it to each peer and
back, through every firewall on the way, small ones and ones as large as the networks' own (S0-32, S1-22). The device
does not let its packets be fragmented, so a path that is too narrow shows, and its width is found by halving. Where a
peer is reached by the fall-back instead, that is proved in the same way, beside VXLAN.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from nephos.kernel import clock
from nephos.wiring.base import Fact
from nephos.wiring.linux.switch.networks import Switch
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.netlink import Link

log = logging.getLogger(__name__)
DEVICE = "vxlan-probe"
NUMBER = (1 << 24) - 1
"""Its VXLAN network identifier; type drivers give it to no network."""
_ETHERTYPE = 0x88B5
_BODY = struct.Struct("!8sBIH")
"""Which cloud, question 1 or answer 2, number, size."""
_SMALL = 64
_LEAST_MTU = 576
_ABSENT = (errno.ENODEV, errno.ENXIO, errno.ENETDOWN)
EVERY = 5.0
ANSWER_SECONDS = 1.0
TRIES = 3
"""So many rounds without an answer make a path that is down, and so many with one make it up again: what else carries the
networks meanwhile is not left for a path that comes and goes."""


class Path(NamedTuple):
    """A way to a peer, and as which kind of fact it is told: overlay by VXLAN, detour by the fall-back."""

    kind: str
    peer: str


class End(NamedTuple):
    """Where a path begins and whom it leads to: the device here, the peer's MAC."""

    device: str
    mac: bytes


def mac_of(address: str) -> str:
    """The MAC of a host's probe device: made of its tunnel address, so that peers know it."""
    digest = hashlib.sha256(ipaddress.ip_address(address).packed).digest()
    return "02:4e:50:" + digest[:3].hex(":")


class Overlay:
    """`ensure` from the driver's pass; a thread of its own does the rest. Facts: kind overlay or detour, `port_id` the
    peer's tunnel address, detail "up MTU/WANTED", "down" or "gone", once a change."""

    def __init__(self, host: Host, switch: Switch, report: Callable[[Fact], None]) -> None:
        self._host, self._switch, self._report = host, switch, report
        self._cloud = hashlib.sha256(host.cloud.encode()).digest()[:8]
        self._ends: dict[Path, End] = {}
        self._mtu = _LEAST_MTU
        self._missed: dict[Path, int] = {}
        self._answered: dict[Path, int] = {}
        self._told: dict[Path, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ensure(self, peers: Collection[str], around: Collection[str], mtu: int) -> None:
        """Prove the paths to these peers by VXLAN, and to those `around` by the fall-back too, for networks of this MTU;
        none: the devices go. HostFault when it cannot be."""
        local = self._host.settings.tunnel_address
        wanted = {} if local is None else {peer: mac_of(peer) for peer in peers if peer != local}
        link = self._switch.proof(DEVICE, NUMBER, wanted)
        others = self._switch.proof_round(NUMBER, {peer: mac for peer, mac in wanted.items() if peer in around})
        devices: dict[Path, Link] = {Path("detour", peer): other for peer, other in others.items()}
        if link is not None:
            devices |= {Path("overlay", peer): link for peer in wanted}
        size = max(mtu, _LEAST_MTU)
        for device in {each.name: each for each in devices.values()}.values():
            self._host.stack.ensure(device, mtu=size, mac=mac_of(str(local)))
        paths = {Path("overlay", peer) for peer in wanted} | {Path("detour", peer) for peer in wanted if peer in around}
        with self._lock:
            self._mtu = size
            self._ends = {
                path: End(device.name, bytes.fromhex(wanted[path.peer].replace(":", "")))
                for path, device in devices.items()
            }
            gone = self._told.keys() - paths
            for path in gone:
                del self._told[path]
        for path in gone:
            self._missed.pop(path, None)
            self._answered.pop(path, None)
            self._report(Fact(kind=path.kind, port_id=path.peer, detail="gone"))
        if devices and self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="overlay", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def again(self) -> None:
        """Tell everything anew, because the server may have forgotten it."""
        with self._lock:
            self._told.clear()

    # ---- the thread -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                with _Socket(self._cloud) as raw:
                    self._talk(raw)
            except OSError:
                # A device is not there, or went; the driver's next pass makes it again.
                self._stop.wait(1)
            except Exception:
                log.exception("overlay probes")
                self._stop.wait(EVERY)

    def _talk(self, raw: _Socket) -> None:
        own = bytes.fromhex(mac_of(str(self._host.settings.tunnel_address)).replace(":", ""))
        while not self._stop.is_set():
            with self._lock:
                ends, mtu = dict(self._ends), self._mtu
            if not ends:
                raise OSError("no peers")
            raw.listen(own, {end.device for end in ends.values()})
            begun = clock.monotonic()
            found = self._round(raw, ends, mtu)
            for path in ends:
                self._judge(path, found.get(path), mtu)
            raw.serve(begun + EVERY + clock.jitter(), self._stop)

    def _round(self, raw: _Socket, ends: dict[Path, End], mtu: int) -> dict[Path, int]:
        """Path → the largest size of a frame's content that came back, for those that answered at all."""
        small = raw.ask(ends, dict.fromkeys(ends, _SMALL))
        large = raw.ask({path: ends[path] for path in small}, dict.fromkeys(small, mtu))
        narrow = {path: (_SMALL, mtu) for path in small if path not in large}
        found = dict.fromkeys(large, mtu)
        while narrow and not self._stop.is_set():
            sizes = {path: (low + high) // 2 for path, (low, high) in narrow.items()}
            came = raw.ask({path: ends[path] for path in narrow}, sizes)
            for path, (low, high) in list(narrow.items()):
                low, high = (sizes[path], high) if path in came else (low, sizes[path])
                narrow[path] = (low, high)
                if high - low <= 1:
                    found[path] = low
                    del narrow[path]
        return found

    def _judge(self, path: Path, size: int | None, wanted: int) -> None:
        if size is None:
            self._missed[path] = self._missed.get(path, 0) + 1
            if self._missed[path] < TRIES:
                return
            self._answered[path] = 0
        else:
            self._missed.pop(path, None)
            # A path that was never down needs no more than one answer.
            self._answered[path] = self._answered.get(path, TRIES) + 1
            if self._answered[path] < TRIES:
                return
        state = "down" if size is None else f"up {size}/{wanted}"
        with self._lock:
            if self._told.get(path) == state:
                return
            self._told[path] = state
        log.log(logging.WARNING if size is None else logging.INFO, "%s to %s: %s", path.kind, path.peer, state)
        self._report(Fact(kind=path.kind, port_id=path.peer, detail=state))


class _Socket:
    """The probe devices' frames. Questions of known clouds are answered whenever this waits."""

    def __init__(self, cloud: bytes) -> None:
        self._cloud = cloud
        self._number = int.from_bytes(clock.token_bytes(3), "big")
        self._own = b""
        self._devices: set[str] = set()
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETHERTYPE))
        self._raw.setblocking(False)

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def listen(self, own: bytes, devices: set[str]) -> None:
        """Take frames for this MAC that come by these devices."""
        self._own, self._devices = own, devices

    def ask(self, ends: dict[Path, End], sizes: dict[Path, int]) -> set[Path]:
        """Send to each a frame with so many bytes of content; those that answered in time. OSError when a device is not
        there."""
        if not ends:
            return set()
        self._number = (self._number + 1) & 0xFFFFFFFF
        waiting = {end: path for path, end in ends.items()}
        came = set()
        for end, path in waiting.items():
            self._send(end, 1, self._number, sizes[path])
        until = clock.monotonic() + ANSWER_SECONDS
        while waiting and clock.monotonic() < until:
            for end, number in self._receive(until):
                if number == self._number and end in waiting:
                    came.add(waiting.pop(end))
        return came

    def serve(self, until: float, stop: threading.Event) -> None:
        """Only answer, until then."""
        while not stop.is_set() and clock.monotonic() < until:
            for _ in self._receive(min(until, clock.monotonic() + 0.5)):
                pass

    def _receive(self, until: float) -> Iterable[tuple[End, int]]:
        """Answers: (from whom, number). Questions are answered in the same size on the way."""
        ready, _, _ = select.select([self._raw], [], [], max(0.0, until - clock.monotonic()))
        if not ready:
            return []
        data, address = self._raw.recvfrom(65535)
        if address[2] == socket.PACKET_OUTGOING or address[0] not in self._devices:
            return []
        if len(data) < 14 + _BODY.size or data[:6] != self._own:
            return []
        cloud, kind, number, size = _BODY.unpack_from(data, 14)
        if cloud != self._cloud or len(data) != 14 + max(size, _SMALL):
            return []
        end = End(address[0], data[6:12])
        if kind == 1:
            self._send(end, 2, number, size)
            return []
        return [(end, number)]

    def _send(self, end: End, kind: int, number: int, size: int) -> None:
        body = _BODY.pack(self._cloud, kind, number, size).ljust(max(size, _SMALL), b"\0")
        try:
            self._raw.sendto(end.mac + self._own + struct.pack("!H", _ETHERTYPE) + body, (end.device, _ETHERTYPE))
        except OSError as problem:
            # A frame that is too large for the way out is one that does not arrive.
            if problem.errno in _ABSENT:
                raise
