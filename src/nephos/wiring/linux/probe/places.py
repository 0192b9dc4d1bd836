"""Where on this host the points of a packet's way are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nephos.errors import HostFault
from nephos.wiring.base import Desired, Network, WiringSettings
from nephos.wiring.linux.probe.sender import run
from nephos.wiring.linux.switch import detour
from nephos.wiring.linux.system import names, netns
from nephos.wiring.linux.system.netlink import Forward, Netlink
from nephos.wiring.probe import At, Point


class Place(NamedTuple):
    """A point's device, empty when there is none, and the namespace that it is in (None: the host's own)."""

    point: Point
    device: str
    namespace: str | None = None


class Places:
    """A look at the host: its devices as `ip -j link` tells them, and what should be here."""

    def __init__(
        self,
        settings: WiringSettings,
        desired: Desired,
        uplinks: Mapping[str, str],
        switch: Callable[[Network], Iterable[str]],
    ) -> None:
        self.settings, self.switch = settings, switch
        self.desired = desired
        self._uplinks = uplinks
        self.links = links(None)
        self._rooms: dict[str, dict[str, Any]] = {}
        netlink = Netlink()
        try:
            self.forwards: list[Forward] = netlink.forwards()
            by_index = {link.index: link for link in netlink.links().values()}
            self.addresses = {
                cidr.split("/")[0]: by_index[index].name
                for index, cidr in netlink.addresses()
                if index in by_index
            }
            self.indexes = {link.name: link.index for link in by_index.values()}
        finally:
            netlink.close()

    def of(self, point: Point) -> Place:
        """The point's place. One that should be here and is not has no device."""
        match point.at:
            case At.TAP:
                return self._here(point, names.tap(point.id))
            case At.DHCP:
                network = self.desired.networks.get(point.id)
                namespace = names.dhcp_namespace(point.id)
                device = names.dhcp_device((network and network.dhcp_port_id) or point.id)
                return self._inside(point, device, namespace)
            case At.UPLINK:
                return self._here(point, self.uplink(point.id, point.peer))
            case At.UNDERLAY:
                return self._here(point, self._underlay())
            case At.LEG:
                router = self.desired.routers.get(point.router_id)
                outer = router is not None and any(each.port_id == point.id for each in router.gateways)
                namespace = names.router_namespace(point.router_id)
                return self._inside(point, names.leg_device(point.id, gateway=outer), namespace)
            case At.PHYSICAL:
                physical = self.settings.physical.get(point.id)
                return self._here(point, (physical.interface or physical.bridge) if physical else "")

    def network(self, point: Point) -> Network | None:
        """The network that a point belongs to, where it does."""
        if point.at in (At.DHCP, At.UPLINK):
            return self.desired.networks.get(point.id)
        if point.at is At.TAP:
            port = self.desired.ports.get(point.id)
            return self.desired.networks.get(port.network_id) if port else None
        return None

    def uplink(self, network_id: str, peer: str = "") -> str:
        """By which device the network leaves this host, towards a peer if one is named; empty when it does not."""
        network = self.desired.networks.get(network_id)
        known = self._uplinks.get(network_id)
        if network and network.segment and peer in network.peers and self.settings.switch == "linux":
            if peer in detour.peers(self.settings, network):
                return names.detour(network.segment, peer)
            if network.kind in ("gre", "geneve"):
                return names.pair_tunnel(network.kind, network.segment, peer)
        if known is not None:
            return known
        return names.tunnel(network.segment) if network and network.kind == "vxlan" and network.segment else ""

    def transport(self, point: Point) -> str:
        """What carries a network from an uplink to the point's peer, in words; empty where no tunnel does."""
        network, settings = self.desired.networks.get(point.id), self.settings
        if point.at is not At.UPLINK or network is None or point.peer not in network.peers:
            return ""
        kind, port = network.kind, settings.tunnel_port if network.kind == "vxlan" else detour.GENEVE_PORT
        if settings.tunnel_fallback is not None and point.peer in detour.peers(settings, network):
            kind, port = settings.tunnel_fallback.kind, settings.tunnel_fallback.port
        return {"vxlan": f"VXLAN, UDP port {port}", "geneve": f"Geneve, UDP port {port}"}.get(kind, "GRE, IP protocol 47")

    def room(self, namespace: str) -> dict[str, Any]:
        """The devices of a namespace; none when it is not there."""
        if namespace not in self._rooms:
            self._rooms[namespace] = links(namespace) if netns.identity(namespace) is not None else {}
        return self._rooms[namespace]

    def _underlay(self) -> str:
        """Where packets between hosts are seen. On a bridge that carries the tunnels it is the uplink: a switch in user
        space does not show them at the bridge's own device."""
        under = self.settings.underlay
        if under is not None and under.interface:
            return under.interface
        return self.addresses.get(self.settings.tunnel_address or "", "")

    def _here(self, point: Point, device: str) -> Place:
        return Place(point, device if device in self.links else "")

    def _inside(self, point: Point, device: str, namespace: str) -> Place:
        return Place(point, device if device in self.room(namespace) else "", namespace)


def links(namespace: str | None) -> dict[str, Any]:
    """Name → what `ip -j link` says of it."""
    try:
        said = netns.inside(namespace, lambda: run("ip", "-j", "link", "show"))
    except (OSError, HostFault):
        return {}
    return {one["ifname"]: one for one in json.loads(said or "[]")}
