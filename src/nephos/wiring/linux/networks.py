"""Networks on the host: a bridge each, and what joins it to other hosts: a tunnel or the bridge of a physical network."""

from __future__ import annotations

import hashlib
import ipaddress

from nephos.errors import HostFault
from nephos.wiring.base import Network, Physical
from nephos.wiring.linux import names
from nephos.wiring.linux.host import Host
from nephos.wiring.linux.netlink import NTF_SELF, Forward, Link

FLOOD = "00:00:00:00:00:00"


class Networks:
    """Makes networks. `uplinks` tells, after `ensure`, by which device each leaves the host, if it does."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.uplinks: dict[str, str] = {}

    def ensure(self, network: Network, forwards: list[Forward]) -> Link:
        """The network's bridge, joined to where it goes on. HostFault when this host cannot carry it."""
        stack, mark = self._host.stack, self._host.mark("network", network.id)
        self.uplinks.pop(network.id, None)
        bridge = stack.ensure_bridge(names.bridge(network.id), mark, mtu=network.mtu)
        match network.kind:
            case "local":
                pass
            case "vxlan":
                self._tunnel(network, bridge, forwards)
            case "flat":
                self._flat(network, bridge)
            case "vlan":
                raise HostFault("this host's kernel has no 802.1Q (8021q), so it cannot carry VLAN networks")
            case other:
                raise HostFault(f"network type {other!r} is not known to this host")
        return bridge

    def _tunnel(self, network: Network, bridge: Link, forwards: list[Forward]) -> None:
        settings, stack = self._host.settings, self._host.stack
        if network.segment is None:
            raise HostFault("a vxlan network needs its segment, the VNI")
        local = settings.tunnel_address
        if local is None:
            if network.peers:
                raise HostFault("other hosts carry this network, but this host has no tunnel_address set")
            return
        self._check_local(local)
        name = names.tunnel(network.segment)
        link = stack.ensure_tunnel(
            name,
            self._host.mark("tunnel", network.id),
            vni=network.segment,
            local=local,
            port=settings.tunnel_port,
            mtu=network.mtu,
            master=bridge.index,
        )
        self.uplinks[network.id] = name
        wanted = {(FLOOD, peer) for peer in network.peers if peer != local}
        for endpoint in network.endpoints:
            if endpoint.tunnel not in (None, local) and endpoint.mac != network.dhcp_mac:
                wanted.add((endpoint.mac, str(endpoint.tunnel)))
        have = {
            (entry.mac, entry.destination)
            for entry in forwards
            if entry.index == link.index and entry.flags & NTF_SELF and entry.destination
        }
        for mac, target in sorted(have - wanted):
            stack.netlink.change_tunnel_entry(link.index, mac, target, add=False)
        for mac, target in sorted(wanted - have):
            stack.netlink.change_tunnel_entry(link.index, mac, target, add=True)
        stack.changes += len(have ^ wanted)

    def _check_local(self, local: str) -> None:
        """S0-26, S0-27: the tunnel's packets must end on this host, not pass by on a bridge port."""
        stack = self._host.stack
        by_index = {link.index: link for link in stack.links.values()}
        for index, cidr in stack.netlink.addresses():
            if cidr.split("/")[0] != local or index not in by_index:
                continue
            link = by_index[index]
            if link.master and by_index.get(link.master, link).kind == "bridge":
                raise HostFault(
                    f"tunnel_address {local} is on {link.name}, a port of bridge {by_index[link.master].name}: "
                    f"packets for it end at the bridge and never reach {link.name}; put it on the bridge"
                )
            return
        raise HostFault(f"tunnel_address {local} is on no device of this host")

    def _flat(self, network: Network, bridge: Link) -> None:
        """A pair joins the network's bridge to the physical one, so that also frames from the host itself cross the
        network's bridge, where the firewall sees their receiver."""
        physical = self._host.settings.physical.get(network.physical or "")
        if physical is None:
            raise HostFault(f"physical network {network.physical!r} is not mapped on this host")
        stack = self._host.stack
        outer = self.ensure_physical(str(network.physical), physical)
        inner_name, outer_name = names.physical_ends(network.id)
        mark = self._host.mark("uplink", network.id)
        inner = stack.ensure_pair(inner_name, mark, stack, outer_name, mtu=network.mtu)
        stack.ensure(inner, master=bridge.index)
        stack.ensure(stack.links[outer_name], mark=mark, master=outer.index)
        self.uplinks[network.id] = inner_name

    def ensure_physical(self, name: str, physical: Physical) -> Link:
        """The bridge of a physical network. One that was there before is used as it is."""
        stack, record = self._host.stack, self._host.record
        mark = self._host.mark("physical", names.checked(name))
        link = stack.links.get(physical.bridge)
        if link is None or physical.bridge in record.value.bridges:
            if physical.bridge not in record.value.bridges:
                record.value.bridges.append(physical.bridge)
                record.save()
            digest = hashlib.sha256(f"{self._host.cloud}/{physical.bridge}".encode()).digest()
            link = stack.ensure_bridge(physical.bridge, mark, mac="02:" + digest[:5].hex(":"), deaf=False)
        elif link.kind != "bridge":
            raise HostFault(f"{physical.bridge}, set for physical network {name!r}, exists and is no bridge")
        if physical.interface:
            self._enslave(physical.interface, link)
        if physical.address:
            self._address(physical.address, link)
        if physical.masquerade:
            record.set_sysctl("net.ipv4.ip_forward", "1")
        return link

    def _enslave(self, interface: str, bridge: Link) -> None:
        stack = self._host.stack
        port = stack.links.get(interface)
        if port is None:
            raise HostFault(f"uplink {interface} does not exist on this host")
        if port.master == bridge.index:
            return
        if port.master or any(index == port.index for index, _ in stack.netlink.addresses()):
            raise HostFault(
                f"uplink {interface} is in use: it has addresses or another bridge, and the host's own address is "
                f"never moved; make bridge {bridge.name} yourself or choose another interface"
            )
        stack.ensure(port, master=bridge.index)

    def _address(self, cidr: str, bridge: Link) -> None:
        stack, record = self._host.stack, self._host.record
        if (bridge.index, cidr) in stack.netlink.addresses():
            return
        if cidr not in record.value.addresses:
            record.value.addresses[cidr] = bridge.name
            record.save()
        stack.netlink.change_address(bridge.index, cidr, add=True)
        stack.changes += 1

    def masqueraded(self, physical_names: set[str]) -> list[tuple[str, str]]:
        """(bridge, range) of the physical networks in use that may reach the outside through the host."""
        found = []
        for name in sorted(physical_names):
            physical = self._host.settings.physical.get(name)
            if physical is not None and physical.masquerade and physical.address:
                found.append((physical.bridge, str(ipaddress.ip_interface(physical.address).network)))
        return found
