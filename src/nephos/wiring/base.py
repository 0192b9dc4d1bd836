"""What a host's wiring is asked to make, and the protocol of a driver that makes it.

The types are the *desired state*: the server builds them from the ledger, the agent keeps them on its disk and hands
them to its driver. They carry ids, addresses and numbers only; a driver derives every device name, path and argument
itself (design: trust). All addresses are text as `ipaddress` prints them, MACs are lower case with colons, MTUs bytes.

Drivers are level-triggered: `apply` receives the whole desired state and makes the host equal to it, however the host
looks now. `changed` is only a hint about what to look at first; `None` means look at everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

import msgspec

from nephos.wiring.probe import Watch, Watched


class Kind(StrEnum):
    """The kinds of things a driver wires."""

    NETWORK = "network"
    PORT = "port"
    GROUP = "group"
    ROUTER = "router"


class Key(NamedTuple):
    """One thing that is wired: its kind and its id in the ledger."""

    kind: Kind
    id: str


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every desired-state type: immutable, compared by value."""


class Address(Wire, frozen=True):
    """One address of a port, with the prefix length of its subnet."""

    address: str
    prefix: int
    subnet_id: str


class Route(Wire, frozen=True):
    """A static route: of a subnet (told to guests by DHCP) or of a router."""

    destination: str
    nexthop: str


class Subnet(Wire, frozen=True):
    """A subnet as DHCP and routers need it.

    `dhcp_address` is the address of the network's DHCP port on it; None when DHCP is off.
    `ra_mode` and `address_mode` are Neutron's ipv6_ra_mode and ipv6_address_mode.
    """

    id: str
    cidr: str
    version: int
    gateway: str | None = None
    dhcp: bool = True
    dhcp_address: str | None = None
    dns: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    ra_mode: str | None = None
    address_mode: str | None = None


class Endpoint(Wire, frozen=True):
    """A port of a network, on whichever host it is: what DHCP, ARP and forwarding entries are made of.

    `tunnel` is the tunnel address of the host that holds the port; None when that is unknown or the host itself.
    """

    port_id: str
    mac: str
    addresses: tuple[Address, ...] = ()
    hostname: str | None = None
    tunnel: str | None = None
    dhcp_options: tuple[tuple[str, str], ...] = ()
    dhcp6_options: tuple[tuple[str, str], ...] = ()


class Network(Wire, frozen=True):
    """A network that this host carries.

    `kind` is local, flat, vlan, vxlan, gre or geneve; `segment` the VLAN id, VNI or GRE key; `physical` the name of the
    physical network.
    `peers` are the tunnel addresses of the other hosts that carry it, `detours` those of them to which VXLAN does not
    pass, so that the fall-back leads there, which is set alike on both hosts. `dhcp_mac` is the MAC of its DHCP port, which is
    the same on every host; None when no subnet has DHCP.
    """

    id: str
    kind: str
    segment: int | None = None
    physical: str | None = None
    mtu: int = 1500
    external: bool = False
    subnets: tuple[Subnet, ...] = ()
    dhcp_port_id: str | None = None
    dhcp_mac: str | None = None
    domain: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    peers: tuple[str, ...] = ()
    detours: tuple[str, ...] = ()


class Rule(Wire, frozen=True):
    """One security group rule, Neutron's meaning. `protocol` is a name or number as text; None is any."""

    direction: str
    version: int
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_cidr: str | None = None
    remote_group_id: str | None = None


class Group(Wire, frozen=True):
    """A security group with its rules, and the addresses (CIDRs or single) of its member ports for remote groups."""

    id: str
    rules: tuple[Rule, ...] = ()
    members: tuple[str, ...] = ()
    stateful: bool = True


class Limits(Wire, frozen=True):
    """What a port is limited to, as the guest sees it: `to` is what it gets, `sent` what it sends. None is no limit.

    Rates are kbit/s and packets a second, bursts kbit and packets (0: what fits the rate). `dscp` marks what it sends.
    `least_sent_kbits` it may send whatever others do, on a physical network whose uplink is shared.
    """

    to_kbits: int | None = None
    to_burst: int = 0
    sent_kbits: int | None = None
    sent_burst: int = 0
    to_packets: int | None = None
    to_packets_burst: int = 0
    sent_packets: int | None = None
    sent_packets_burst: int = 0
    dscp: int | None = None
    least_sent_kbits: int | None = None


class LocalIp(Wire, frozen=True):
    """A local IP that leads this host's guests to a port: packets for `address` get to the port at its address `fixed`, or,
    when they are not `translated`, as they are."""

    address: str
    fixed: str
    translated: bool = True


class Port(Wire, frozen=True):
    """A guest's port on this host. One with a `trunk`, another port's id, is behind that one's tap, in VLAN `tag`.

    `index` is a number from 1 to 65535, unique among the ports of the host as long as the port lives there: the mark
    that firewall and metadata know the port by. `pairs` are allowed address pairs as (cidr, mac or None).
    """

    id: str
    network_id: str
    mac: str
    index: int
    addresses: tuple[Address, ...] = ()
    pairs: tuple[tuple[str, str | None], ...] = ()
    groups: tuple[str, ...] = ()
    port_security: bool = True
    admin_up: bool = True
    device_id: str = ""
    trunk: str | None = None
    tag: int | None = None
    limits: Limits | None = None
    local: tuple[LocalIp, ...] = ()


class RouterInterface(Wire, frozen=True):
    """A router's leg in a network: `addresses` are the router's own there."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[Address, ...]


class Floating(Wire, frozen=True):
    """A floating IP: packets to `address` go to `fixed` and back. Of its `limits` the bandwidths count."""

    address: str
    fixed: str
    limits: Limits | None = None


class RouterGateway(Wire, frozen=True):
    """A router's leg in an external network. `nexthops` are that network's gateways, one per IP version. `limits`, of
    which the bandwidths count, hold for what is translated to its own IPv4 addresses."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[Address, ...]
    nexthops: tuple[str, ...] = ()
    snat: bool = True
    limits: Limits | None = None


class Forwarding(Wire, frozen=True):
    """Port forwarding: packets of `protocol` (tcp, udp, sctp, dccp, udplite) to `address`, ports `outside` (first, last),
    go to `fixed`, ports `inside`: one, or as many as outside."""

    protocol: str
    address: str
    outside: tuple[int, int]
    fixed: str
    inside: tuple[int, int]


class Helper(Wire, frozen=True):
    """A connection tracking helper of the kernel (ftp, tftp, sip…) for what goes to a port."""

    helper: str
    protocol: str
    port: int


class Meter(Wire, frozen=True):
    """A metering label: bytes and packets that cross the gateways are counted by `rules`, in order; the first match
    decides: (direction ingress or egress, excluded, source CIDR or None, destination CIDR or None)."""

    id: str
    rules: tuple[tuple[str, bool, str | None, str | None], ...] = ()


class RouterHa(Wire, frozen=True):
    """How the hosts of a highly available router elect the active one by VRRP (RFC 5798).

    `leg` is this host's in the project's HA network, `number` the virtual router's (1 to 255) there and `virtual` its
    address, which the active host has. Without `rank` all hosts are equal, and none takes over from one that is active;
    with it the host of the highest, from 0, is active whenever it can be.
    """

    leg: RouterInterface
    number: int
    virtual: Address
    rank: int | None = None


class RouterEdge(Wire, frozen=True):
    """What makes a router the edge of a distributed one, on a host of ports with floating IPs: it serves those and nothing
    else. Its legs have the addresses and MACs that the router has on its own host, and nobody but `ports` may see that.

    `ports` are (address, port) of this host. What they send from there by the router comes to the edge, but for what
    goes to `central`, the router's own networks and routes. `outside` are the external network's ranges.
    """

    outside: tuple[str, ...]
    central: tuple[str, ...]
    ports: tuple[tuple[str, str], ...]


class Router(Wire, frozen=True):
    """A router whose namespace is on this host; one with `ha` is on several, and active on one.

    The first gateway is the main one: its next hops are the default routes; with `ecmp` those of all gateways share the
    traffic. `proxied` are the IPv6 addresses that the
    gateways answer for when they are asked (NDP proxy); None is that the router is not restricted to them.
    """

    id: str
    interfaces: tuple[RouterInterface, ...] = ()
    gateways: tuple[RouterGateway, ...] = ()
    floating: tuple[Floating, ...] = ()
    routes: tuple[Route, ...] = ()
    admin_up: bool = True
    ha: RouterHa | None = None
    forwardings: tuple[Forwarding, ...] = ()
    helpers: tuple[Helper, ...] = ()
    proxied: tuple[str, ...] | None = None
    meters: tuple[Meter, ...] = ()
    ecmp: bool = False
    edge: RouterEdge | None = None

    @property
    def gateway(self) -> RouterGateway | None:
        """The main gateway."""
        return self.gateways[0] if self.gateways else None

    @property
    def legs(self) -> tuple[RouterInterface | RouterGateway, ...]:
        """Every leg, that of the HA network too."""
        return (*self.interfaces, *self.gateways, *((self.ha.leg,) if self.ha else ()))


Item = Network | Port | Group | Router


class Desired(msgspec.Struct):
    """All that should be wired on one host, by id."""

    networks: dict[str, Network] = {}
    ports: dict[str, Port] = {}
    groups: dict[str, Group] = {}
    routers: dict[str, Router] = {}


class Physical(msgspec.Struct, frozen=True, kw_only=True):
    """How a physical network is reached from this host (a host setting, never sent by the server).

    `bridge` is the bridge that carries it; the driver makes it when it does not exist and then removes it on purge.
    `interface` is an uplink to enslave, if any. `address` (with prefix) is put on the bridge when the host itself
    takes part; `masquerade` then lets that range reach the outside through the host (S1-52, S2-58).
    """

    bridge: str
    interface: str | None = None
    address: str | None = None
    masquerade: bool = False


class Fallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What carries VXLAN networks to a host that VXLAN does not reach: GRE, or Geneve at a UDP port of its own, lest its
    networks meet those of type Geneve that have the same numbers."""

    kind: Literal["geneve", "gre"]
    port: int = 6082

    def __str__(self) -> str:
        """As hosts compare it: two that set it alike can use it."""
        return self.kind if self.kind == "gre" else f"{self.kind}:{self.port}"


class WiringSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A host's own wiring settings. `tunnel_address` must live on this host (S0-26); None means no tunnels.

    `switch` is what joins the networks' bridges to other hosts: the kernel's own devices or Open vSwitch. `underlay` is
    a bridge that carries the tunnels' packets, for hosts where `tunnel_address` is on no device yet: with its uplink and
    `address`. Where Open vSwitch runs without its kernel module it can tunnel over nothing else.
    `meter_seconds` is how often it is told what metering labels counted. `bandwidths` are kbit/s that the uplinks of
    physical networks carry to the outside, where ports may have a minimum of it.
    """

    tunnel_address: str | None = None
    tunnel_port: int = 4789
    tunnel_fallback: Fallback | None = None
    physical: dict[str, Physical] = {}
    switch: Literal["linux", "openvswitch"] = "linux"
    underlay: Physical | None = None
    meter_seconds: float = 60.0
    bandwidths: dict[str, int] = {}


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something seen on the host: `kind` is address_taken (detail: the address), metadata_served (detail: the path),
    learned (detail: JSON [[MAC, address], …], the pairs seen behind the port beside its own, at most 32), rogue (detail:
    JSON [[what, MAC, address, frames], …], the DHCP servers and router advertisements that were blocked there; `port_id`
    may be a network's id when they came from outside), router_state (`port_id` is the router's id, detail: active or
    standby), gateway_silent and gateway_answers (`port_id` is a router's leg outside, detail: the next hop that was asked
    for there), meter (`port_id` is a metering label's id, detail: JSON [router, packets, bytes, seconds], what was counted
    in these seconds), overlay and detour (`port_id` is a peer's tunnel address, detail: "up MTU/WANTED", down or gone;
    by VXLAN, and by the fall-back where the peer is one of a network's `detours`)."""

    kind: str
    port_id: str
    detail: str = ""


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """A thing on the host that Nephos made and that nothing desired owns. `kind` is e.g. tap, bridge, namespace."""

    kind: str
    name: str
    why: str


MetadataLookup = Callable[[str, str], bytes | None]
"""(port id, URL path) → the body, None when there is no such path."""
MetadataPost = Callable[[str, str, bytes], int]
"""(port id, URL path, what the guest posts) → the HTTP status; may take some seconds."""


class Wiring(Protocol):
    """A wiring driver. Calls come from one thread at a time, except `tap_name`."""

    def check(self) -> None:
        """Raises HostFault when the host's own settings cannot work, with the reason: a tunnel address where no tunnel's
        packet can arrive (S0-27), a switch that is not there."""
        ...

    def apply(self, desired: Desired, changed: frozenset[Key] | None = None) -> dict[Key, str]:
        """Make the host equal to `desired`. Never raises for one bad item: answers the items that failed, with why."""
        ...

    def tap_name(self, port_id: str) -> str:
        """The device that a guest's NIC for this port is connected to; `apply` has made it, persistent."""
        ...

    def expect(self, port_ids: Sequence[str]) -> None:
        """Make the devices that a guest which is on its way here opens before its ports come: connected to nothing. May come
        from any thread. `apply` takes them over."""
        ...

    def unexpect(self, port_ids: Sequence[str]) -> None:
        """Take away what `expect` made, of ports that did not come."""
        ...

    def serve_metadata(self, lookup: MetadataLookup, post: MetadataPost) -> None:
        """Answer 169.254.169.254 in every network from `lookup` and `post`, from now on."""
        ...

    def watch(self, report: Callable[[Fact], None]) -> None:
        """Call `report` for each new fact, from a thread of the driver's own, at most once a fact and port."""
        ...

    def leftovers(self, desired: Desired) -> list[Leftover]:
        """What exists here with this cloud's mark and should not."""
        ...

    def probe(self, request: Watch) -> Watched:
        """Look for packets, and send them as a guest, for as long as the request says. May come from any thread.

        Raises HostFault when that cannot be done here.
        """
        ...

    def close(self) -> None:
        """Stop threads and sockets of the driver; the host's wiring stays as it is."""
        ...

    def purge(self) -> None:
        """Remove all that the driver ever made on this host, and restore sysctls it changed."""
        ...
