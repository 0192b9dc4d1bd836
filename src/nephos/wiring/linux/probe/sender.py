"""Sends frames that the host takes for a guest's: what goes into one end of a pair comes out of the guest's tap."""

from __future__ import annotations

import socket
import subprocess
from types import TracebackType

from nephos.errors import HostFault
from nephos.wiring.linux.system.names import Mark

PREFIX = "trc"


class Sender:
    """Writing to a tap would send to the guest; tc redirects to the tap's receiving side instead (tc-mirred(8))."""

    def __init__(self, token: str, tap: str, mark: Mark) -> None:
        self._near, self._far, self._tap = f"{PREFIX}{token}a", f"{PREFIX}{token}b", tap
        self._mark = mark
        self._raw: socket.socket | None = None

    def __enter__(self) -> Sender:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._raw is not None:
            self._raw.close()
        self._remove()

    def send(self, frame: bytes) -> None:
        assert self._raw is not None
        self._raw.send(frame)

    def _make(self) -> None:
        run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far)
        for device in (self._near, self._far):
            run("ip", "link", "set", device, "alias", str(self._mark), "mtu", "9200", "addrgenmode", "none", "up")
        run("tc", "qdisc", "add", "dev", self._far, "ingress")
        catch = ["protocol", "all", "u32", "match", "u32", "0", "0"]
        redirect = ["action", "mirred", "ingress", "redirect", "dev", self._tap]
        run("tc", "filter", "add", "dev", self._far, "parent", "ffff:", *catch, *redirect)
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._raw = raw
        raw.bind((self._near, 0))

    def _remove(self) -> None:
        subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)


def run(*words: str) -> str:
    """A command of iproute2. Raises HostFault with its own words."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostFault(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
