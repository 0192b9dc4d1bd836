"""Networks on the host: a bridge each, where guests, DHCP and routers are plugged in, joined to other hosts by a switch."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from nephos.errors import HostFault
from nephos.wiring.base import Leftover, Network
from nephos.wiring.linux.system import names
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.netlink import Forward, Link


class Joined(NamedTuple):
    """What joins a network's bridge to elsewhere: `uplinks` are ports of the bridge, `more` other devices it takes."""

    uplinks: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


class Switch(Protocol):
    """What leads from the networks' bridges to other hosts. A pass is `begin`, `join` for each network, `settle`."""

    def check(self) -> None:
        """Raises HostFault when it cannot work on this host, with the reason."""
        ...

    def begin(self) -> None:
        """A pass begins. Raises HostFault when the switch cannot be had at all."""
        ...

    def join(self, network: Network, bridge: Link, forwards: list[Forward]) -> Joined:
        """Join a network that is not local. Raises HostFault when this host cannot carry it."""
        ...

    def settle(self) -> None:
        """Put in force what `join` only noted, and remove what nobody asked for. Raises HostFault."""
        ...

    def overheard(self) -> tuple[str, ...]:
        """The devices, after `settle`, whose frames the switch reads while the host's own stack gets them too, and must not
        take them for its own."""
        ...

    def proof(self, name: str, number: int, peers: Mapping[str, str]) -> Link | None:
        """A device on a VXLAN network of its own that leads to the peers (tunnel address → MAC), and whose packets are not
        fragmented; without peers it goes. None when there is none, or not before the next pass."""
        ...

    def proof_round(self, number: int, peers: Mapping[str, str]) -> Mapping[str, Link]:
        """As `proof`, by the fall-back: peer → the device that leads to it; without those that do not yet."""
        ...

    def faults(self, network: Network) -> Iterator[str]:
        """What of the switch, besides devices of the host, is not as the last pass left it and a network that is joined
        needs it, in words. May come from any thread. Raises HostFault when the switch does not answer."""
        ...

    def leftovers(self, networks: dict[str, Network]) -> list[Leftover]:
        """What the switch holds that these networks do not account for; devices are told by `inventory`."""
        ...

    def purge(self) -> None:
        """Remove the switch itself; the networks are gone already."""
        ...


class Networks:
    """Makes networks. `uplinks` tells, after `ensure`, by which ports of its bridge each leaves the host, if it does."""

    def __init__(self, host: Host, switch: Switch) -> None:
        self._host = host
        self._switch = switch
        self._fault: HostFault | None = None
        self._devices: dict[str, list[str]] = {}
        self.joined: set[str] = set()
        self.uplinks: dict[str, tuple[str, ...]] = {}

    def begin(self) -> None:
        """A pass begins."""
        self._devices, self.joined = {}, set()
        for link in self._host.stack.links.values():
            mark = names.Mark.parse(link.alias)
            if mark is not None and mark.cloud == self._host.cloud and mark.kind in ("tunnel", "uplink"):
                self._devices.setdefault(mark.id, []).append(link.name)
        try:
            self._switch.begin()
            self._fault = None
        except HostFault as problem:
            self._fault = problem

    def ensure(self, network: Network, forwards: list[Forward]) -> Link:
        """The network's bridge, joined to where it goes on. HostFault when this host cannot carry it."""
        stack, mark = self._host.stack, self._host.mark("network", network.id)
        self.uplinks.pop(network.id, None)
        bridge = stack.ensure_bridge(names.bridge(network.id), mark, mtu=network.mtu)
        joined = Joined()
        if network.kind != "local":
            if self._fault is not None:
                raise self._fault
            joined = self._switch.join(network, bridge, forwards)
            self.joined.add(network.id)
        for name in self._devices.get(network.id, ()):
            if name not in (*joined.uplinks, *joined.more):
                stack.remove(name)
        for name in joined.uplinks:
            stack.isolate(stack.links[name])
        if joined.uplinks:
            self.uplinks[network.id] = joined.uplinks
        return bridge

    def settle(self) -> None:
        """The networks are all there. Raises HostFault when those that joined are not connected all the same."""
        if self._fault is None:
            self._switch.settle()

    def overheard(self) -> tuple[str, ...]:
        """See `Switch.overheard`; none where the switch cannot be had."""
        return () if self._fault is not None else self._switch.overheard()

    def forget(self, network_id: str) -> None:
        self.uplinks.pop(network_id, None)

    def masqueraded(self, physical_names: set[str]) -> list[tuple[str, str]]:
        """(bridge, range) of the physical networks in use that may reach the outside through the host."""
        found = []
        for name in sorted(physical_names):
            physical = self._host.settings.physical.get(name)
            if physical is not None and physical.masquerade and physical.address:
                found.append((physical.bridge, str(ipaddress.ip_interface(physical.address).network)))
        return found


def absent(host: Host) -> tuple[str, ...]:
    """The bridges of physical networks that this cloud made and the host itself is not on: without an address, and without
    VLANs on them, which would be deaf with them."""
    stack = host.stack
    used = {index for index, cidr in stack.netlink.addresses() if not cidr.startswith("fe80:")}
    used |= {link.parent for link in stack.links.values() if link.kind == "vlan"}
    found = set()
    for physical in host.settings.physical.values():
        link = stack.links.get(physical.bridge)
        if link is not None and (link.kind != "bridge" or physical.bridge in host.record.value.bridges):
            found |= {physical.bridge} if physical.address is None and link.index not in used else set()
    return tuple(sorted(found))


def absent_ports(host: Host) -> tuple[str, ...]:
    """The devices that are ports of such bridges of the kernel."""
    links = host.stack.links
    bridges = {links[name].index for name in absent(host)}
    return tuple(sorted(link.name for link in links.values() if link.master in bridges))


def mapped(host: Host, network: Network) -> tuple[str, str]:
    """(physical network, its bridge) of a flat or VLAN network. Raises HostFault when this host has it not."""
    physical = host.settings.physical.get(network.physical or "")
    if physical is None:
        raise HostFault(f"physical network {network.physical!r} is not mapped on this host")
    return str(network.physical), physical.bridge


def numbered(network: Network) -> int:
    """The network's segment id. Raises HostFault when it has none."""
    if network.segment is None:
        raise HostFault(f"a {network.kind} network needs its segment, the number that it goes by")
    return network.segment
