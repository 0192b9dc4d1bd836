"""What a network serves its guests from inside its own namespace `qdhcp-<network>`: DHCP, names, metadata."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Collection

from nephos.wiring.base import Network
from nephos.wiring.linux.serving import dhcp, metadata
from nephos.wiring.linux.serving.leases import LeaseWatch
from nephos.wiring.linux.serving.metadata import MetadataServer
from nephos.wiring.linux.serving.resolver import Resolver
from nephos.wiring.linux.system import names
from nephos.wiring.linux.system.host import Host, Room
from nephos.wiring.linux.system.names import METADATA, METADATA6
from nephos.wiring.linux.system.netlink import Link, Route
from nephos.wiring.linux.system.reactor import Reactor

log = logging.getLogger(__name__)


def mac_of(network: Network) -> str:
    """The MAC of the network's DHCP port; one of our own making where DHCP is off and only metadata is served."""
    return network.dhcp_mac or "02:4e:51:" + hashlib.sha256(network.id.encode()).digest()[:3].hex(":")


class Services:
    """Keeps the namespaces of networks. `ensure` and `remove` come from the driver's caller, under its lock."""

    def __init__(self, host: Host, reactor: Reactor, leased: Callable[[str, list[dhcp.Lease]], None]) -> None:
        self._host = host
        self._reactor = reactor
        self._resolver = Resolver(reactor)
        self._metadata: MetadataServer | None = None
        self._leases = LeaseWatch(reactor, leased)
        self._dnsmasq: dict[str, dhcp.Dnsmasq] = {}
        self._wanted: dict[str, dhcp.Files] = {}
        self._guards: dict[str, tuple[int, int]] = {}
        self._lock = threading.RLock()

    def serve_metadata(self, server: MetadataServer) -> None:
        self._metadata = server
        for name in self._dnsmasq:
            server.listen(names.dhcp_namespace(name))

    def ensure(self, network: Network, bridge: Link, local: Collection[str] = ()) -> None:
        """Make the network's namespace and everything in it as the network wants it. It answers for the `local` IPs too,
        when it is asked where they are."""
        namespace = names.dhcp_namespace(network.id)
        room, made = self._host.room(namespace, self._host.mark("dhcp", network.id))
        if made:
            room.stack.write("net.ipv4.tcp_fwmark_accept", "1")
            room.stack.write("net.ipv4.conf.all.arp_announce", "2")
            room.stack.write("net.ipv4.conf.all.rp_filter", "0")
            room.stack.write("net.ipv4.conf.default.rp_filter", "0")
            room.stack.write("net.ipv6.conf.default.accept_ra", "0")
            room.stack.write("net.ipv6.conf.default.disable_ipv6", "0")
        port = network.dhcp_port_id or network.id
        device = self._attach(room, network, bridge, port, local)
        room.ruleset.replace(metadata.tables(device))
        self._resolver.listen(namespace)
        if self._metadata is not None:
            self._metadata.listen(namespace)
        with self._lock:
            folder = self._host.folder / "dhcp" / names.checked(network.id)
            dnsmasq = self._dnsmasq.setdefault(network.id, dhcp.Dnsmasq(folder, namespace))
            if network.dhcp_mac is None:
                self._wanted.pop(network.id, None)
                self._unguard(network.id)
                dnsmasq.stop()
                return
            wanted = self._wanted[network.id] = dhcp.files(network, device, folder)
            self._host.stack.changes += dnsmasq.ensure(wanted)
            self._guard(network.id)
            self._leases.watch(network.id, dnsmasq.lease_file)

    def _attach(self, room: Room, network: Network, bridge: Link, port: str, local: Collection[str]) -> str:
        """The namespace's only device, with the DHCP addresses and the metadata address; its MAC is pinned. Local IPs are on
        `lo`: dnsmasq would take them for its own."""
        root, device, mac = self._host.stack, names.dhcp_device(port), mac_of(network)
        mark = self._host.mark("dhcp", network.id)
        link = root.ensure_pair(names.tap(port), mark, room.stack, device, mtu=network.mtu, mac=mac)
        fresh = link.master != bridge.index
        link = root.ensure(link, master=bridge.index)
        if fresh:
            root.netlink.pin_mac(link.index, mac, add=True)
        # Every host has this port: nothing from one host's may get to another's, nor to or from anybody there.
        root.isolate(link)
        addresses, routes = {f"{METADATA}/32", f"{METADATA6}/64"}, set()
        at = room.stack.links[device].index
        for subnet in network.subnets:
            prefix = subnet.cidr.split("/")[1]
            if subnet.dhcp and subnet.dhcp_address:
                addresses.add(f"{subnet.dhcp_address}/{prefix}")
            elif subnet.version == 4:
                # Without DHCP there is no address on the subnet, but metadata answers must find their way.
                routes.add(Route(subnet.cidr, None, at))
        room.stack.ensure_addresses({device: addresses, "lo": {f"{each}/32" for each in local}})
        room.stack.ensure_routes(routes)
        return device

    def _guard(self, network_id: str) -> None:
        """Notice the death of the network's dnsmasq at once, and start it again."""
        pid = self._dnsmasq[network_id].pid()
        have = self._guards.get(network_id)
        if have is not None and have[0] == pid:
            return
        self._unguard(network_id)
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._guards[network_id] = (pid, handle)
        self._reactor.soon(lambda: self._reactor.watch(handle, lambda: self._died(network_id, pid, handle)))

    def _unguard(self, network_id: str) -> None:
        have = self._guards.pop(network_id, None)
        if have is not None:
            handle = have[1]
            self._reactor.soon(lambda: self._release(handle))

    def _release(self, handle: int) -> None:
        self._reactor.forget(handle)
        os.close(handle)

    def _died(self, network_id: str, pid: int, handle: int) -> None:
        # The handle is open as long as it is watched; later its number may stand for something else.
        self._reactor.forget(handle)
        self._revive(network_id, pid, handle)

    def _revive(self, network_id: str, pid: int, handle: int) -> None:
        if not self._lock.acquire(blocking=False):
            # Somebody is working on it; look again when that is done.
            self._reactor.later(0.2, lambda: self._revive(network_id, pid, handle))
            return
        try:
            if self._guards.get(network_id) != (pid, handle):
                return
            del self._guards[network_id]
            os.close(handle)
            wanted = self._wanted.get(network_id)
            if wanted is not None:
                log.warning("dnsmasq of network %s (pid %d) died; starting it again", network_id, pid)
                self._dnsmasq[network_id].ensure(wanted)
                self._guard(network_id)
        finally:
            self._lock.release()

    def remove(self, network_id: str) -> None:
        """End the network's services and remove its files, and its namespace if this host made it."""
        namespace = names.dhcp_namespace(network_id)
        self._resolver.leave(namespace)
        if self._metadata is not None:
            self._metadata.leave(namespace)
        with self._lock:
            self._wanted.pop(network_id, None)
            self._unguard(network_id)
            folder = self._host.folder / "dhcp" / network_id
            self._leases.forget(network_id)
            dnsmasq = self._dnsmasq.pop(network_id, None) or dhcp.Dnsmasq(folder, namespace)
            dnsmasq.stop()
            if folder.is_dir():
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
        if namespace in self._host.record.value.namespaces:
            self._host.delete_room(namespace)

    def folders(self) -> list[str]:
        """The networks that there are files of on this host."""
        folder = self._host.folder / "dhcp"
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def leases(self, network_id: str) -> list[dhcp.Lease]:
        dnsmasq = self._dnsmasq.get(network_id)
        return dhcp.read_leases(dnsmasq.lease_file) if dnsmasq else []

    def close(self) -> None:
        """Stop listening; dnsmasq goes on."""
        with self._lock:
            for network_id in list(self._guards):
                self._unguard(network_id)
        self._resolver.close()
        if self._metadata is not None:
            self._metadata.close()
        self._leases.close()
