"""The switch that is made of the kernel's own devices: bridges, VXLAN, GRE and Geneve tunnels, VLAN sub-interfaces."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping

from nephos.errors import HostFault
from nephos.wiring.base import Leftover, Network, Physical
from nephos.wiring.linux.switch import detour, underlay
from nephos.wiring.linux.switch.detour import GENEVE_PORT
from nephos.wiring.linux.switch.networks import Joined, mapped, numbered
from nephos.wiring.linux.system import names, netlink
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.netlink import NTF_SELF, Forward, Link, attribute, packed

FLOOD = "00:00:00:00:00:00"
_LACKS = {
    "vlan": "has no 802.1Q (8021q), so it cannot carry VLAN networks",
    "gretap": "has no GRE (ip_gre), so it cannot carry GRE networks",
    "ip6gretap": "has no GRE over IPv6 (ip6_gre), so it cannot carry GRE networks",
    "geneve": "has no Geneve (geneve), so it cannot carry Geneve networks",
}


class KernelSwitch:
    """`networks.Switch` on the kernel's devices.

    VXLAN is one device a network that learns nothing: the ledger knows where every MAC is, and what is for all goes to
    each peer by name, without multicast (S0-33, S2-51). GRE and Geneve devices know one peer each (S2-50), so there is
    one for each peer; their bridge ports are isolated from each other, lest frames run in circles between hosts. So it
    is with the way round a blocked VXLAN.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self) -> None:
        """See `Switch.check`."""
        self._host.stack.load()
        if self._host.settings.underlay is not None:
            self.ensure_physical("underlay", self._host.settings.underlay)
        if self._host.settings.tunnel_address is not None:
            underlay.check(self._host.stack, self._host.settings.tunnel_address)
        self._check_fallback()

    def _check_fallback(self) -> None:
        """By making such a device: where the kernel has it as a module, it is loaded."""
        settings, stack = self._host.settings, self._host.stack
        if settings.tunnel_fallback is None or settings.tunnel_address is None:
            return
        nobody = "2001:db8::1" if ":" in settings.tunnel_address else "192.0.2.1"
        name, mark = names.detour(0, nobody), self._host.mark("tunnel", "trial")
        kind, data = self._around(0, settings.tunnel_address, nobody)
        try:
            self._device(name, kind, mark, data)
        except HostFault as problem:
            raise HostFault(f"host.tunnel_fallback is {settings.tunnel_fallback}, but {problem}") from problem
        stack.remove(name)

    def begin(self) -> None:
        """See `Switch.begin`."""
        if self._host.settings.underlay is not None:
            self.ensure_physical("underlay", self._host.settings.underlay)

    def join(self, network: Network, bridge: Link, forwards: list[Forward]) -> Joined:
        """See `Switch.join`."""
        match network.kind:
            case "vxlan":
                return self._vxlan(network, bridge, forwards)
            case "gre" | "geneve":
                return self._pairwise(network, bridge)
            case "flat":
                return self._flat(network, bridge)
            case "vlan":
                return self._vlan(network, bridge)
            case other:
                raise HostFault(f"network type {other!r} is not known to this host")

    def settle(self) -> None:
        """See `Switch.settle`: nothing was put off."""

    def proof(self, name: str, number: int, peers: Mapping[str, str]) -> Link | None:
        """See `Switch.proof`."""
        stack, settings = self._host.stack, self._host.settings
        local, port = settings.tunnel_address, settings.tunnel_port
        link = stack.links.get(name)
        mark = self._host.mark("overlay", f"{local}/{port}")
        if link is not None and (not peers or local is None or link.alias != str(mark)):
            stack.remove(name)
            link = None
        if not peers or local is None:
            return None
        if link is None:
            place = netlink.VXLAN_LOCAL6 if ":" in local else netlink.VXLAN_LOCAL
            data = attribute(netlink.VXLAN_ID, number) + attribute(place, packed(local))
            data += attribute(netlink.VXLAN_PORT, struct.pack(">H", port))
            data += attribute(netlink.VXLAN_LEARNING, b"\0") + attribute(netlink.VXLAN_DF, b"\1")
            stack.netlink.add_link(name, "vxlan", data=data)
            stack.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
            link = stack.ensure(stack.fresh(name), mark=mark)
        self._entries(link, {(mac, peer) for peer, mac in peers.items()}, stack.netlink.forwards())
        return link

    def overheard(self) -> tuple[str, ...]:
        """See `Switch.overheard`: what comes in by a port of a bridge the kernel gives to the bridge alone."""
        return ()

    def faults(self, network: Network) -> Iterator[str]:
        """See `Switch.faults`: it is all devices, which whoever looks for faults knows."""
        return iter(())

    def proof_round(self, number: int, peers: Mapping[str, str]) -> Mapping[str, Link]:
        """See `Switch.proof_round`."""
        stack, local = self._host.stack, self._host.settings.tunnel_address
        mark = self._host.mark("overlay", "detour")
        found = {}
        for peer in peers if local is not None else ():
            kind, data = self._around(number, str(local), peer)
            if kind == "geneve":
                data[netlink.GENEVE_DF] = b"\1"
            found[peer] = self._device(names.detour(number, peer), kind, mark, data)
        kept = {link.name for link in found.values()}
        for name in [link.name for link in stack.links.values() if link.alias == str(mark)]:
            if name not in kept:
                stack.remove(name)
        return found

    def leftovers(self, networks: dict[str, Network]) -> list[Leftover]:
        """See `Switch.leftovers`: it is all devices."""
        return []

    def purge(self) -> None:
        """See `Switch.purge`: it is all devices."""

    # ---- tunnels ----------------------------------------------------------------------------------------------

    def _local(self, network: Network) -> str | None:
        """The tunnel address; None where there is neither address nor peer. HostFault when it cannot serve."""
        local = self._host.settings.tunnel_address
        if local is None:
            if network.peers:
                raise HostFault("other hosts carry this network, but this host has no tunnel_address set")
            return None
        underlay.check(self._host.stack, local, network.peers)
        return local

    def _vxlan(self, network: Network, bridge: Link, forwards: list[Forward]) -> Joined:
        stack, vni, local = self._host.stack, numbered(network), self._local(network)
        if local is None:
            return Joined()
        name = names.tunnel(vni)
        link = stack.ensure_tunnel(
            name,
            self._host.mark("tunnel", network.id),
            vni=vni,
            local=local,
            port=self._host.settings.tunnel_port,
            mtu=network.mtu,
            master=bridge.index,
        )
        around = detour.peers(self._host.settings, network)
        wanted = {(FLOOD, peer) for peer in network.peers if peer != local and peer not in around}
        for endpoint in network.endpoints:
            if endpoint.tunnel not in (None, local, *around) and endpoint.mac != network.dhcp_mac:
                wanted.add((endpoint.mac, str(endpoint.tunnel)))
        self._entries(link, wanted, forwards)
        if not around:
            return Joined((name,))
        ways = [self._detour(network, bridge, vni, local, peer) for peer in sorted(around)]
        if any(new for _, new in ways):
            # What was learned of their guests leads into the VXLAN device, which knows them no more.
            stack.netlink.flush_port(link.index)
        return Joined((name, *(way for way, _ in ways)))

    def _detour(self, network: Network, bridge: Link, vni: int, local: str, peer: str) -> tuple[str, bool]:
        """The device to a peer that VXLAN does not reach, and whether it is new."""
        name = names.detour(vni, peer)
        before = self._host.stack.links.get(name)
        kind, data = self._around(vni, local, peer)
        link = self._port_to(network, bridge, name, kind, data)
        return name, before is None or before.index != link.index

    def _around(self, vni: int, local: str, peer: str) -> tuple[str, dict[int, bytes]]:
        settings = self._host.settings
        fallback = settings.tunnel_fallback
        assert fallback is not None
        return self._point_to_point(fallback.kind, detour.number(settings, vni), local, peer, fallback.port)

    def _port_to(self, network: Network, bridge: Link, name: str, kind: str, data: dict[int, bytes]) -> Link:
        """A network's tunnel device to one peer, as a port of its bridge."""
        link = self._device(name, kind, self._host.mark("tunnel", network.id), data)
        return self._host.stack.ensure(link, mtu=network.mtu, master=bridge.index)

    def _entries(self, link: Link, wanted: set[tuple[str, str]], forwards: list[Forward]) -> None:
        """Make the forwarding entries (MAC, peer) of a VXLAN device exactly these."""
        stack = self._host.stack
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

    def _pairwise(self, network: Network, bridge: Link) -> Joined:
        number, local = numbered(network), self._local(network)
        detour.check_key(self._host.settings, network)
        found = []
        for peer in network.peers if local is not None else ():
            kind, data = self._point_to_point(network.kind, number, str(local), peer)
            name = names.pair_tunnel(network.kind, number, peer)
            self._port_to(network, bridge, name, kind, data)
            found.append(name)
        return Joined(tuple(found))

    def _point_to_point(
        self, kind: str, number: int, local: str, peer: str, port: int = GENEVE_PORT
    ) -> tuple[str, dict[int, bytes]]:
        if kind == "geneve":
            place = netlink.GENEVE_REMOTE6 if ":" in peer else netlink.GENEVE_REMOTE
            return "geneve", {
                netlink.GENEVE_ID: struct.pack("=I", number),
                place: packed(peer),
                netlink.GENEVE_PORT: struct.pack(">H", port),
            }
        flags, key = struct.pack(">H", netlink.GRE_KEY), struct.pack(">I", number)
        return "ip6gretap" if ":" in peer else "gretap", {
            netlink.GRE_IN_FLAGS: flags,
            netlink.GRE_OUT_FLAGS: flags,
            netlink.GRE_IN_KEY: key,
            netlink.GRE_OUT_KEY: key,
            netlink.GRE_LOCAL: packed(local),
            netlink.GRE_REMOTE: packed(peer),
        }

    def _device(self, name: str, kind: str, mark: names.Mark, data: dict[int, bytes], parent: int = 0) -> Link:
        """A device of this kind with these attributes, made anew when it differs."""
        stack = self._host.stack
        link = stack.owned(name, kind, mark)
        if link is not None and (
            (parent and link.parent != parent) or any(link.data.get(at) != raw for at, raw in data.items())
        ):
            stack.remove(name)
            link = None
        if link is None:
            extra = attribute(netlink.IFLA_LINK, parent) if parent else b""
            body = b"".join(attribute(at, raw) for at, raw in data.items())
            try:
                stack.netlink.add_link(name, kind, data=body, extra=extra)
            except OSError as problem:
                if problem.errno == errno.EOPNOTSUPP and kind in _LACKS:
                    raise HostFault(f"this host's kernel {_LACKS[kind]}") from problem
                raise
            link = stack.fresh(name)
            stack.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
        return stack.ensure(link, mark=mark)

    # ---- physical networks ------------------------------------------------------------------------------------

    def _flat(self, network: Network, bridge: Link) -> Joined:
        """A pair joins the network's bridge to the physical one, so that also frames from the host itself cross the
        network's bridge, where the firewall sees their receiver."""
        name, _ = mapped(self._host, network)
        stack = self._host.stack
        outer = self.ensure_physical(name, self._host.settings.physical[name])
        inner_name, outer_name = names.physical_ends(network.id)
        mark = self._host.mark("uplink", network.id)
        inner = stack.ensure_pair(inner_name, mark, stack, outer_name, mtu=network.mtu)
        stack.ensure(inner, master=bridge.index)
        stack.ensure(stack.links[outer_name], mark=mark, master=outer.index)
        return Joined((inner_name,), (outer_name,))

    def _vlan(self, network: Network, bridge: Link) -> Joined:
        """A sub-interface of the uplink, or of the physical bridge where there is no uplink of its own (S3-45)."""
        name, _ = mapped(self._host, network)
        physical, tag, stack = self._host.settings.physical[name], numbered(network), self._host.stack
        outer = self.ensure_physical(name, physical)
        parent = stack.links[physical.interface] if physical.interface else outer
        mark = self._host.mark("uplink", network.id)
        raw = struct.pack("=H", tag)
        # A device is told by its parent and VLAN, whatever it is called (S0-15), and there is one at most (S0-16).
        same = [
            link
            for link in stack.links.values()
            if link.kind == "vlan" and link.parent == parent.index and link.data.get(netlink.VLAN_ID) == raw
        ]
        for link in same:
            if link.alias != str(mark):
                owner = f"and belongs to {link.alias!r}" if link.alias else "and is not this cloud's"
                raise HostFault(f"VLAN {tag} of {parent.name} is carried by {link.name} already, which exists {owner}")
        device = same[0].name if same else names.vlan(parent.name, tag)
        link = self._device(device, "vlan", mark, {netlink.VLAN_ID: raw}, parent.index)
        stack.ensure(link, mtu=min(network.mtu, parent.mtu), master=bridge.index)
        return Joined((device,))

    def ensure_physical(self, name: str, physical: Physical) -> Link:
        """The bridge of a physical network. One that was there before is used as it is."""
        stack, record = self._host.stack, self._host.record
        mark = self._host.mark("physical", names.checked(name))
        link = stack.links.get(physical.bridge)
        if link is None or physical.bridge in record.value.bridges:
            if physical.bridge not in record.value.bridges:
                record.value.bridges.append(physical.bridge)
                record.save()
            mac = self._host.bridge_mac(physical)
            link = stack.ensure_bridge(physical.bridge, mark, mac=mac, deaf=False)
        elif link.kind != "bridge":
            raise HostFault(f"{physical.bridge}, set for physical network {name!r}, exists and is no bridge")
        if physical.interface:
            self._enslave(physical.interface, link)
        if physical.address:
            self._host.give_address(physical.address, link)
        if physical.masquerade:
            record.set_sysctl("net.ipv4.ip_forward", "1")
        return link

    def _enslave(self, interface: str, bridge: Link) -> None:
        port = self._host.uplink(interface, bridge.name)
        if port.master and port.master != bridge.index:
            raise HostFault(f"uplink {interface} is in use: it is a port of another bridge")
        self._host.stack.ensure(port, master=bridge.index)
