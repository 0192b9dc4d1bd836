"""The switch that is Open vSwitch: br-int sorts the networks, br-tun tunnels to other hosts, br-ex and its like lead to
physical networks.

Each network's own bridge, where the firewall judges what passes between guests, DHCP and routers, has one pair of
devices to br-int (qvb, qvo): one hop for all of a network's ports, where others make one for each (S2-49).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nephos.errors import HostFault
from nephos.wiring.base import Leftover, Network, Physical
from nephos.wiring.linux.switch import detour, underlay
from nephos.wiring.linux.switch.networks import Joined, absent, mapped, numbered
from nephos.wiring.linux.system import ethtool, names
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.netlink import Forward, Link
from nephos.wiring.openvswitch import database
from nephos.wiring.openvswitch.daemons import OFCTL, Daemons
from nephos.wiring.openvswitch.database import Bridge, Bridges, Port
from nephos.wiring.openvswitch.flows import (
    INTEGRATION,
    TO_INTEGRATION,
    TO_TUNNELS,
    TUNNELS,
    Rules,
    Tunnel,
    physical_ports,
)

FOLDER = "openvswitch"
"""Below the driver's state."""
_TUNNELS = ("vxlan", "gre", "geneve")
_DETOUR = "detour"
"""The port of the tunnel bridge that carries VXLAN networks to where VXLAN does not pass."""
_PROOF_TAG, _DETOUR_PROOF_TAG = 4094, 4093
"""The tags that no network has; `Record.tag` gives out those below."""
_DETOUR_PROOF = "detour-probe"


class OpenVSwitch:
    """`networks.Switch` on Open vSwitch, which runs from a folder of this cloud's own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._daemons = Daemons(host.folder / FOLDER)
        self._bridges: Bridges = {}
        self._rules = Rules()
        self._proof: tuple[str, int, dict[str, str]] | None = None
        self._proof_round: tuple[int, dict[str, str]] | None = None
        self._settled: tuple[Bridges, dict[str, list[str]]] = ({}, {})

    def check(self) -> None:
        """See `Switch.check`."""
        self._daemons.check()
        settings = self._host.settings
        if settings.tunnel_address is None:
            return
        self._host.stack.load()
        if settings.underlay is not None:
            self._check_underlay(settings.underlay, settings.tunnel_address)
        elif self._daemons.userspace:
            raise HostFault(
                "this host's kernel has no Open vSwitch (openvswitch), and without it Open vSwitch carries tunnels only "
                "over a bridge of its own: set host.underlay with bridge, interface and address, the address being that "
                f"of tunnel_address {settings.tunnel_address}"
            )
        else:
            underlay.check(self._host.stack, settings.tunnel_address)

    def _check_underlay(self, wanted: Physical, local: str) -> None:
        if wanted.address is None or wanted.address.split("/")[0] != local:
            raise HostFault(f"host.underlay has address {wanted.address}, but tunnel_address is {local}")
        if wanted.interface is None:
            raise HostFault(f"host.underlay names no interface: no packet for tunnel_address {local} would arrive")
        self._host.uplink(wanted.interface, wanted.bridge)

    # ---- a pass -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See `Switch.begin`."""
        if self._daemons.ensure():
            self._host.stack.changes += 1
        self._start()

    def _start(self) -> None:
        """What is there whatever networks there are."""
        settings = self._host.settings
        self._rules = Rules()
        self._bridges = {
            INTEGRATION: Bridge(ports={TO_TUNNELS: _patch(TO_INTEGRATION)}),
            TUNNELS: Bridge(ports={TO_INTEGRATION: _patch(TO_TUNNELS)}),
        }
        if settings.tunnel_address is not None:
            for kind in _TUNNELS:
                self._bridges[TUNNELS].ports[kind] = self._tunnel_port(kind, settings.tunnel_address)
            fallback = settings.tunnel_fallback
            if fallback is not None and fallback.kind == "geneve":
                self._bridges[TUNNELS].ports[_DETOUR] = self._tunnel_port(
                    fallback.kind, settings.tunnel_address, fallback.port
                )
            if self._proof is not None:
                name, number, peers = self._proof
                self._bridges[INTEGRATION].ports[name] = Port(_PROOF_TAG, "internal")
                macs = sorted((mac, peer) for peer, mac in peers.items())
                self._rules.tunnel(name, _PROOF_TAG, Tunnel("vxlan", number), sorted(peers), macs)
            if self._proof_round is not None:
                number, peers = self._proof_round
                self._bridges[INTEGRATION].ports[_DETOUR_PROOF] = Port(_DETOUR_PROOF_TAG, "internal")
                macs = sorted((mac, peer) for peer, mac in peers.items())
                self._rules.tunnel(_DETOUR_PROOF, _DETOUR_PROOF_TAG, self._around(number), sorted(peers), macs)
        if settings.underlay is not None:
            self._check_physical(settings.underlay)
            self._outside(settings.underlay)

    def _tunnel_port(self, kind: str, local: str, port: int | None = None) -> Port:
        options = {"key": "flow", "remote_ip": "flow", "local_ip": local}
        if kind == "vxlan":
            port = self._host.settings.tunnel_port
        if port is not None:
            options["dst_port"] = str(port)
        return Port(None, kind, tuple(sorted(options.items())))

    def _outside(self, physical: Physical) -> None:
        """A bridge that leads out of the host."""
        bridge = self._bridges.setdefault(physical.bridge, Bridge(self._host.bridge_mac(physical)))
        self._rules.open(physical.bridge)
        if physical.interface:
            bridge.ports[physical.interface] = Port()

    def join(self, network: Network, bridge: Link, forwards: list[Forward]) -> Joined:
        """See `Switch.join`."""
        if network.kind in _TUNNELS:
            self._check_tunnel(network)
            numbered(network)
        elif network.kind in ("flat", "vlan"):
            physical = self._host.settings.physical[mapped(self._host, network)[0]]
            self._check_physical(physical)
        else:
            raise HostFault(f"network type {network.kind!r} is not known to this host")
        stack, mark = self._host.stack, self._host.mark("uplink", network.id)
        inner, outer = names.switch_ends(network.id)
        link = stack.ensure_pair(inner, mark, stack, outer, mtu=network.mtu)
        stack.ensure(link, master=bridge.index)
        stack.ensure(stack.links[outer], mark=mark)
        if self._daemons.userspace:
            # A daemon that reads frames off a device gets them as they are: without checksums that a device would add.
            for name in (inner, outer):
                stack.changes += ethtool.finish_frames(name)
        self._note(network)
        return Joined((inner,), (outer,))

    def _check_tunnel(self, network: Network) -> None:
        local = self._host.settings.tunnel_address
        detour.check_key(self._host.settings, network)
        if local is None:
            if network.peers:
                raise HostFault("other hosts carry this network, but this host has no tunnel_address set")
        elif not self._daemons.userspace and self._host.settings.underlay is None:
            underlay.check(self._host.stack, local, network.peers)

    def _check_physical(self, physical: Physical) -> None:
        record, stack = self._host.record, self._host.stack
        if physical.bridge in record.value.bridges:
            # Made by the kernel's switch, which this host had before.
            stack.remove(physical.bridge)
            record.value.bridges.remove(physical.bridge)
            record.save()
        link = stack.links.get(physical.bridge)
        if link is not None and link.kind == "bridge":
            raise HostFault(
                f"{physical.bridge} is a bridge of the kernel, which Open vSwitch does not join; name another bridge for "
                "this host's physical network"
            )
        if physical.interface:
            self._host.uplink(physical.interface, physical.bridge)

    def _note(self, network: Network) -> None:
        """What the bridges need for a network."""
        tag, (_, port) = self._host.record.tag(network.id), names.switch_ends(network.id)
        self._bridges[INTEGRATION].ports[port] = Port(tag)
        if network.kind in _TUNNELS:
            local = self._host.settings.tunnel_address
            if local is not None:
                peers = [peer for peer in network.peers if peer != local]
                macs = [
                    (one.mac, str(one.tunnel))
                    for one in network.endpoints
                    if one.tunnel not in (None, local) and one.mac != network.dhcp_mac
                ]
                tunnel = Tunnel(network.kind, numbered(network))
                self._rules.tunnel(port, tag, tunnel, peers, sorted(macs), self._detours(network, tunnel))
            return
        physical = self._host.settings.physical[str(network.physical)]
        self._outside(physical)
        inner, outer = physical_ports(physical.bridge)
        self._bridges[INTEGRATION].ports[inner] = _patch(outer)
        self._bridges[physical.bridge].ports[outer] = _patch(inner)
        self._rules.physical(port, physical.bridge, tag, network.segment if network.kind == "vlan" else None)

    def _detours(self, network: Network, tunnel: Tunnel) -> dict[str, Tunnel]:
        return dict.fromkeys(detour.peers(self._host.settings, network), self._around(tunnel.number))

    def _around(self, number: int) -> Tunnel:
        settings = self._host.settings
        name = "gre" if settings.tunnel_fallback is not None and settings.tunnel_fallback.kind == "gre" else _DETOUR
        return Tunnel(name, detour.number(settings, number))

    def settle(self) -> None:
        """See `Switch.settle`."""
        have, wrong = database.read(self._daemons)
        # A physical network's bridge stays when the last network on it goes, with the host's address: until purge.
        for physical in self._host.settings.physical.values():
            if physical.bridge in have:
                self._outside(physical)
        self._host.stack.changes += database.change(self._daemons, have, wrong, self._bridges)
        for bridge, rules in self._rules.bridges.items():
            self._host.stack.changes += self._set_rules(bridge, rules)
        self._settled = (self._bridges, self._rules.bridges)
        self._give_addresses()
        for network_id in [each for each in self._host.record.value.tags if not self._has(each)]:
            del self._host.record.value.tags[network_id]
            self._host.record.save()

    def overheard(self) -> tuple[str, ...]:
        """See `Switch.overheard`: a daemon that reads frames off a device gets copies of them; and each bridge has a device by
        which the host would be on it."""
        own = (name for bridge in self._bridges.values() for name, port in bridge.ports.items() if not port.kind)
        return (*(sorted(own) if self._daemons.userspace else ()), *absent(self._host))

    def _has(self, network_id: str) -> bool:
        return names.switch_ends(network_id)[1] in self._bridges[INTEGRATION].ports

    def _set_rules(self, bridge: str, rules: list[str]) -> int:
        """Make a bridge's rules exactly these; how many were not."""
        text = _text(rules)
        differing = self._daemons.differing(bridge, text)
        if differing:
            self._daemons.run(*OFCTL, "replace-flows", bridge, "-", text=text)
        return len(differing)

    def _give_addresses(self) -> None:
        settings, stack = self._host.settings, self._host.stack
        wanted = [*settings.physical.values(), *([settings.underlay] if settings.underlay else [])]
        for physical in wanted:
            if physical.bridge not in self._bridges:
                continue
            link = stack.links.get(physical.bridge) or stack.fresh(physical.bridge)
            current = stack.netlink.link(physical.bridge)
            if current is not None and current.index != link.index:
                link = stack.fresh(physical.bridge)
            stack.ensure(link)
            if physical.interface:
                stack.ensure(stack.links[physical.interface])
            if physical.address:
                self._host.give_address(physical.address, link)
            if physical.masquerade:
                self._host.record.set_sysctl("net.ipv4.ip_forward", "1")

    def proof(self, name: str, number: int, peers: Mapping[str, str]) -> Link | None:
        """See `Switch.proof`."""
        self._proof = (name, number, dict(peers)) if peers else None
        link = self._host.stack.links.get(name)
        if link is not None and link.kind == "vxlan":
            # The kernel's switch had it, which this host had before; the port of that name comes with the next pass.
            self._host.stack.remove(name)
            return None
        return link if peers else None

    def proof_round(self, number: int, peers: Mapping[str, str]) -> Mapping[str, Link]:
        """See `Switch.proof_round`."""
        self._proof_round = (number, dict(peers)) if peers else None
        link = self._host.stack.links.get(_DETOUR_PROOF)
        return dict.fromkeys(peers, link) if link is not None else {}

    def faults(self, network: Network) -> Iterator[str]:
        """See `Switch.faults`."""
        gone = {"ovsdb-server", "ovs-vswitchd"} - set(self._daemons.running())
        if gone:
            yield f"{' and '.join(sorted(gone))} of Open vSwitch {'do' if len(gone) > 1 else 'does'} not run"
            return
        have, _ = database.read(self._daemons)
        wanted, rules = self._settled
        if network.kind in _TUNNELS:
            bridges = (INTEGRATION, TUNNELS)
        else:
            bridges = (INTEGRATION, self._host.settings.physical[str(network.physical)].bridge)
        _, own = names.switch_ends(network.id)
        around = {self._around(0).port} if detour.peers(self._host.settings, network) else set()
        for bridge in bridges:
            if bridge not in have:
                yield f"the bridge {bridge} is missing"
                continue
            for name, port in wanted[bridge].ports.items() if bridge in wanted else ():
                # Other networks' ports, and tunnels of other types, are nothing to this one.
                of_it = port.kind in ("", "patch", "internal", network.kind) or name in around
                if (name == own or not name.startswith("qvo")) and of_it:
                    yield from _port_faults(bridge, name, port, have[bridge].ports.get(name))
            differing = self._daemons.differing(bridge, _text(rules.get(bridge, [])))
            if differing:
                lacks = [line[1:] for line in differing if line.startswith("+")]
                told = f"it lacks {lacks[0]}" if lacks else f"it should not have {differing[0][1:]}"
                yield f"{len(differing)} of the rules of {bridge} are not as they should be: {told}"

    # ---- what is left -----------------------------------------------------------------------------------------

    def leftovers(self, networks: dict[str, Network]) -> list[Leftover]:
        """See `Switch.leftovers`: ports of networks that are not there, and bridges that nobody set."""
        if not self._daemons.running():
            return []
        have, _ = database.read(self._daemons)
        ports = {names.switch_ends(network_id)[1] for network_id in networks}
        known = {INTEGRATION, TUNNELS, *(each.bridge for each in self._host.settings.physical.values())}
        if self._host.settings.underlay is not None:
            known.add(self._host.settings.underlay.bridge)
        found = [
            Leftover(kind="bridge", name=bridge, why="a bridge of this cloud's Open vSwitch that no setting names")
            for bridge in sorted(have.keys() - known)
        ]
        for name in sorted(have.get(INTEGRATION, Bridge()).ports):
            if name.startswith("qvo") and name not in ports:
                found.append(Leftover(kind="port", name=f"{INTEGRATION} {name}", why="no network that it belongs to"))
        return found

    def purge(self) -> None:
        """See `Switch.purge`."""
        if self._daemons.running():
            self._daemons.ensure()
            have, wrong = database.read(self._daemons)
            database.change(self._daemons, have, wrong, {})
        self._daemons.stop()


def _text(rules: list[str]) -> str:
    return "\n".join(rules) + "\n"


def _port_faults(bridge: str, name: str, wanted: Port, port: Port | None) -> Iterator[str]:
    if port is None:
        yield f"{bridge} has no port {name}"
    elif port != wanted:
        differs = [f"{key} {value}" for key, value in port.options if (key, value) not in wanted.options]
        yield f"port {name} of {bridge} is not set as it should be: {', '.join(differs) or f'tag {port.tag}, type {port.kind}'}"


def _patch(peer: str) -> Port:
    return Port(None, "patch", (("peer", peer),))
