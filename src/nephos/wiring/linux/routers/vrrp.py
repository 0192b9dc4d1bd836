"""Highly available routers: keepalived in the router's namespace elects the active host (VRRP, RFC 5798).

keepalived alone gives the active host the router's addresses and routes, so that it takes over also while the agent is
away; the driver makes all else on every host of the router and only repairs. A host is active when the virtual address
is on its leg in the HA network. Addresses are announced by keepalived.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from nephos.wiring.base import Router, RouterGateway, RouterHa, RouterInterface
from nephos.wiring.linux.routers.gateways import Way
from nephos.wiring.linux.system import daemon
from nephos.wiring.linux.system.daemon import Daemon
from nephos.wiring.linux.system.names import link_local
from nephos.wiring.linux.system.netlink import MAIN_TABLE, ROUTE_PROTOCOL
from nephos.wiring.linux.system.reactor import Reactor

ADVERTISE_SECONDS = 1
FOLDER = "vrrp"
PRIORITY = 50
_REFRESH_SECONDS = 10
"""How long a bridge may believe the router where it was, when a host that was cut off came back and missed the news."""
ACTIVE, STANDBY = "active", "standby"


def configuration(
    router: Router,
    ha: RouterHa,
    legs: Mapping[str, RouterInterface | RouterGateway],
    addresses: Mapping[str, set[str]],
    routes: list[Way],
    folder: Path,
    device: str,
) -> str:
    """keepalived.conf(5): `legs` and `addresses` by device, without that of the HA network, which is `device`."""
    lines = [
        "global_defs {",
        f"    notify_fifo {folder}/notify",
        "    vrrp_startup_delay 0",
        "}",
        f"vrrp_instance VR_{ha.number} {{",
        "    state BACKUP",
        f"    interface {device}",
        f"    virtual_router_id {ha.number}",
        f"    priority {PRIORITY + (ha.rank or 0)}",
        *(["    nopreempt"] if ha.rank is None else []),
        f"    advert_int {ADVERTISE_SECONDS}",
        "    garp_master_delay 1",
        f"    garp_master_refresh {_REFRESH_SECONDS}",
        "    virtual_ipaddress {",
        f"        {ha.virtual.address}/{ha.virtual.prefix} dev {device}",
        "    }",
    ]
    excluded = [f"{cidr} dev {name}" for name in sorted(addresses) for cidr in sorted(addresses[name])]
    excluded += [f"{link_local(leg.mac)}/64 dev {name} scope link" for name, leg in sorted(legs.items())]
    lines += _block("virtual_ipaddress_excluded", [f"{each} no_track" for each in excluded])
    lines += _block("virtual_routes", [_route(way) for way in routes])
    return "\n".join([*lines, "}", ""])


def _route(way: Way) -> str:
    hops = [f"{f'via {by} ' if by else ''}dev {device}" for by, device in way.hops]
    to = hops[0] if len(hops) == 1 else " ".join(f"nexthop {each} weight 1" for each in hops)
    table = "" if way.table == MAIN_TABLE else f"table {way.table} "
    return f"{way.destination} {table}protocol {ROUTE_PROTOCOL} no_track {to}"


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"    {name} {{", *(f"        {line}" for line in lines), "    }"] if lines else []


class Elections:
    """The keepalived of every highly available router of this host. `became(router id, state)` is called in the
    reactor's thread, and from `tell`."""

    def __init__(self, folder: Path, reactor: Reactor, became: Callable[[str, str], None]) -> None:
        self._folder = folder / FOLDER
        self._reactor = reactor
        self._became = became
        self._pipes: dict[str, int] = {}
        self._said: dict[str, str] = {}

    def folder(self, router_id: str) -> Path:
        return self._folder / router_id

    def _keepalived(self, router_id: str, namespace: str) -> Daemon:
        folder = self.folder(router_id)
        words = ["keepalived", "-P", "-f", f"{folder}/conf", "-p", f"{folder}/pid", "-r", f"{folder}/vrrp.pid"]
        return Daemon(folder, namespace, [*words, "-G"])

    def ensure(self, router_id: str, namespace: str, text: str) -> bool:
        """keepalived runs with this configuration; answers whether anything was changed."""
        folder, running = self.folder(router_id), self._keepalived(router_id, namespace)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._listen(router_id, folder / "notify")
        alive, differs = running.pid() is not None, running.differs("conf", text)
        if differs:
            running.write("conf", text, mode=0o600)
        if not alive:
            running.stop()
            running.start()
        elif differs:
            running.signal(signal.SIGHUP)
        return differs or not alive

    def _listen(self, router_id: str, path: Path) -> None:
        if router_id in self._pipes and path.exists():
            return
        self._leave(router_id)
        if not path.exists():
            os.mkfifo(path, 0o600)
        pipe = self._pipes[router_id] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._reactor.soon(lambda: self._reactor.watch(pipe, lambda: self._heard(router_id, pipe)))

    def _heard(self, router_id: str, pipe: int) -> None:
        try:
            lines = os.read(pipe, 4096).decode(errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            words = line.split()
            if len(words) >= 3 and words[0] == "INSTANCE":
                self.tell(router_id, ACTIVE if words[2] == "MASTER" else STANDBY)

    def tell(self, router_id: str, state: str) -> None:
        """Say what state the router is in here, when that is news."""
        if self._said.get(router_id) != state:
            self._said[router_id] = state
            self._became(router_id, state)

    def again(self) -> None:
        """Say every state once more."""
        for router_id, state in list(self._said.items()):
            self._became(router_id, state)

    def remove(self, router_id: str) -> None:
        """End the router's keepalived, which gives up being active, and remove its files."""
        self._leave(router_id)
        self._said.pop(router_id, None)
        folder = self.folder(router_id)
        for number in daemon.processes("keepalived", folder):
            daemon.end(number)
        if folder.is_dir():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()

    def _leave(self, router_id: str) -> None:
        pipe = self._pipes.pop(router_id, None)
        if pipe is not None:
            self._reactor.soon(lambda: self._close(pipe))

    def _close(self, pipe: int) -> None:
        self._reactor.forget(pipe)
        os.close(pipe)

    def folders(self) -> list[str]:
        """The routers that there are files of on this host."""
        return sorted(entry.name for entry in self._folder.iterdir()) if self._folder.is_dir() else []

    def close(self) -> None:
        """Stop listening; keepalived goes on."""
        for router_id in list(self._pipes):
            self._leave(router_id)
