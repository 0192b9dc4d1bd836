"""One network namespace as the driver sees it: what is there, and small steps that make it as wanted.

Each `ensure_*` looks first and changes only what differs, so that a pass over an equal host writes nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from nephos.errors import HostFault
from nephos.wiring.linux.system import netlink, netns, sysctl
from nephos.wiring.linux.system.names import Mark
from nephos.wiring.linux.system.netlink import Link, Netlink, PolicyRule, Route, attribute

_LOOPBACK = ("127.0.0.1/8", "::1/128")


class Stack:
    """The devices of one namespace (None: the host's own). `load` reads them afresh; steps keep the copy true."""

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace
        self.identity = netns.identity(namespace) if namespace else None
        self.netlink = netns.inside(namespace, Netlink)
        self.links: dict[str, Link] = {}
        self.changes = 0

    def close(self) -> None:
        self.netlink.close()

    def load(self) -> None:
        self.links = self.netlink.links()

    def write(self, name: str, value: str) -> None:
        """Set a sysctl of this namespace, without a record: for namespaces and devices that Nephos made."""
        netns.inside(self.namespace, lambda: sysctl.write(name, value))

    def fresh(self, name: str) -> Link:
        """The device as it is now; it must be there."""
        link = self.netlink.link(name)
        if link is None:
            raise OSError(errno.ENODEV, f"device {name} went away while it was being made")
        self.links[name] = link
        self.changes += 1
        return link

    def owned(self, name: str, kind: str, mark: Mark) -> Link | None:
        """The device of that name if it is of that kind and ours or unmarked; a wrong kind of our own is removed.

        A name holds eleven digits of our own id, so an unmarked device of that name is ours, left by a crash between
        two steps. Raises HostFault when somebody else's mark is on it.
        """
        link = self.links.get(name)
        if link is None:
            return None
        if link.alias and link.alias != str(mark):
            raise HostFault(f"device {name} exists and belongs to {link.alias!r}, not to this cloud")
        if link.kind != kind:
            if not link.alias:
                raise HostFault(f"device {name} exists, is a {link.kind or 'plain device'} and not made by this cloud")
            self.remove(name)
            return None
        return link

    def ensure(
        self,
        link: Link,
        *,
        mark: Mark | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        master: int | None = None,
        up: bool = True,
    ) -> Link:
        """Make these properties of a device so; None leaves one as it is."""
        wanted = b""
        if mark is not None and link.alias != str(mark):
            wanted += attribute(netlink.IFLA_IFALIAS, str(mark).encode())
        if mtu is not None and link.mtu != mtu:
            wanted += attribute(netlink.IFLA_MTU, mtu)
        if mac is not None and link.mac != mac:
            wanted += attribute(netlink.IFLA_ADDRESS, netlink.mac_bytes(mac))
        if master is not None and link.master != master:
            wanted += attribute(netlink.IFLA_MASTER, master)
        if not wanted and link.up == up:
            return link
        self.netlink.set_link(link.index, up=up if link.up != up else None, changes=wanted)
        return self.fresh(link.name)

    def isolate(self, link: Link) -> None:
        """Keep a bridge port from the bridge's other isolated ports."""
        if not link.isolated:
            self.netlink.isolate_port(link.index)
            self.fresh(link.name)

    def ensure_bridge(
        self, name: str, mark: Mark, *, mtu: int | None = None, mac: str | None = None, deaf: bool = True
    ) -> Link:
        """A bridge without spanning tree, forward delay and IGMP snooping, and without IPv6 of its own.

        A deaf one answers no ARP: the host would otherwise claim its other addresses there too.
        """
        link = self.owned(name, "bridge", mark)
        if link is None:
            data = attribute(netlink.BR_STP_STATE, 0) + attribute(netlink.BR_FORWARD_DELAY, 0)
            data += attribute(netlink.BR_MCAST_SNOOPING, b"\0")
            self.netlink.add_link(name, "bridge", data=data)
            link = self.fresh(name)
            self.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
            if deaf:
                self.write(f"net.ipv4.conf.{name}.arp_ignore", "8")
                self.write(f"net.ipv4.conf.{name}.forwarding", "0")
        return self.ensure(link, mark=mark, mtu=mtu, mac=mac)

    def ensure_tap(self, name: str, mark: Mark, *, mtu: int, master: int, up: bool) -> Link:
        """A persistent tap in a bridge, up before any guest opens it."""
        link = self.owned(name, "tun", mark)
        if link is None:
            netns.inside(self.namespace, lambda: _make_tap(name))
            link = self.fresh(name)
            self.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
        return self.ensure(link, mark=mark, mtu=mtu, master=master, up=up)

    def expect_tap(self, name: str) -> None:
        """A persistent tap without a mark, in no bridge, for a guest whose port is still elsewhere."""
        if name not in self.links:
            netns.inside(self.namespace, lambda: _make_tap(name))
            self.fresh(name)
            self.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")

    def ensure_vlan(self, name: str, mark: Mark, *, parent: Link, tag: int, mtu: int, master: int, up: bool) -> Link:
        """What comes tagged from a tap, in a bridge of its own. Raises HostFault when the kernel has no 802.1Q."""
        link = self.owned(name, "vlan", mark)
        if link is not None and link.data.get(netlink.VLAN_ID) != struct.pack("=H", tag):
            self.remove(name)
            link = None
        if link is None:
            data = attribute(netlink.VLAN_ID, struct.pack("=H", tag))
            try:
                self.netlink.add_link(name, "vlan", data=data, extra=attribute(netlink.IFLA_LINK, parent.index))
            except OSError as problem:
                if problem.errno != errno.EOPNOTSUPP:
                    raise
                raise HostFault(
                    f"VLAN {tag} of {parent.name} cannot be carried here: this host's kernel has no 802.1Q (8021q)"
                ) from problem
            link = self.fresh(name)
            self.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
        return self.ensure(link, mark=mark, mtu=mtu, master=master, up=up)

    def ensure_ifb(self, name: str, mark: Mark) -> tuple[Link, bool]:
        """An intermediate device, through which a guest's frames are sent slowly; and whether it is new. Raises
        HostFault when the kernel has none."""
        link = self.owned(name, "ifb", mark)
        new = link is None
        if link is None:
            try:
                self.netlink.add_link(name, "ifb")
            except OSError as problem:
                if problem.errno != errno.EOPNOTSUPP:
                    raise
                raise HostFault("what a guest sends cannot be limited here: this host's kernel has no ifb") from problem
            link = self.fresh(name)
            self.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
        return self.ensure(link, mark=mark), new

    def ensure_pair(self, name: str, mark: Mark, other: Stack, peer: str, *, mtu: int, mac: str | None = None) -> Link:
        """A veth pair from here to `peer` in another namespace (or here); its end there has `mac`. Both are up."""
        link = self.owned(name, "veth", mark)
        if link is not None and peer not in other.links:
            self.remove(name)
            link = None
        if link is None:
            if peer in other.links:
                other.remove(peer)
            if other is self:
                self.netlink.add_veth(name, peer, None, mac=mac)
            else:
                handle = os.open(netns.FOLDER / str(other.namespace), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self.netlink.add_veth(name, peer, handle, mac=mac)
                finally:
                    os.close(handle)
            link = self.fresh(name)
            for end_here in (name, *((peer,) if other is self else ())):
                self.write(f"net.ipv6.conf.{end_here}.disable_ipv6", "1")
        end = other.links.get(peer) or other.fresh(peer)
        other.ensure(end, mtu=mtu, mac=mac)
        return self.ensure(link, mark=mark, mtu=mtu)

    def ensure_tunnel(self, name: str, mark: Mark, *, vni: int, local: str, port: int, mtu: int, master: int) -> Link:
        """A VXLAN device that learns nothing: the ledger knows where every MAC is (S0-33, S2-51)."""
        place = netlink.VXLAN_LOCAL6 if ":" in local else netlink.VXLAN_LOCAL
        raw = netlink.packed(local)
        link = self.owned(name, "vxlan", mark)
        if link is not None:
            as_is = (link.data.get(netlink.VXLAN_ID), link.data.get(place), link.data.get(netlink.VXLAN_PORT))
            if as_is != (struct.pack("=I", vni), raw, struct.pack(">H", port)):
                self.remove(name)
                link = None
        if link is None:
            data = attribute(netlink.VXLAN_ID, vni) + attribute(place, raw)
            data += attribute(netlink.VXLAN_LEARNING, b"\0") + attribute(netlink.VXLAN_PORT, struct.pack(">H", port))
            self.netlink.add_link(name, "vxlan", data=data)
            link = self.fresh(name)
            self.write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
        return self.ensure(link, mark=mark, mtu=mtu, master=master)

    def ensure_addresses(self, wanted: dict[str, set[str]], *, but: str = "") -> set[tuple[str, str]]:
        """Make the addresses of these devices exactly so; `but` is one that may be there or not, and so may those that
        `lo` has by itself. Answers the (device, address/prefix) that are new."""
        index = {self.links[name].index: name for name in wanted}
        have = {(index[at], cidr) for at, cidr in self.netlink.addresses() if at in index and cidr not in (but, *_LOOPBACK)}
        want = {(name, cidr) for name, cidrs in wanted.items() for cidr in cidrs}
        for name, cidr in have - want:
            self.netlink.change_address(self.links[name].index, cidr, add=False)
        for name, cidr in sorted(want - have):
            self.netlink.change_address(self.links[name].index, cidr, add=True)
        self.changes += len(have ^ want)
        return want - have

    def ensure_routes(self, wanted: set[Route]) -> None:
        """Make the routes that Nephos set in this namespace exactly these."""
        have = self.netlink.routes()
        for route in have - wanted:
            self.netlink.change_route(route, add=False)
        for route in sorted(wanted - have, key=lambda item: item.gateway is not None):
            self.netlink.change_route(route, add=True)
        self.changes += len(have ^ wanted)

    def ensure_rules(self, wanted: set[PolicyRule]) -> None:
        """Make the policy rules that Nephos set in this namespace exactly these."""
        have = self.netlink.rules()
        for rule in have - wanted:
            self.netlink.change_rule(rule, add=False)
        for rule in wanted - have:
            self.netlink.change_rule(rule, add=True)
        self.changes += len(have ^ wanted)

    def remove(self, name: str) -> None:
        """Delete a device; its end in another namespace goes with it."""
        link = self.links.pop(name, None)
        if link is None:
            return
        self.changes += 1
        try:
            self.netlink.delete_link(link.index)
        except OSError as problem:
            if problem.errno != errno.ENODEV:
                raise


def _make_tap(name: str) -> None:
    """A persistent tap without owner, as QEMU and libvirt open it. Offload flags are set by whoever opens it."""
    set_interface, set_persistent = 0x400454CA, 0x400454CB
    is_tap, no_packet_info, virtio_header = 0x0002, 0x1000, 0x4000
    handle = os.open(Path("/dev/net/tun"), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(
            handle, set_interface, struct.pack("16sH22x", name.encode(), is_tap | no_packet_info | virtio_header)
        )
        fcntl.ioctl(handle, set_persistent, 1)
    finally:
        os.close(handle)
