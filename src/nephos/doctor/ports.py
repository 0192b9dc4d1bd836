"""Who listens on a TCP port of this machine (S3-57), from /proc alone."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path

import msgspec

LISTEN = "0A"


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A listening socket. `pid` and `process` are empty when its owner cannot be seen, as from another container."""

    address: str
    port: int
    pid: int | None = None
    process: str = ""

    def __str__(self) -> str:
        owner = f"{self.process} (pid {self.pid})" if self.pid else "a process that cannot be seen from here"
        return f"{self.address}:{self.port} is held by {owner}"


def listeners(ports: Iterable[int]) -> list[Listener]:
    """Every socket that listens on one of `ports`, in this network namespace, with its owner."""
    wanted = set(ports)
    found: dict[str, Listener] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            raw, _, port = words[1].partition(":")
            if words[3] == LISTEN and int(port, 16) in wanted:
                found[words[9]] = Listener(address=_address(raw), port=int(port, 16))
    if not found:
        return []
    owners = _owners(set(found))
    return [
        Listener(address=each.address, port=each.port, pid=owners[inode], process=_name(owners[inode]))
        if inode in owners
        else each
        for inode, each in found.items()
    ]


def conflicts(host: str, ports: Iterable[int]) -> list[Listener]:
    """The listeners that keep `host` from listening on `ports`: the same address, or one of the two is any address."""
    mine = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    return [each for each in listeners(ports) if _clash(mine, ipaddress.ip_address(each.address))]


def _clash(mine: ipaddress._BaseAddress, other: ipaddress._BaseAddress) -> bool:
    if getattr(other, "ipv4_mapped", None) is not None:
        other = other.ipv4_mapped  # type: ignore[attr-defined]
    return mine == other or int(mine) == 0 or int(other) == 0


def _address(raw: str) -> str:
    """The kernel writes addresses as 32-bit words in the machine's own byte order."""
    data = b"".join(bytes.fromhex(raw[at : at + 8])[::-1] for at in range(0, len(raw), 8))
    return str(ipaddress.ip_address(data))


def _owners(inodes: set[str]) -> dict[str, int]:
    owners: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        for inode in _sockets(entry / "fd") & inodes:
            owners.setdefault(inode, int(entry.name))
    return owners


def _sockets(descriptors: Path) -> set[str]:
    """Inodes of a process's open sockets; descriptors that close meanwhile do not count."""
    found: set[str] = set()
    try:
        for descriptor in descriptors.iterdir():
            with contextlib.suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    except OSError:
        pass
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return "a process that just ended"
