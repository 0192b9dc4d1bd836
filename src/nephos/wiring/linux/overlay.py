"""Proof of the overlay: every pair of hosts that share a network sends real tunnelled frames both ways, all the time.

A port scan proves nothing about a tunnel (S1-20). So each host has one more VXLAN device, with a network identifier that
no network has and the tunnels' own port; frames of an experimental EtherType (RFC 9542) go through it to each peer and
back, through every firewall on the way, small ones and ones as large as the networks' own (S0-32, S1-22). The device
does not let its packets be fragmented, so a path that is too narrow shows, and its width is found by halving.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from nephos.kernel import clock
from nephos.wiring.base import Fact
from nephos.wiring.linux.host import Host
from nephos.wiring.linux.networks import Switch

log = logging.getLogger(__name__)
DEVICE = "vxlan-probe"
NUMBER = (1 << 24) - 1
"""Its VXLAN network identifier; type drivers give it to no network."""
_ETHERTYPE = 0x88B5
_BODY = struct.Struct("!8sBIH")
"""Which cloud, question 1 or answer 2, number, size."""
_SMALL = 64
_LEAST_MTU = 576
EVERY = 5.0
ANSWER_SECONDS = 1.0
TRIES = 3
"""So many rounds without an answer make a path that is down, and so many with one make it up again: what else carries the
networks meanwhile is not left for a path that comes and goes."""


def mac_of(address: str) -> str:
    """The MAC of a host's probe device: made of its tunnel address, so that peers know it."""
    digest = hashlib.sha256(ipaddress.ip_address(address).packed).digest()
    return "02:4e:50:" + digest[:3].hex(":")


class Overlay:
    """`ensure` from the driver's pass; a thread of its own does the rest. Facts: kind overlay, `port_id` the peer's tunnel
    address, detail "up MTU/WANTED", "down" or "gone", once a change."""

    def __init__(self, host: Host, switch: Switch, report: Callable[[Fact], None]) -> None:
        self._host, self._switch, self._report = host, switch, report
        self._cloud = hashlib.sha256(host.cloud.encode()).digest()[:8]
        self._peers: dict[str, str] = {}
        self._mtu = _LEAST_MTU
        self._missed: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        self._told: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ensure(self, peers: Iterable[str], mtu: int) -> None:
        """Prove the paths to these peers for networks of this MTU; none: the device goes. HostFault when it cannot be."""
        local = self._host.settings.tunnel_address
        wanted = {} if local is None else {peer: mac_of(peer) for peer in peers if peer != local}
        with self._lock:
            self._peers, self._mtu = wanted, max(mtu, _LEAST_MTU)
            gone = self._told.keys() - wanted.keys()
            for peer in gone:
                del self._told[peer]
        for peer in gone:
            self._missed.pop(peer, None)
            self._answered.pop(peer, None)
            self._report(Fact(kind="overlay", port_id=peer, detail="gone"))
        link = self._switch.proof(DEVICE, NUMBER, wanted)
        if link is None or local is None:
            return
        self._host.stack.ensure(link, mtu=self._mtu, mac=mac_of(local))
        if self._thread is None:
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
                # The device is not there, or went; the driver's next pass makes it again.
                self._stop.wait(1)
            except Exception:
                log.exception("overlay probes")
                self._stop.wait(EVERY)

    def _talk(self, raw: _Socket) -> None:
        while not self._stop.is_set():
            with self._lock:
                peers, mtu = dict(self._peers), self._mtu
            if not peers:
                raise OSError("no peers")
            begun = clock.monotonic()
            found = self._round(raw, peers, mtu)
            for peer in peers:
                self._judge(peer, found.get(peer), mtu)
            raw.serve(begun + EVERY + clock.jitter(), self._stop)

    def _round(self, raw: _Socket, peers: dict[str, str], mtu: int) -> dict[str, int]:
        """Peer → the largest size of a frame's content that came back, for those that answered at all."""
        small = raw.ask(peers, dict.fromkeys(peers, _SMALL))
        large = raw.ask({peer: peers[peer] for peer in small}, dict.fromkeys(small, mtu))
        narrow = {peer: (_SMALL, mtu) for peer in small if peer not in large}
        found = dict.fromkeys(large, mtu)
        while narrow and not self._stop.is_set():
            sizes = {peer: (low + high) // 2 for peer, (low, high) in narrow.items()}
            came = raw.ask({peer: peers[peer] for peer in narrow}, sizes)
            for peer, (low, high) in list(narrow.items()):
                low, high = (sizes[peer], high) if peer in came else (low, sizes[peer])
                narrow[peer] = (low, high)
                if high - low <= 1:
                    found[peer] = low
                    del narrow[peer]
        return found

    def _judge(self, peer: str, size: int | None, wanted: int) -> None:
        if size is None:
            self._answered[peer] = 0
            self._missed[peer] = self._missed.get(peer, 0) + 1
            if self._missed[peer] < TRIES:
                return
        else:
            self._missed.pop(peer, None)
            # A path that was never down needs no more than one answer.
            self._answered[peer] = self._answered.get(peer, TRIES) + 1
            if self._answered[peer] < TRIES:
                return
        state = "down" if size is None else f"up {size}/{wanted}"
        with self._lock:
            if self._told.get(peer) == state:
                return
            self._told[peer] = state
        log.log(logging.WARNING if size is None else logging.INFO, "tunnel to %s: %s", peer, state)
        self._report(Fact(kind="overlay", port_id=peer, detail=state))


class _Socket:
    """The probe device's frames. Questions of known clouds are answered whenever this waits."""

    def __init__(self, cloud: bytes) -> None:
        self._cloud = cloud
        self._number = int.from_bytes(clock.token_bytes(3), "big")
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._raw.setblocking(False)
            self._raw.bind((DEVICE, _ETHERTYPE))
            self._own = self._raw.getsockname()[4]
        except OSError:
            self._raw.close()
            raise

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def ask(self, peers: dict[str, str], sizes: dict[str, int]) -> set[str]:
        """Send each peer a frame with so many bytes of content; those that answered in time."""
        if not peers:
            return set()
        self._number = (self._number + 1) & 0xFFFFFFFF
        macs = {bytes.fromhex(mac.replace(":", "")): peer for peer, mac in peers.items()}
        for mac, peer in macs.items():
            self._send(mac, 1, self._number, sizes[peer])
        waiting, until = set(macs), clock.monotonic() + ANSWER_SECONDS
        while waiting and clock.monotonic() < until:
            for mac, number in self._receive(until):
                if number == self._number:
                    waiting.discard(mac)
        return {peer for mac, peer in macs.items() if mac not in waiting}

    def serve(self, until: float, stop: threading.Event) -> None:
        """Only answer, until then."""
        while not stop.is_set() and clock.monotonic() < until:
            for _ in self._receive(min(until, clock.monotonic() + 0.5)):
                pass

    def _receive(self, until: float) -> Iterable[tuple[bytes, int]]:
        """Answers: (from whom, number). Questions are answered in the same size on the way."""
        ready, _, _ = select.select([self._raw], [], [], max(0.0, until - clock.monotonic()))
        if not ready:
            return []
        data, address = self._raw.recvfrom(65535)
        if address[2] == socket.PACKET_OUTGOING or len(data) < 14 + _BODY.size or data[:6] != self._own:
            return []
        cloud, kind, number, size = _BODY.unpack_from(data, 14)
        if cloud != self._cloud or len(data) != 14 + max(size, _SMALL):
            return []
        if kind == 1:
            self._send(data[6:12], 2, number, size)
            return []
        return [(data[6:12], number)]

    def _send(self, mac: bytes, kind: int, number: int, size: int) -> None:
        body = _BODY.pack(self._cloud, kind, number, size).ljust(max(size, _SMALL), b"\0")
        # A frame that is too large for the way out is one that does not arrive.
        with suppress(BlockingIOError, OSError):
            self._raw.send(mac + self._own + struct.pack("!H", _ETHERTYPE) + body)
