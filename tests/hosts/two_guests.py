"""Two guests with log-in, one on each host of a lab's cloud, joined by VXLAN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nephos import guestimage
from nephos.cli.demo import _images
from tests.hosts.lab import Failed, Space
from tests.hosts.lab_cloud import LabCloud

OPEN_PORT = 8080
"""What the guests' group lets in, beside pings and log-in."""
# Offsets in bits from the outer UDP header: it, VXLAN's and the inner Ethernet header are 8, 8 and 14 bytes.
_TYPE, _PROTOCOL, _SOURCE, _TARGET, _PORTS = "@th,224,16", "@th,312,8", "@th,336,32", "@th,368,32", "@th,400,32"
_COUNTERS = f"""table bridge tunnels {{
    counter tunnelled {{ }}
    counter pings {{ }}
    counter dhcp {{ }}
    counter metadata {{ }}
    chain forward {{
        type filter hook forward priority 0
        udp dport 4789 jump tunnel
    }}
    chain tunnel {{
        counter name tunnelled
        {_TYPE} 0x0800 {_PROTOCOL} 1 counter name pings
        {_TYPE} 0x0800 {_PROTOCOL} 17 {_PORTS} 0x00440043 counter name dhcp
        {_TYPE} 0x0800 {_PROTOCOL} 17 {_PORTS} 0x00430044 counter name dhcp
        {_TYPE} 0x0800 {_TARGET} 0xa9fea9fe counter name metadata
        {_TYPE} 0x0800 {_SOURCE} 0xa9fea9fe counter name metadata
    }}
}}
"""


class Underlay:
    """Counts what hosts send each other in tunnels, at the switch between them."""

    def __init__(self, switch: Space) -> None:
        self._switch = switch
        switch.run("nft", "-f", "-", text=_COUNTERS)

    def packets(self, counter: str) -> int:
        words = self._switch.out("nft", "list", "counter", "bridge", "tunnels", counter).split()
        return int(words[words.index("packets") + 1])


class World:
    """Two guests, one on each host, on one network with a router on host 1."""

    def __init__(self, cloud: LabCloud, folder: Path) -> None:
        self.cloud = cloud
        self.underlay = Underlay(cloud.lab.switch)
        self.key = folder / "id"
        with cloud.network():
            self.admin = cloud.connect("admin")  # a host is an administrator's to choose
            self._make()

    def _make(self) -> None:
        admin = self.admin
        image = _images(self.admin, guestimage.build(Path("/var/cache/nephos/guest")))
        pair = admin.compute.create_keypair(name="two")
        self.key.touch(mode=0o600)
        self.key.write_text(pair.private_key)
        network = self.network = admin.network.create_network(name="two")
        subnet = admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.20.0.0/24", name="two")
        self.router = admin.network.create_router(
            name="two", external_gateway_info={"network_id": admin.network.find_network("public").id}
        )
        admin.network.add_interface_to_router(self.router, subnet_id=subnet.id)
        self.group = admin.network.create_security_group(name="two")
        self.allow("icmp", None)
        self.allow("tcp", 22)
        self.allow("tcp", OPEN_PORT)
        flavor = admin.compute.find_flavor("m1.nano")
        made = [
            self.server(name=f"on-{host}", image=image, flavor=flavor, zone=f"nova:{host}")
            for host in cloud_hosts(self.cloud)
        ]
        self.servers = [admin.compute.wait_for_server(server, interval=0.2, wait=120) for server in made]
        self.ports = [next(iter(admin.network.ports(device_id=server.id))) for server in self.servers]
        self.addresses = [port.fixed_ips[0]["ip_address"] for port in self.ports]
        public = admin.network.find_network("public")
        self.floating = admin.network.create_ip(floating_network_id=public.id, port_id=self.ports[0].id)

    def server(self, *, name: str, image: Any, flavor: Any, zone: str) -> Any:
        return self.admin.compute.create_server(
            name=name,
            image_id=image.id,
            flavor_id=flavor.id,
            networks=[{"uuid": self.network.id}],
            key_name="two",
            security_groups=[{"name": "two"}],
            availability_zone=zone,
        )

    def allow(self, protocol: str, port: int | None) -> Any:
        return self.admin.network.create_security_group_rule(
            security_group_id=self.group.id,
            direction="ingress",
            ether_type="IPv4",
            protocol=protocol,
            port_range_min=port,
            port_range_max=port,
        )

    def events(self, server: Any) -> set[str]:
        with self.cloud.network():
            actions = self.admin.compute.server_actions(server.id)
            create = next(each for each in actions if each.action == "create")
            return {each.event for each in self.admin.compute.get_server_action(create.request_id, server.id).events}

    def in_guest(self, number: int, command: str, *, timeout: float = 30, text: str | None = None) -> str:
        """Run a command in a guest, from its gateway's host: in the first through its floating IP, in the second by way
        of the first. `Failed` when it fails."""
        address = self.floating.floating_ip_address
        options = ["-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        options += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"]
        target = f"root@{address}"
        if number:
            hop = f"ProxyCommand=ssh {' '.join(options)} -W %h:%p {target}"
            options, target = [*options, "-o", hop], f"root@{self.addresses[number]}"
        return self.cloud.lab.hosts[0].run("ssh", *options, target, command, timeout=timeout, text=text).stdout

    def answers(self, number: int) -> bool:
        try:
            return bool(self.in_guest(number, "hostname"))
        except Failed:
            return False

    def reaches(self, port: int) -> bool:
        """Whether a TCP connection from the first guest to the second comes about on this port."""
        script = f"echo hello | timeout 4 nc -w 3 {self.addresses[1]} {port} >/dev/null 2>&1 && echo yes || echo no"
        return self.in_guest(0, script).strip() == "yes"

    def delete_everything(self) -> None:
        """What the test made and what the cloud began with."""
        network, compute = self.admin.network, self.admin.compute
        with self.cloud.network():
            for server in self.servers:
                compute.delete_server(server)
            for server in self.servers:
                compute.wait_for_delete(server, interval=0.1, wait=60)
            network.delete_ip(self.floating)
            for leg in list(network.ports(device_owner="network:router_interface")):
                network.remove_interface_from_router(leg.device_id, port_id=leg.id)
            for router in list(network.routers()):
                network.delete_router(router)
            for each in list(network.networks()):
                network.delete_network(each)
            network.delete_security_group(self.group)


def cloud_hosts(cloud: LabCloud) -> list[str]:
    return [host.name for host in cloud.lab.hosts]
