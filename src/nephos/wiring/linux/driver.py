"""The driver itself: one pass over a host, in order, each item on its own."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nephos.errors import HostFault, NephosError
from nephos.wiring import openvswitch
from nephos.wiring.base import (
    Desired,
    Fact,
    Key,
    Kind,
    Leftover,
    MetadataLookup,
    MetadataPost,
    Network,
    Port,
    WiringSettings,
)
from nephos.wiring.linux import inventory
from nephos.wiring.linux.probe.follow import Prober
from nephos.wiring.linux.rates.guarantees import Guarantees
from nephos.wiring.linux.rates.qos import Qos
from nephos.wiring.linux.routers.meters import Meters
from nephos.wiring.linux.routers.router import Routers
from nephos.wiring.linux.rules import firewall, localip
from nephos.wiring.linux.rules.flows import Flows
from nephos.wiring.linux.rules.foreign import ForeignChains
from nephos.wiring.linux.rules.legacy import LegacyChains
from nephos.wiring.linux.rules.sightings import Sightings
from nephos.wiring.linux.serving import dhcp, services
from nephos.wiring.linux.serving.metadata import MetadataServer
from nephos.wiring.linux.switch import detour
from nephos.wiring.linux.switch.bridging import KernelSwitch
from nephos.wiring.linux.switch.networks import Networks, Switch, absent_ports
from nephos.wiring.linux.switch.overlay import Overlay
from nephos.wiring.linux.system import names, nft, sysctl
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.netlink import NTF_STICKY, Link
from nephos.wiring.linux.system.nft import Ruleset, Table
from nephos.wiring.linux.system.reactor import Reactor
from nephos.wiring.linux.vet import Vetting
from nephos.wiring.openvswitch import OpenVSwitch
from nephos.wiring.probe import Watch, Watched

log = logging.getLogger(__name__)
_BRIDGE_SETTINGS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")


class LinuxWiring:
    """Wires one Linux host for one cloud (`wiring.base.Wiring`). Needs root, iproute2, nft and dnsmasq.

    `state_dir` is the driver's own folder: what it must remember of the host, and dnsmasq's files. Raises HostFault
    when the kernel lacks what the driver stands on.
    """

    def __init__(self, settings: WiringSettings, *, state_dir: Path, cloud_id: str) -> None:
        require_kernel()
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._host = Host(settings, state_dir, names.checked(cloud_id))
        self._table = f"nephos_{cloud_id.replace('-', '')[:8]}"
        self._reactor = Reactor()
        self._switch = _switch(self._host)
        self._networks = Networks(self._host, self._switch)
        self._services = services.Services(self._host, self._reactor, self._leased)
        self._routers = Routers(self._host, self._reactor, self._state_of_router, self._gateway_answers)
        self._ruleset = Ruleset(None, self._host.record)
        self._foreign = ForeignChains(f"nephos:{cloud_id}")
        self._legacy = LegacyChains(f"nephos:{cloud_id}")
        self._foreign_seen: tuple[int, tuple[str, ...]] | None = None
        self._flows = Flows()
        self._qos = Qos(self._host)
        self._guarantees = Guarantees(self._host)
        self._sightings = Sightings(self._table)
        self._meters = Meters(settings.meter_seconds)
        self._vet = Vetting()
        self._prober = Prober(self._host)
        self._overlay = Overlay(self._host, self._switch, lambda fact: self._report(fact) if self._report else None)
        self._bridges: dict[str, Link] = {}
        self._desired = Desired()
        self._led: list[localip.Led] = []
        self._ports_by_index: dict[int, Port] = {}
        self._report: Callable[[Fact], None] | None = None
        self._reported: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    # ---- the protocol -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """See `wiring.base.Wiring.check`."""
        with self._lock:
            detour.check(self._host.settings)
            self._switch.check()

    def apply(self, desired: Desired, changed: frozenset[Key] | None = None) -> dict[Key, str]:
        """See `wiring.base.Wiring.apply`."""
        with self._lock:
            errors: dict[Key, str] = {}
            desired = self._desired = self._vet(desired, errors)
            self._ports_by_index = {port.index: port for port in desired.ports.values()}
            self._host.stack.load()
            forwards = self._host.stack.netlink.forwards()
            scope = _Scope(desired, changed)
            self._sweep(desired, errors)
            for name in _BRIDGE_SETTINGS:
                self._host.record.set_sysctl(name, "1")
            self._networks.begin()
            for network in desired.networks.values():
                with self._item(errors, Key(Kind.NETWORK, network.id)):
                    self._bridges.pop(network.id, None)
                    self._bridges[network.id] = self._networks.ensure(network, forwards)
            # Before the switch settles: what another switch had for it would be in the way.
            self._prove(desired)
            self._settle(errors)
            pinned: dict[int, set[str]] = {}
            for entry in forwards:
                if entry.flags & NTF_STICKY:
                    pinned.setdefault(entry.index, set()).add(entry.mac)
            for port in sorted(desired.ports.values(), key=lambda port: port.trunk is not None):
                with self._item(errors, Key(Kind.PORT, port.id)):
                    self._port(port, desired, pinned)
            well = [port for port in desired.ports.values() if Key(Kind.PORT, port.id) not in errors]
            served = {net for net, one in desired.networks.items() if net in self._bridges and inventory.serves(one, desired)}
            self._led = localip.led(self._host.record, well, served)
            self._firewall(desired, errors)
            wired = [port for port in desired.ports.values() if Key(Kind.PORT, port.id) not in errors]
            self._qos.ensure(wired, errors.__setitem__)
            self._guarantees.ensure(desired, wired, errors.__setitem__)
            for network_id, network in desired.networks.items():
                if network_id in scope.networks and network_id in self._bridges:
                    with self._item(errors, Key(Kind.NETWORK, network_id)):
                        self._serve(network, desired)
            for router in desired.routers.values():
                if router.id in scope.routers:
                    with self._item(errors, Key(Kind.ROUTER, router.id)):
                        self._routers.ensure(router, desired, self._bridges)
            self._forget_facts(desired)
            if changed is None and self._report is not None:
                for fact in (*self._sightings.look(desired), *self._meters.look(desired.routers.values())):
                    self._report(fact)
            return errors

    @property
    def changes(self) -> int:
        """How many things this driver has changed on the host since it started: what a pass over an equal host adds
        nothing to."""
        return (
            self._host.changes + self._ruleset.loads + self._foreign.changes + self._legacy.changes + self._qos.changes
            + self._guarantees.changes
        )

    def tap_name(self, port_id: str) -> str:
        return names.tap(port_id)

    def serve_metadata(self, lookup: MetadataLookup, post: MetadataPost) -> None:
        """See `wiring.base.Wiring.serve_metadata`. Both are called from a few threads of the driver's own."""

        def answer(index: int, path: str) -> bytes | None:
            port = self._ports_by_index.get(index)
            if port is None:
                return None
            body = lookup(port.id, path)
            if body is not None:
                self._tell(Fact(kind="metadata_served", port_id=port.id, detail=path), "")
            return body

        def take(index: int, path: str, body: bytes) -> int:
            port = self._ports_by_index.get(index)
            return 404 if port is None else post(port.id, path, body)

        with self._lock:
            self._services.serve_metadata(MetadataServer(self._reactor, answer, take))

    def watch(self, report: Callable[[Fact], None]) -> None:
        """See `wiring.base.Wiring.watch`. Leases from before are reported too, once."""
        with self._lock:
            self._report = report
            for network_id in self._desired.networks:
                leases = self._services.leases(network_id)
                self._reactor.soon(lambda network_id=network_id, leases=leases: self._leased(network_id, leases))  # type: ignore[misc]
            self._reactor.soon(self._routers.elections.again)
            self._reactor.soon(self._routers.again)
            self._overlay.again()

    def leftovers(self, desired: Desired) -> list[Leftover]:
        """See `wiring.base.Wiring.leftovers`."""
        with self._lock:
            self._host.stack.load()
            found = inventory.leftovers(self._host, self._table, self._ruleset.chains, desired)
            return found + self._switch.leftovers(desired.networks)

    def expect(self, port_ids: Sequence[str]) -> None:
        """See `wiring.base.Wiring.expect`."""
        with self._lock:
            self._host.stack.load()
            for port_id in port_ids:
                self._host.stack.expect_tap(names.tap(port_id))

    def unexpect(self, port_ids: Sequence[str]) -> None:
        """See `wiring.base.Wiring.unexpect`."""
        with self._lock:
            self._host.stack.load()
            for port_id in port_ids:
                link = self._host.stack.links.get(names.tap(port_id))
                if link is not None and not link.alias:
                    self._host.stack.remove(link.name)

    def probe(self, request: Watch) -> Watched:
        """See `wiring.base.Wiring.probe`. Other calls go on meanwhile."""
        with self._lock:
            desired, uplinks = self._desired, {net: devices[0] for net, devices in self._networks.uplinks.items()}
        return self._prober.follow(request, desired, uplinks, self._switch.faults)

    def close(self) -> None:
        """See `wiring.base.Wiring.close`."""
        self._overlay.close()
        with self._lock:
            self._services.close()
            self._routers.close()
            self._reactor.stop()
            self._ruleset.close()
            self._host.close()

    def purge(self) -> None:
        """See `wiring.base.Wiring.purge`. The driver may be used again afterwards."""
        with self._lock:
            self._host.stack.load()
            self._bridges = {}
            for name in list(self._host.record.value.namespaces):
                self._remove_namespace(name)
            failed: dict[Key, str] = {}
            self._sweep(Desired(), failed)
            if failed:
                raise HostFault("; ".join(failed.values()))
            self._guarantees.purge()
            self._switch.purge()
            inventory.purge(self._host, self._table)
            self._ruleset.forget()
            self._foreign.remove()
            self._legacy.remove()
            self._foreign_seen = None
            self._host.record.restore_sysctls()
            self._host.record.forget_all()

    # ---- one pass ---------------------------------------------------------------------------------------------

    @contextmanager
    def _item(self, errors: dict[Key, str], key: Key) -> Iterator[None]:
        """What goes wrong with one item is its own error, and the pass goes on."""
        try:
            yield
        except (NephosError, OSError, ValueError, KeyError) as problem:
            errors.setdefault(key, str(problem) or repr(problem))
            log.warning("%s %s could not be wired: %s", key.kind, key.id, problem)
        except Exception as problem:
            errors.setdefault(key, f"{type(problem).__name__}: {problem}")
            log.exception("%s %s could not be wired", key.kind, key.id)

    def _settle(self, errors: dict[Key, str]) -> None:
        """The guests of a network that is not connected still have each other, and are told that they lack the rest."""
        try:
            self._networks.settle()
        except (HostFault, OSError) as problem:
            log.warning("networks could not be connected: %s", problem)
            for network_id in self._networks.joined:
                errors.setdefault(Key(Kind.NETWORK, network_id), f"not connected to other hosts: {problem}")

    def _port(self, port: Port, desired: Desired, pinned: dict[int, set[str]]) -> None:
        bridge, network = self._bridges.get(port.network_id), desired.networks.get(port.network_id)
        if bridge is None or network is None:
            raise HostFault(f"network {port.network_id} of the port is not wired on this host")
        if not 1 <= port.index <= 65535:
            raise HostFault(f"the port's index {port.index} is not between 1 and 65535")
        if self._ports_by_index[port.index] is not port:
            raise HostFault(f"the port's index {port.index} is also that of {self._ports_by_index[port.index].id}")
        stack = self._host.stack
        mark = self._host.mark("port", port.id)
        if port.trunk is None:
            link = stack.ensure_tap(names.tap(port.id), mark, mtu=network.mtu, master=bridge.index, up=port.admin_up)
        else:
            link = self._behind(port, mark, mtu=network.mtu, master=bridge.index)
        have = pinned.get(link.index, set())
        for mac in have - {names.index_mac(port.index)}:
            stack.netlink.pin_mac(link.index, mac, add=False)
        if names.index_mac(port.index) not in have:
            stack.netlink.pin_mac(link.index, names.index_mac(port.index), add=True)
            stack.changes += 1

    def _prove(self, desired: Desired) -> None:
        """The tunnels to the hosts that share a network with this one."""
        tunnelled = [network for network in desired.networks.values() if network.kind == "vxlan"]
        peers = {peer for network in tunnelled for peer in network.peers}
        around = {peer for network in tunnelled for peer in detour.peers(self._host.settings, network)}
        try:
            self._overlay.ensure(peers, around, max((network.mtu for network in tunnelled), default=0))
        except (NephosError, OSError, ValueError) as problem:
            log.warning("the tunnels cannot be proved: %s", problem)

    def _behind(self, port: Port, mark: names.Mark, *, mtu: int, master: int) -> Link:
        """The device of a subport: a VLAN of its trunk's tap."""
        parent = self._host.stack.links.get(names.tap(str(port.trunk)))
        if parent is None or port.tag is None:
            raise HostFault(f"port {port.trunk}, which it is behind, is not wired on this host")
        return self._host.stack.ensure_vlan(
            names.tap(port.id), mark, parent=parent, tag=port.tag, mtu=mtu, master=master, up=port.admin_up
        )

    def _serve(self, network: Network, desired: Desired) -> None:
        if inventory.serves(network, desired):
            local = {led.address for led in self._led if led.network_id == network.id}
            self._services.ensure(network, self._bridges[network.id], local)

    def _firewall(self, desired: Desired, errors: dict[Key, str]) -> None:
        wired = {net: network for net, network in desired.networks.items() if net in self._bridges}
        ports = {name: port for name, port in desired.ports.items() if Key(Kind.PORT, name) not in errors}
        known = Desired(networks=wired, ports=ports, groups=desired.groups, routers=desired.routers)
        plan = firewall.Plan(
            known,
            {net: services.mac_of(network) for net, network in wired.items() if inventory.serves(network, desired)},
            {net: devices for net, devices in self._networks.uplinks.items() if net in wired},
            {net: self._host.record.zone(net) for net in wired},
            self._led,
            {name: link.index for name, link in self._host.stack.links.items()},
            self._networks.overheard(),
            absent_ports(self._host),
        )
        routed = self._networks.masqueraded({str(one.physical) for one in wired.values() if one.kind == "flat"})
        try:
            judge, unclear = firewall.inet_table(self._table, plan, self._host.settings)
            errors.update({Key(Kind.GROUP, group): why for group, why in unclear.items()})
            bridged, answers = firewall.bridge_table(self._table, plan), firewall.arp_table(self._table, plan)
            loaded = self._ruleset.replace([bridged, judge, self._nat(routed), answers])
            self._flows.cut(self._ruleset.netfilter, known, plan.zones)
            bridges = tuple(bridge for bridge, _ in routed)
            now = self._ruleset.netfilter.generation()
            # Our own load counts one; when nothing else was counted since the last look, nobody else's chain changed.
            if self._foreign_seen != (now - int(loaded), bridges):
                self._foreign.ensure(list(bridges))
                now = self._ruleset.netfilter.generation()
            self._foreign_seen = (now, bridges)
            self._legacy.ensure(list(bridges))
        except (NephosError, OSError, ValueError, KeyError) as problem:
            log.exception("the ruleset could not be loaded")
            for name in ports:
                errors.setdefault(Key(Kind.PORT, name), f"the firewall could not be set: {problem}")

    def _nat(self, routed: list[tuple[str, str]]) -> Table:
        """Ranges of physical networks that reach the outside through the host. Bridged frames pass here too, unmoved: of
        whichever bridge, they came in by no device as far as routing knows."""
        table = Table("ip", self._table)
        if routed:
            # Without a rule the chain would still have every packet of a connection looked at.
            table.hook("postrouting", "postrouting", 100, kind="nat")
        for bridge, cidr in routed:
            table.rule(
                "postrouting",
                nft.match(nft.field("ip", "saddr"), nft.prefix(cidr)),
                nft.match(nft.field("ip", "daddr"), nft.prefix(cidr), "!="),
                nft.match(nft.meta("iifname"), bridge),
                nft.match(nft.meta("oifname"), bridge, "!="),
                {"masquerade": None},
            )
        return table

    def _sweep(self, desired: Desired, errors: dict[Key, str]) -> None:
        """Remove what carries this cloud's mark and is not wanted any more."""
        wanted = inventory.wanted(desired)
        for name in [name for name in self._host.record.value.namespaces if name not in wanted.namespaces]:
            kind = Kind.ROUTER if name.startswith(names.ROUTER_NAMESPACE) else Kind.NETWORK
            with self._item(errors, Key(kind, name.split("-", 1)[1])):
                self._remove_namespace(name)
        for network_id in self._services.folders():
            if names.DHCP_NAMESPACE + network_id not in wanted.namespaces:
                with self._item(errors, Key(Kind.NETWORK, network_id)):
                    self._services.remove(network_id)
        for router_id in self._routers.folders():
            if names.ROUTER_NAMESPACE + router_id not in wanted.namespaces:
                with self._item(errors, Key(Kind.ROUTER, router_id)):
                    self._routers.remove(router_id)
        for name in inventory.unwanted_links(self._host, wanted):
            mark = names.Mark.parse(self._host.stack.links[name].alias)
            kind = Kind.PORT if mark and mark.kind == "port" else Kind.NETWORK
            with self._item(errors, Key(kind, mark.id if mark else name)):
                self._host.stack.remove(name)
        for network_id in [net for net in self._bridges if net not in desired.networks]:
            self._bridges.pop(network_id)
            self._networks.forget(network_id)
        gone = [net for net in self._host.record.value.zones if net not in desired.networks]
        for network_id in gone:
            del self._host.record.value.zones[network_id]
        if gone:
            self._host.record.save()

    def _remove_namespace(self, name: str) -> None:
        if name.startswith(names.DHCP_NAMESPACE):
            self._services.remove(name.removeprefix(names.DHCP_NAMESPACE))
        elif name.startswith(names.ROUTER_NAMESPACE):
            self._routers.remove(name.removeprefix(names.ROUTER_NAMESPACE))
        else:
            self._host.delete_room(name)

    # ---- facts ------------------------------------------------------------------------------------------------

    def _leased(self, network_id: str, leases: list[dhcp.Lease]) -> None:
        network = self._desired.networks.get(network_id)
        if network is None:
            return
        owners = {
            address.address: endpoint
            for endpoint in network.endpoints
            for address in endpoint.addresses
            if endpoint.port_id in self._desired.ports
        }
        for lease in leases:
            endpoint = owners.get(lease.address)
            if endpoint is not None and lease.mac in ("", endpoint.mac):
                self._tell(Fact(kind="address_taken", port_id=endpoint.port_id, detail=lease.address), lease.address)

    def _gateway_answers(self, port_id: str, nexthop: str, answers: bool) -> None:
        if self._report is not None:
            kind = "gateway_answers" if answers else "gateway_silent"
            self._report(Fact(kind=kind, port_id=port_id, detail=nexthop))

    def _state_of_router(self, router_id: str, state: str) -> None:
        if self._report is not None:
            self._report(Fact(kind="router_state", port_id=router_id, detail=state))

    def _tell(self, fact: Fact, distinct: str) -> None:
        key = (fact.kind, fact.port_id, distinct)
        if self._report is not None and key not in self._reported:
            self._reported.add(key)
            self._report(fact)

    def _forget_facts(self, desired: Desired) -> None:
        for key in [key for key in self._reported if key[1] not in desired.ports]:
            self._reported.discard(key)


def _switch(host: Host) -> Switch:
    """The switch of the settings; what is left of another, which they named before, goes."""
    if host.settings.switch == "openvswitch":
        return OpenVSwitch(host)
    if (host.folder / openvswitch.FOLDER).exists():
        OpenVSwitch(host).purge()
    return KernelSwitch(host)


class _Scope:
    """Which namespaces a pass must look into: all, or those that the hint names and what hangs on them."""

    def __init__(self, desired: Desired, changed: frozenset[Key] | None) -> None:
        if changed is None:
            self.networks, self.routers = set(desired.networks), set(desired.routers)
            return
        named = {kind: {key.id for key in changed if key.kind is kind} for kind in Kind}
        self.networks = named[Kind.NETWORK] & set(desired.networks)
        for port in desired.ports.values():
            if port.id in named[Kind.PORT]:
                self.networks.add(port.network_id)
        self.routers = named[Kind.ROUTER] & set(desired.routers)
        for router in desired.routers.values():
            legs = {leg.network_id for leg in router.legs}
            if legs & self.networks:
                self.routers.add(router.id)


def require_kernel() -> None:
    """Load what security groups stand on; HostFault when this kernel lacks it, because without it nothing is guarded."""
    if sysctl.read(_BRIDGE_SETTINGS[0]) is None:
        # The one module that nothing loads by itself.
        with suppress(FileNotFoundError):
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    needed = {
        _BRIDGE_SETTINGS[0]: "br_netfilter, for security groups",
        "net.ipv4.tcp_fwmark_accept": "net.ipv4.tcp_fwmark_accept, for metadata",
    }
    lacks = [words for name, words in needed.items() if sysctl.read(name) is None]
    if lacks:
        raise HostFault(f"this host's kernel lacks {' and '.join(lacks)}")
