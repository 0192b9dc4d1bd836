"""IPv6 router advertisements (RFC 4861) of a router's legs by radvd: prefixes, MTU, name servers, and how guests get
their addresses.

Neutron's ipv6_ra_mode says what is advertised: slaac (guests make their addresses), dhcpv6-stateless (the same, and ask
DHCPv6 for the rest), dhcpv6-stateful (DHCPv6 for all); a subnet without it is not advertised.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from nephos.wiring.base import Network, Router, Subnet
from nephos.wiring.linux.system import daemon, names
from nephos.wiring.linux.system.daemon import Daemon

FOLDER = "radvd"


def configuration(router: Router, networks: Mapping[str, Network]) -> str:
    """radvd.conf(5), empty when there is nothing to advertise."""
    text = []
    for leg in sorted(router.interfaces, key=lambda one: one.port_id):
        network = networks.get(leg.network_id)
        own = {address.subnet_id for address in leg.addresses}
        subnets = [one for one in network.subnets if one.id in own and one.ra_mode] if network is not None else []
        if network is not None and subnets:
            text.append(_interface(names.leg_device(leg.port_id, gateway=False), network, subnets))
    return "".join(text)


def _interface(device: str, network: Network, subnets: list[Subnet]) -> str:
    modes = {subnet.ra_mode for subnet in subnets}
    lines = [
        f"interface {device} {{",
        "    AdvSendAdvert on;",
        "    IgnoreIfMissing on;",
        "    MinRtrAdvInterval 30;",
        "    MaxRtrAdvInterval 100;",
        f"    AdvLinkMTU {network.mtu};",
    ]
    if "dhcpv6-stateful" in modes:
        lines.append("    AdvManagedFlag on;")
    if modes & {"dhcpv6-stateful", "dhcpv6-stateless"}:
        lines.append("    AdvOtherConfigFlag on;")
    servers = []
    for subnet in subnets:
        autonomous = "off" if subnet.ra_mode == "dhcpv6-stateful" else "on"
        lines += [
            f"    prefix {subnet.cidr} {{",
            "        AdvOnLink on;",
            f"        AdvAutonomous {autonomous};",
            "    };",
        ]
        if subnet.ra_mode != "dhcpv6-stateful":
            servers += [one for one in subnet.dns or (subnet.dhcp_address,) if one and ":" in one]
    if servers:
        lines.append(f"    RDNSS {' '.join(dict.fromkeys(servers))} {{}};")
    return "\n".join([*lines, "};", ""])


class Advertisers:
    """The radvd of every router of this host that advertises something."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def _radvd(self, router_id: str, namespace: str) -> Daemon:
        folder = self._folder / router_id
        words = ["radvd", "-C", f"{folder}/conf", "-p", f"{folder}/pid", "-m", "logfile", "-l", f"{folder}/log"]
        return Daemon(folder, namespace, words)

    def ensure(self, router_id: str, namespace: str, text: str) -> bool:
        """radvd runs with this configuration, or not at all for an empty one; answers whether anything was changed."""
        folder, running = self._folder / router_id, self._radvd(router_id, namespace)
        if not text:
            there = folder.is_dir()
            self.remove(router_id)
            return there
        folder.mkdir(parents=True, exist_ok=True)
        alive, differs = running.pid() is not None, running.differs("conf", text)
        if differs:
            running.write("conf", text)
        if not alive:
            running.stop()
            running.start()
        elif differs:
            running.signal(signal.SIGHUP)
        return differs or not alive

    def remove(self, router_id: str) -> None:
        folder = self._folder / router_id
        if not folder.is_dir():
            return
        for number in daemon.processes("radvd", folder):
            daemon.end(number)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def folders(self) -> list[str]:
        """The routers that there are files of on this host."""
        return sorted(entry.name for entry in self._folder.iterdir()) if self._folder.is_dir() else []
