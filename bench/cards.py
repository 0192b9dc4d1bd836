"""A guest with three cards: does a stock cloud image have the three addresses on the right ones? (S0-35, S0-37, S0-40)

    sudo .venv/bin/python bench/cards.py [--image FOLDER] [--patience SECONDS]

Debian with cloud-init, made by debootstrap (kept in FOLDER), boots twice at once on three networks asked for in another order
than that of their making: once told by a config drive, once by the metadata service, the second by ports instead of networks.
The subnet of one network has no DHCP, so that its address can have come by network_data.json alone. By a log-in it is seen
that card N is the port asked for as N-th, that each has the address the cloud gave that port, by DHCP or not, where cloud-init
had it from, that nothing failed there, and that the guests reach each other on all three networks. Prints how long each took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nephos.guestimage.debian import DebianImage, build_debian
from tests.cloud import RunningCloud, wait_for

NETWORKS = {"red": ("10.61.0.0/24", True), "blue": ("10.62.0.0/24", False), "green": ("10.63.0.0/24", True)}
"""Name → range, DHCP; in the order of their making."""
ORDERS = {"ConfigDrive": ("green", "blue", "red"), "OpenStack": ("green", "red", "blue")}
"""cloud-init's name of where it is told → the order of the cards."""


class Guest:
    """One of the two. `ports` are in the order asked for."""

    def __init__(self, house: House, source: str) -> None:
        self.house, self.source, self.order = house, source, ORDERS[source]
        demo = house.demo
        ports = [house.port(name, f"{source}-{name}") for name in self.order] if source == "OpenStack" else []
        wanted = [{"port": port.id} for port in ports] or [{"uuid": house.networks[name].id} for name in self.order]
        self.began = time.monotonic()
        self.server = demo.compute.create_server(
            name=source.lower(), image_id=house.image_id, flavor_id=house.flavor_id, key_name="cards", networks=wanted,
            config_drive=source == "ConfigDrive",
        )  # fmt: skip

    def ready(self, patience: float) -> None:
        """Wait until it is logged into and cloud-init has ended."""
        demo = self.house.demo
        demo.compute.wait_for_server(self.server, interval=0.2, wait=300)
        by_network = {port.network_id: port for port in demo.network.ports(device_id=self.server.id)}
        self.ports = [by_network[self.house.networks[name].id] for name in self.order]
        public = demo.network.find_network("public")
        ip = demo.network.create_ip(floating_network_id=public.id, port_id=self.ports[0].id)
        self.address = str(ip.floating_ip_address)
        ended = "test -e /run/cloud-init/result.json && echo yes"
        try:
            wait_for(lambda: self.run(ended, check=False), patience, f"a log-in to {self.source}")
        except AssertionError as late:
            shown = demo.compute.get_server_console_output(self.server.id, length=30)
            raise AssertionError(f"{late}; its console: {shown}") from late
        self.seconds = time.monotonic() - self.began

    def run(self, command: str, *, check: bool = True) -> str:
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "BatchMode=yes",
        ]
        words = [part for option in options for part in ("-o", option)]
        user = f"{self.house.image.user}@{self.address}"
        return self.house.cloud.inside("ssh", "-i", str(self.house.key), *words, user, command, check=check)

    def check(self) -> None:
        """AssertionError with what is wrong."""
        cards = {each["ifname"]: each for each in json.loads(self.run("ip -j address"))}
        for number, port in enumerate(self.ports):
            card = cards[f"eth{number}"]
            found = [f"{one['local']}/{one['prefixlen']}" for one in card["addr_info"] if one["family"] == "inet"]
            assert card["address"] == port.mac_address, (
                f"eth{number} is not the card asked for as number {number}: {card}"
            )
            assert found == [f"{port.fixed_ips[0]['ip_address']}/24"], f"eth{number} has {found}, not {port.fixed_ips}"
            dynamic = any("dynamic" in one for one in card["addr_info"] if one["family"] == "inet")
            assert dynamic is NETWORKS[self.order[number]][1], f"eth{number} has its address by the wrong way: {card}"
            assert card["mtu"] == self.house.networks[self.order[number]].mtu, f"eth{number} has MTU {card['mtu']}"
        result = json.loads(self.run("cat /run/cloud-init/result.json"))["v1"]
        assert result["errors"] == [] and self.source in result["datasource"], result
        assert len(cards) == 1 + len(self.ports), sorted(cards)
        self.datasource = str(result["datasource"])
        self.uptime = float(self.run("cut -d' ' -f1 /proc/uptime"))

    def shown(self) -> str:
        pairs = [
            f"eth{n}={p.fixed_ips[0]['ip_address']} ({name})"
            for n, (name, p) in enumerate(zip(self.order, self.ports, strict=True))
        ]
        return f"{self.source:<12} {' '.join(pairs)}: told by {self.datasource}; {self.seconds:.0f} s to a log-in with cloud-init ended"


class House:
    """The cloud, its networks, the image."""

    def __init__(self, cloud: RunningCloud, image: DebianImage) -> None:
        self.cloud, self.image = cloud, image
        admin, self.demo = cloud.connect("admin"), cloud.connect("demo")
        made = admin.create_image(
            "debian",
            filename=str(image.qcow2),
            disk_format="qcow2",
            container_format="bare",
            visibility="public",
            wait=True,
        )
        self.image_id = made.id
        self.flavor_id = admin.compute.create_flavor(name="cards", ram=512, vcpus=1, disk=3).id
        self.key = cloud.state / "cards.key"
        self.key.touch(mode=0o600)
        self.key.write_text(self.demo.compute.create_keypair(name="cards").private_key)
        self.networks: dict[str, Any] = {}
        for name, (cidr, dhcp) in NETWORKS.items():
            network = self.demo.network.create_network(name=name)
            gateway = {} if name == "green" else {"gateway_ip": None}
            subnet = self.demo.network.create_subnet(
                network_id=network.id, ip_version=4, cidr=cidr, is_dhcp_enabled=dhcp, **gateway
            )
            self.networks[name] = self.demo.network.get_network(network.id)
        public = self.demo.network.find_network("public")
        router = self.demo.network.create_router(external_gateway_info={"network_id": public.id})
        self.demo.network.add_interface_to_router(router, subnet_id=subnet.id)
        group = next(iter(self.demo.network.security_groups(name="default", project_id=self.demo.current_project_id)))
        for protocol, port in (("icmp", None), ("tcp", 22)):
            self.demo.network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", ether_type="IPv4", protocol=protocol,
                port_range_min=port, port_range_max=port,
            )  # fmt: skip

    def port(self, network: str, name: str) -> Any:
        return self.demo.network.create_port(network_id=self.networks[network].id, name=name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=Path("/var/cache/nephos/debian"), metavar="FOLDER")
    parser.add_argument(
        "--patience", type=float, default=900, metavar="SECONDS", help="for one boot; guests are emulated"
    )
    options = parser.parse_args()
    began = time.monotonic()
    image = build_debian(options.image)
    print(f"image {image.qcow2} after {time.monotonic() - began:.0f} s", flush=True)
    with RunningCloud(hypervisor="libvirt") as cloud:
        house = House(cloud, image)
        print(f"cloud, image and networks after {time.monotonic() - began:.0f} s", flush=True)
        guests = [Guest(house, source) for source in ORDERS]
        for guest in guests:
            guest.ready(options.patience)
            guest.check()
            print(guest.shown(), flush=True)
        one, other = guests
        for name, port in zip(other.order, other.ports, strict=True):
            address = port.fixed_ips[0]["ip_address"]
            card = f"eth{one.order.index(name)}"
            one.run(f"ping -q -c 2 -W 5 -I {card} {address}")
        print(f"each reaches the other on all three networks; {time.monotonic() - began:.0f} s in all", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
