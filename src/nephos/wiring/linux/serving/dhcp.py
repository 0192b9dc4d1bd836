"""DHCP and the names of a network: dnsmasq's files, and one dnsmasq a network. Leases are read from the file it keeps."""

from __future__ import annotations

import ipaddress
import re
import signal
from pathlib import Path
from typing import NamedTuple

from nephos.wiring.base import Endpoint, Network, Subnet
from nephos.wiring.linux.system.daemon import Daemon
from nephos.wiring.linux.system.names import METADATA

LEASE_SECONDS = 86400
_HOSTNAME = re.compile(r"[0-9a-zA-Z]([0-9a-zA-Z-]{0,61}[0-9a-zA-Z])?(\.[0-9a-zA-Z]([0-9a-zA-Z-]{0,61}[0-9a-zA-Z])?)*\Z")
_OPTION = re.compile(r"[0-9a-z-]{1,40}\Z")
_TAGGED = "set:port-"
_VALUE = re.compile(r"[\x20-\x7e]{0,255}\Z")


class Files(NamedTuple):
    """The texts that dnsmasq is run with. A change of `conf` needs a restart, of the others a SIGHUP."""

    conf: str
    hosts: str
    options: str
    names: str


class Lease(NamedTuple):
    """A line of the lease file. `mac` is empty for DHCPv6."""

    mac: str
    address: str


def files(network: Network, device: str, folder: Path) -> Files:
    """What dnsmasq needs to serve the network on `device`."""
    served = [subnet for subnet in network.subnets if subnet.dhcp and subnet.dhcp_address and leases(subnet)]
    domain = network.domain.strip(".")
    domain = domain if _HOSTNAME.match(domain) else ""
    conf = [
        "no-hosts",
        "no-resolv",
        "server=127.0.0.1",
        f"interface={device}",
        "except-interface=lo",
        "bind-dynamic",
        f"user={_user(folder)}",
        "group=nogroup",
        "dhcp-authoritative",
        f"dhcp-lease-max={1 << 20}",
        f"dhcp-hostsfile={folder}/hosts",
        f"dhcp-optsfile={folder}/options",
        f"addn-hosts={folder}/names",
        f"dhcp-leasefile={folder}/leases",
        f"pid-file={folder}/pid",
        f"log-facility={folder}/log",
        f"dhcp-option-force=option:mtu,{network.mtu}",
        *([f"domain={domain}", f"local=/{domain}/"] if domain else []),
        *(_range(subnet) for subnet in served),
    ]
    hosts, options, found = [], [], []
    for subnet in served:
        options += _subnet_options(subnet)
    within = {subnet.id for subnet in served}
    for endpoint in sorted(network.endpoints, key=lambda one: one.port_id):
        if endpoint.mac == network.dhcp_mac:
            continue
        hosts += _host(endpoint, within)
        options += _endpoint_options(endpoint)
        found += _names(endpoint, domain)
    return Files(*("\n".join(lines) + "\n" for lines in (conf, hosts, options, found)))


def _user(folder: Path) -> str:
    """Whom dnsmasq becomes when its sockets are open: nobody, unless nobody could not read its files again then."""
    return "nobody" if all(each.stat().st_mode & 0o001 for each in folder.parents if each.exists()) else "root"


def _tag(subnet_id: str) -> str:
    return f"subnet-{subnet_id}"


def leases(subnet: Subnet) -> bool:
    """Whether guests ask for something there: not where they give themselves addresses and know the rest from RAs."""
    modes = (subnet.ra_mode, subnet.address_mode)
    return (
        subnet.version == 4 or subnet.address_mode in ("dhcpv6-stateful", "dhcpv6-stateless") or modes == (None, None)
    )


def _range(subnet: Subnet) -> str:
    """A range of leases that are all in the hosts file. Where guests give themselves their IPv6 addresses
    (dhcpv6-stateless) it only makes dnsmasq answer questions for options."""
    network = ipaddress.ip_network(subnet.cidr)
    head = f"dhcp-range=set:{_tag(subnet.id)},{network.network_address},static"
    if network.version == 4:
        return f"{head},{network.netmask},{LEASE_SECONDS}s"
    return f"{head},{network.prefixlen},{LEASE_SECONDS}s"


def _subnet_options(subnet: Subnet) -> list[str]:
    tag = _tag(subnet.id)
    if subnet.version == 6:
        servers = ",".join(f"[{server}]" for server in subnet.dns or (subnet.dhcp_address,) if server)
        return [f"tag:{tag},option6:dns-server,{servers}"] if servers else []
    servers = ",".join(server for server in subnet.dns or (subnet.dhcp_address,) if server)
    routes = [f"{METADATA}/32,{subnet.dhcp_address}"]
    routes += [f"{route.destination},{route.nexthop}" for route in subnet.routes]
    if subnet.gateway:
        routes.append(f"0.0.0.0/0,{subnet.gateway}")
    lines = [f"tag:{tag},option:dns-server,{servers}"] if servers and servers != "0.0.0.0" else []
    lines.append(f"tag:{tag},option:classless-static-route,{','.join(routes)}")
    lines.append(f"tag:{tag},249,{','.join(routes)}")
    # An empty router option keeps dnsmasq from naming itself as the gateway of a subnet that has none.
    lines.append(f"tag:{tag},option:router,{subnet.gateway}" if subnet.gateway else f"tag:{tag},option:router")
    return lines


def _host(endpoint: Endpoint, served: set[str]) -> list[str]:
    name = f",{endpoint.hostname}" if endpoint.hostname and _HOSTNAME.match(endpoint.hostname) else ""
    lines = []
    for address in endpoint.addresses:
        if address.subnet_id in served:
            shown = f"[{address.address}]" if ":" in address.address else address.address
            tag = f",{_TAGGED}{endpoint.port_id}" if endpoint.dhcp_options or endpoint.dhcp6_options else ""
            lines.append(f"{endpoint.mac}{tag}{name},{shown}")
    return lines


def _endpoint_options(endpoint: Endpoint) -> list[str]:
    """A port's extra DHCP options, by name or number; what dnsmasq could misread is left out."""
    lines = []
    for name, value in endpoint.dhcp_options:
        if _OPTION.match(name) and _VALUE.match(value):
            shown = name if name.isdigit() else f"option:{name}"
            lines.append(f"tag:port-{endpoint.port_id},{shown},{value}")
    for name, value in endpoint.dhcp6_options:
        if _OPTION.match(name) and _VALUE.match(value):
            lines.append(f"tag:port-{endpoint.port_id},option6:{name},{value}")
    return lines


def _names(endpoint: Endpoint, domain: str) -> list[str]:
    if not endpoint.hostname or not _HOSTNAME.match(endpoint.hostname):
        return []
    full = f"{endpoint.hostname}.{domain} " if domain else ""
    return [f"{address.address} {full}{endpoint.hostname}" for address in endpoint.addresses]


def read_leases(path: Path) -> list[Lease]:
    """The leases in dnsmasq's file; none when there is no file."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found, six = [], False
    for line in lines:
        words = line.split()
        six = six or words[:1] == ["duid"]
        if len(words) >= 4:
            found.append(Lease("" if six else words[1], words[2]))
    return found


class Dnsmasq(Daemon):
    """The dnsmasq of one network, in its namespace, with its files in one folder."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__(folder, namespace, ["dnsmasq", f"--conf-file={folder}/conf"])

    @property
    def lease_file(self) -> Path:
        return self.folder / "leases"

    def ensure(self, wanted: Files) -> bool:
        """Serve with these texts; answers whether anything was changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        running = self.pid()
        restart = running is None or self.differs("conf", wanted.conf) or self._stale_leases(wanted.hosts)
        reload = False
        if _TAGGED in (self.read("hosts") or "") and any(
            self.differs(name, text) for name, text in (("hosts", wanted.hosts), ("options", wanted.options))
        ):
            # dnsmasq (2.86 to 2.90 at least) dies on SIGHUP once it has leased to a host that sets a tag.
            restart = True
        if restart:
            self.stop()
        for name, text in (("hosts", wanted.hosts), ("options", wanted.options), ("names", wanted.names)):
            if self.differs(name, text):
                self.write(name, text)
                reload = True
        if restart:
            self.write("conf", wanted.conf)
            self._prune_leases(wanted.hosts)
            self._start()
        elif reload and running is not None:
            self.signal(signal.SIGHUP)
        return restart or reload

    def _start(self) -> None:
        log_file = self.folder / "log"
        if log_file.exists() and log_file.stat().st_size > 1 << 20:
            log_file.unlink()
        self.start()

    def _owners(self, hosts: str) -> dict[str, str]:
        rows = (line.split(",") for line in hosts.splitlines() if line)
        return {row[-1]: row[0] for row in rows}

    def _stale_leases(self, hosts: str) -> bool:
        """Whether an address is leased to a MAC that no longer owns it: dnsmasq would refuse it to the new owner."""
        owners = self._owners(hosts)
        return any(
            lease.mac and owners.get(lease.address, lease.mac) != lease.mac for lease in read_leases(self.lease_file)
        )

    def _prune_leases(self, hosts: str) -> None:
        owners = self._owners(hosts)
        try:
            lines = self.lease_file.read_text(errors="replace").splitlines(keepends=True)
        except OSError:
            return
        kept = []
        for line in lines:
            words = line.split()
            if len(words) < 4 or words[0] == "duid" or ":" in words[2] or owners.get(words[2]) == words[1]:
                kept.append(line)
        self.write("leases", "".join(kept))
