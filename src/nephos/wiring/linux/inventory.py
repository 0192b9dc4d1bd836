"""What of this cloud is on the host: for removing what nobody wants, for audit, and for purge."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

from nephos.errors import HostFault
from nephos.wiring.base import Desired, Leftover, Network
from nephos.wiring.linux.routers import advertise, vrrp
from nephos.wiring.linux.system import daemon, names, netns, nft
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.names import Mark
from nephos.wiring.linux.system.netlink import Link

_FAMILIES = ("bridge", "inet", "ip", "arp")
_KEPT = ("physical", "overlay", "probe")
log = logging.getLogger(__name__)
_KINDS = {"port": "tap", "network": "bridge", "physical": "bridge", "tunnel": "tunnel", "uplink": "veth",
          "dhcp": "veth", "leg": "veth"}  # fmt: skip


class Wanted(NamedTuple):
    """Names of namespaces, and marks by device kind, that a desired state accounts for."""

    namespaces: set[str]
    marks: set[tuple[str, str]]


def serves(network: Network, desired: Desired) -> bool:
    """Guests of a network need its namespace on their own host: for DHCP, and for metadata without DHCP too."""
    return network.dhcp_mac is not None or any(port.network_id == network.id for port in desired.ports.values())


def wanted(desired: Desired) -> Wanted:
    found = Wanted(set(), set())
    for network in desired.networks.values():
        found.marks.update((kind, network.id) for kind in ("network", "tunnel", "uplink"))
        if serves(network, desired):
            found.namespaces.add(names.dhcp_namespace(network.id))
            found.marks.add(("dhcp", network.id))
    for port in desired.ports.values():
        found.marks.add(("port", port.id))
        if port.limits is not None and port.limits.sent_kbits is not None:
            found.marks.add(("limit", port.id))
    for router in desired.routers.values():
        if not router.admin_up:
            continue
        found.namespaces.add(names.router_namespace(router.id))
        found.marks.update(("leg", f"{router.id}/{leg.port_id}") for leg in router.legs)
    return found


def _own(host: Host, link: Link) -> Mark | None:
    mark = Mark.parse(link.alias)
    return mark if mark is not None and mark.cloud == host.cloud else None


def unwanted_links(host: Host, accounted: Wanted) -> list[str]:
    """This cloud's devices that nothing wants; bridges come last. Bridges of physical networks stay until purge, and the
    devices of probes are looked after by who made them."""
    found = []
    for link in host.stack.links.values():
        mark = _own(host, link)
        if mark is not None and mark.kind not in _KEPT and (mark.kind, mark.id) not in accounted.marks:
            found.append(link)
    return [link.name for link in sorted(found, key=lambda link: link.kind == "bridge")]


def leftovers(host: Host, table: str, chains: set[tuple[str, str]], desired: Desired) -> list[Leftover]:
    """Devices, namespaces, daemons, files and rules of this cloud that `desired` does not account for.

    `chains` are those of our own tables that were wanted last; when none were, chains are not looked at.

    A namespace named like ours that carries nobody's mark is told too, though never removed.
    """
    accounted = wanted(desired)
    found = []
    for name in unwanted_links(host, accounted):
        mark = _own(host, host.stack.links[name])
        if mark is not None:
            found.append(Leftover(kind=_KINDS.get(mark.kind, "device"), name=name, why=f"no {mark.kind} {mark.id}"))
    for name in netns.listing():
        if name.startswith((names.DHCP_NAMESPACE, names.ROUTER_NAMESPACE)) and name not in accounted.namespaces:
            known = name in host.record.value.namespaces
            why = "nothing wanted owns it" if known else "named like ours, but this host has no record of making it"
            found.append(Leftover(kind="namespace", name=name, why=why))
    folder = host.folder / "dhcp"
    serving = {net for net in desired.networks if ("dhcp", net) in accounted.marks}
    for number in daemon.processes("dnsmasq", folder):
        network = _network_of(number, folder)
        if network not in serving:
            found.append(Leftover(kind="dnsmasq", name=str(number), why=f"serves network {network}, which is not here"))
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name not in serving:
                found.append(Leftover(kind="file", name=str(entry), why=f"no network {entry.name} is served here"))
    for name in (vrrp.FOLDER, advertise.FOLDER):
        of_routers = host.folder / name
        for entry in sorted(of_routers.iterdir()) if of_routers.is_dir() else ():
            if names.ROUTER_NAMESPACE + entry.name not in accounted.namespaces:
                found.append(Leftover(kind="file", name=str(entry), why=f"no router {entry.name} is here"))
    return found + _rules(table, chains)


def _network_of(number: int, folder: Path) -> str:
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    prefix = f"--conf-file={folder}/"
    return next((word.removeprefix(prefix).split("/")[0] for word in words if word.startswith(prefix)), "?")


def _rules(table: str, chains: set[tuple[str, str]]) -> list[Leftover]:
    """Chains in our tables that we did not write, and tables of our name in families that we do not use."""
    found = []
    for item in json.loads(nft.run(None, "-j", "list", "chains"))["nftables"]:
        chain = item.get("chain")
        if chain and chains and chain["table"] == table and (chain["family"], chain["name"]) not in chains:
            name = f"{chain['family']} {table} {chain['name']}"
            found.append(Leftover(kind="rule", name=name, why="a chain in our table that nothing wanted needs"))
    for item in json.loads(nft.run(None, "-j", "list", "tables"))["nftables"]:
        other = item.get("table")
        if other and other["name"].startswith(table) and _foreign_to_us(other, table):
            why = "carries our name, but is no part of the ruleset"
            found.append(Leftover(kind="rule", name=f"{other['family']} {other['name']}", why=why))
    return found


def _foreign_to_us(found: dict[str, Any], table: str) -> bool:
    return found["name"] != table or found["family"] not in _FAMILIES


def purge(host: Host, table: str) -> None:
    """Remove what is left after every item is gone: physical bridges we made, addresses, tables, daemons, files."""
    stack, record = host.stack, host.record
    stack.load()
    for link in list(stack.links.values()):
        if _own(host, link) is not None:
            stack.remove(link.name)
    for cidr, bridge in list(record.value.addresses.items()):
        link_of = stack.links.get(bridge)
        if link_of is not None and (link_of.index, cidr) in stack.netlink.addresses():
            stack.netlink.change_address(link_of.index, cidr, add=False)
        del record.value.addresses[cidr]
    record.value.bridges = []
    record.value.zones = {}
    record.save()
    for family in _FAMILIES:
        try:
            nft.run(None, "delete", "table", family, table)
        except HostFault:
            log.debug("no table %s %s to delete", family, table)
    for name in ("dhcp", vrrp.FOLDER, advertise.FOLDER):
        folder = host.folder / name
        if folder.is_dir():
            folder.rmdir()
