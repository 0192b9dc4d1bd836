"""What the tests of the wiring share: the driver on a lab host, and desired states written in a few words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from nephos.doctor.trace import follow
from nephos.doctor.trace.verdict import Trace
from nephos.network.ways import Way
from nephos.wiring.base import (
    Address,
    Desired,
    Endpoint,
    Fact,
    Floating,
    Group,
    Key,
    Leftover,
    Network,
    Physical,
    Port,
    Router,
    RouterGateway,
    RouterInterface,
    Rule,
    Subnet,
    WiringSettings,
)
from nephos.wiring.probe import Watch, Watched
from tests.hosts.lab import HERE, SLOW, Failed, Guest, Host

CLOUD = "4e657068-6f73-4000-8000-000000000001"
PUBLIC_RANGE, PUBLIC_HOST = "172.24.4.0/24", "172.24.4.1"
OPEN = (Rule(direction="egress", version=4), Rule(direction="egress", version=6))
WEB = Rule(direction="ingress", version=4, protocol="tcp", port_min=80, port_max=80)
PING = Rule(direction="ingress", version=4, protocol="icmp")
PING6 = Rule(direction="ingress", version=6, protocol="ipv6-icmp")


def new_id() -> str:
    return str(uuid.uuid4())


class HostWiring:
    """The driver in its own process on a host. `kill` ends it as kill -9 does."""

    def __init__(self, host: Host, *, settings: WiringSettings | None = None) -> None:
        self.host = host
        physical = Physical(bridge="br-ex", address=f"{PUBLIC_HOST}/24", masquerade=True)
        self.settings = settings or WiringSettings(tunnel_address=host.address, physical={"public": physical})
        self.state_dir = host.folder / "wiring"
        self._start()

    def _start(self) -> None:
        self._errors = (self.host.folder / "wiring.log").open("a")
        settings = msgspec.json.encode(self.settings).decode()
        words = [sys.executable, str(HERE / "wiring_process.py"), str(self.state_dir), CLOUD, settings]
        self._process = subprocess.Popen(
            self.host.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.host.lab.processes.append(self._process)
        self._line("ready")

    def _line(self, expected: str | None = None) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line or (expected is not None and line.strip() != expected):
            raise Failed(f"wiring of {self.host.name}: {line}{(self.host.folder / 'wiring.log').read_text()}")
        return line

    def _ask(self, command: str, argument: Any = None) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode([command, argument]).decode() + "\n")
        self._process.stdin.flush()
        answer = msgspec.json.decode(self._line())
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer["ok"]

    def apply(self, desired: Desired, changed: list[Key] | None = None) -> dict[str, Any]:
        """errors, seconds, and changes: how many things of the host had to be changed."""
        answer: dict[str, Any] = self._ask("apply", {"desired": desired, "changed": changed})
        return answer

    def wire(self, desired: Desired) -> dict[str, Any]:
        """Apply and insist that nothing failed. On an emulated machine a program may take longer than the driver waits for
        it; there, as on any host, the agent looks again."""
        answer = self.apply(desired)
        for _ in range(2 if SLOW > 1 else 0):
            if not answer["errors"]:
                break
            answer = self.apply(desired)
        assert answer["errors"] == {}, answer["errors"]
        return answer

    def check(self) -> str:
        """What is wrong with the settings; "" when they can work."""
        return str(self._ask("check"))

    def stop(self) -> None:
        """End the process for good; what it wired stays."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)

    def leftovers(self, desired: Desired) -> list[Leftover]:
        return msgspec.convert(self._ask("leftovers", desired), list[Leftover])

    def facts(self) -> list[Fact]:
        return msgspec.convert(self._ask("facts"), list[Fact])

    def expect(self, *port_ids: str) -> None:
        self._ask("expect", port_ids)

    def unexpect(self, *port_ids: str) -> None:
        self._ask("unexpect", port_ids)

    def purge(self) -> None:
        self._ask("purge")

    def restart(self, *, kill: bool = False) -> None:
        """End the process, politely or not, and start another on the same state."""
        if kill:
            # nsenter waits for the driver, which is its child.
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
            os.kill(int(children), signal.SIGKILL)
        else:
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait(timeout=10)
        self._start()

    def guest(self, port: Port, *, mtu: int = 1450) -> Guest:
        return Guest(self.host, f"tap{port.id[:11]}", port.mac, mtu=mtu)


class Cloud:
    """A desired state for several hosts, grown call by call."""

    def __init__(self, wirings: list[HostWiring]) -> None:
        self.wirings = wirings
        self.networks: dict[str, Network] = {}
        self.ports: dict[str, tuple[int, Port]] = {}
        self.groups: dict[str, Group] = {}
        self.routers: dict[str, Router] = {}
        self.blocked: tuple[tuple[int, int], ...] = ()
        """Pairs of hosts between which VXLAN does not pass."""
        self._count = 0

    def network(self, cidr: str = "10.1.0.0/24", *, kind: str = "vxlan", **more: Any) -> Network:
        self._count += 1
        base = cidr.rsplit(".", 1)[0]
        subnet = Subnet(
            id=new_id(), cidr=cidr, version=4, gateway=f"{base}.1", dhcp_address=f"{base}.2", dns=more.pop("dns", ())
        )
        values: dict[str, Any] = {
            "id": new_id(), "kind": kind, "segment": 100 + self._count, "mtu": 1450, "subnets": (subnet,),
            "dhcp_port_id": new_id(), "dhcp_mac": self._mac("dd"), "domain": "cloud.test",
        }  # fmt: skip
        network = Network(**(values | more))
        self.networks[network.id] = network
        return network

    def _mac(self, kind: str) -> str:
        return f"fa:16:3e:{kind}:{self._count >> 8:02x}:{self._count & 255:02x}"

    def public(self) -> Network:
        """The external network of the demo: 172.24.4.0/24 on br-ex."""
        subnet = Subnet(id=new_id(), cidr=PUBLIC_RANGE, version=4, gateway=PUBLIC_HOST, dhcp=False)
        return self.network(
            kind="flat", physical="public", external=True, mtu=1500, subnets=(subnet,), dhcp_mac=None, segment=None,
            dhcp_port_id=None,
        )  # fmt: skip

    def group(self, *rules: Rule, members: tuple[str, ...] = ()) -> Group:
        group = Group(id=new_id(), rules=OPEN + rules, members=members)
        self.groups[group.id] = group
        return group

    def change(self, item: Group | Network | Router, **values: Any) -> Any:
        new = msgspec.structs.replace(item, **values)
        kept: dict[str, Any] = {Group: self.groups, Network: self.networks, Router: self.routers}[type(item)]  # type: ignore[assignment]
        kept[item.id] = new
        return new

    def port(
        self, network: Network, number: int, *groups: Group, host: int = 0, name: str | None = None, **more: Any
    ) -> Port:
        """A port with host part `number` in the network's first subnet."""
        self._count += 1
        subnet = network.subnets[0]
        address = f"{subnet.cidr.rsplit('.', 1)[0]}.{number}"
        values: dict[str, Any] = {
            "id": new_id(), "network_id": network.id, "mac": f"fa:16:3e:{self._count >> 8:02x}:{self._count & 255:02x}:{number:02x}",
            "index": 1000 + self._count, "addresses": (Address(address, int(subnet.cidr.split("/")[1]), subnet.id),),
            "groups": tuple(group.id for group in groups),
        }  # fmt: skip
        port = Port(**(values | more))
        self.ports[port.id] = (host, port)
        for group in groups:
            group = self.groups[group.id]
            self.change(group, members=(*group.members, address))
        self._endpoint(network.id, port.id, port.mac, port.addresses, host, name)
        return port

    def remove(self, port: Port) -> None:
        """Take a port away again, and its address out of every group."""
        del self.ports[port.id]
        network = self.networks[port.network_id]
        self.change(network, endpoints=tuple(one for one in network.endpoints if one.port_id != port.id))
        gone = {address.address for address in port.addresses}
        for group in list(self.groups.values()):
            self.change(group, members=tuple(one for one in group.members if one not in gone))

    def _endpoint(
        self, network_id: str, port_id: str, mac: str, addresses: tuple[Address, ...], host: int, name: str | None
    ) -> None:
        network = self.networks[network_id]
        tunnel = self.wirings[host].settings.tunnel_address
        endpoint = Endpoint(port_id=port_id, mac=mac, addresses=addresses, hostname=name, tunnel=tunnel)
        self.change(network, endpoints=(*network.endpoints, endpoint))

    def router(self, public: Network | None, *networks: Network, number: int = 10, **more: Any) -> Router:
        """A router on the first host with the networks' gateway addresses and 172.24.4.`number` outside."""
        self._count += 1
        legs = []
        for place, network in enumerate(networks):
            subnet = network.subnets[0]
            address = Address(str(subnet.gateway), int(subnet.cidr.split("/")[1]), subnet.id)
            leg = RouterInterface(
                port_id=new_id(), network_id=network.id, mac=self._mac(f"a{place:x}"),
                addresses=(address,),
            )  # fmt: skip
            legs.append(leg)
            self._endpoint(network.id, leg.port_id, leg.mac, leg.addresses, 0, None)
        gateway = None
        if public is not None:
            gateway = RouterGateway(
                port_id=new_id(), network_id=public.id, mac=self._mac("bb"),
                addresses=(Address(f"172.24.4.{number}", 24, public.subnets[0].id),), nexthops=(PUBLIC_HOST,),
            )  # fmt: skip
        router = Router(id=new_id(), interfaces=tuple(legs), gateways=(gateway,) if gateway else (), **more)
        self.routers[router.id] = router
        return router

    def float(self, router: Router, number: int, port: Port) -> str:
        address = f"172.24.4.{number}"
        router = self.routers[router.id]
        self.change(router, floating=(*router.floating, Floating(address, port.addresses[0].address)))
        return address

    def desired(self, host: int = 0) -> Desired:
        """What the server would tell this host."""
        own = self.wirings[host].settings.tunnel_address
        ports = {name: port for name, (at, port) in self.ports.items() if at == host}
        routers = self.routers if host == 0 else {}
        here = {port.network_id for port in ports.values()}
        for router in routers.values():
            here |= {leg.network_id for leg in router.legs}
        networks = {}
        for name in here | (set(self.networks) if host == 0 else set()):
            network = self.networks[name]
            peers = {one.tunnel for one in network.endpoints if one.tunnel and one.tunnel != own}
            endpoints = tuple(
                msgspec.structs.replace(one, tunnel=None if one.tunnel == own else one.tunnel)
                for one in network.endpoints
            )
            networks[name] = msgspec.structs.replace(
                network,
                endpoints=endpoints,
                peers=tuple(sorted(str(peer) for peer in peers)),
                detours=tuple(sorted(peers & self._round(host))) if network.kind == "vxlan" else (),
            )
        return Desired(networks=networks, ports=ports, groups=self.groups, routers=routers)

    def _round(self, host: int) -> set[str | None]:
        """The tunnel addresses of hosts that this one reaches by the fall-back only."""
        others = {other for pair in self.blocked if host in pair for other in pair if other != host}
        return {self.wirings[other].settings.tunnel_address for other in others}

    def wire(self) -> None:
        for host, wiring in enumerate(self.wirings):
            wiring.wire(self.desired(host))


def trace(wirings: Sequence[HostWiring], way: Way, *, late: str = "") -> Trace:
    """As `doctor.trace.follow.trace` does it, with the hosts asked directly, whose ids are their places here; within ten
    seconds. The host `late` is so busy that it begins to look when the packets are through."""

    def ask(host_id: str, watch: Watch) -> Watched:
        if host_id == late:
            time.sleep(1.4)
        return msgspec.convert(wirings[int(host_id)]._ask("probe", watch), Watched)

    begun = time.monotonic()
    answer = follow.follow(way, {str(number): wiring.host.name for number, wiring in enumerate(wirings)}, ask)
    assert time.monotonic() - begun < 10 * SLOW
    return answer
