"""How long a host takes to enforce a change of its rules: the real driver and nftables in a namespace of this script's.

    sudo .venv/bin/python bench/rules.py [ports]

Prints one line a change: what it was, milliseconds of the whole pass over the host, and how many chains of the ruleset
the kernel was sent anew. Changes are made to a host with so many guests' ports (1,000) in one group and ten networks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from nephos.wiring.base import Address, Desired, Group, Key, Kind, Network, Port, Rule, Subnet, WiringSettings
from nephos.wiring.linux import LinuxWiring
from nephos.wiring.linux.system import nft

CLOUD = "4e657068-6f73-4000-8000-000000000002"
NETWORKS = 10


def town(count: int) -> Desired:
    """A host full of guests, all in one group that lets its members in."""
    desired, group = Desired(), str(uuid.uuid4())
    networks = []
    for number in range(NETWORKS):
        subnet = Subnet(id=str(uuid.uuid4()), cidr=f"10.{number}.0.0/16", version=4, dhcp=False)
        network = Network(id=str(uuid.uuid4()), kind="local", mtu=1450, subnets=(subnet,))
        desired.networks[network.id] = network
        networks.append(network)
    members = []
    for number in range(count):
        network = networks[number % NETWORKS]
        address = f"10.{number % NETWORKS}.{number // 250}.{number % 250 + 2}"
        members.append(address)
        port = Port(
            id=str(uuid.uuid4()),
            network_id=network.id,
            mac=f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
            index=number + 1,
            addresses=(Address(address, 16, network.subnets[0].id),),
            groups=(group,),
        )
        desired.ports[port.id] = port
    rules = (
        Rule(direction="egress", version=4),
        Rule(direction="egress", version=6),
        Rule(direction="ingress", version=4, remote_group_id=group),
    )
    desired.groups[group] = Group(id=group, rules=rules, members=tuple(sorted(members)))
    return desired


def main(count: int) -> None:
    sent: list[str] = []
    run = nft.run

    def counted(namespace: str | None, *arguments: str, text: str | None = None) -> str:
        if text is not None:
            sent.append(text)
        return run(namespace, *arguments, text=text)

    nft.run = counted
    with tempfile.TemporaryDirectory() as folder:
        wiring = LinuxWiring(WiringSettings(), state_dir=Path(folder), cloud_id=CLOUD)
        desired = town(count)

        def measure(what: str, *changed: Key) -> None:
            sent.clear()
            before = time.monotonic()
            errors = wiring.apply(desired, frozenset(changed) if changed else None)
            took = time.monotonic() - before
            assert not errors, str(errors)[:500]
            chains = len({each for text in sent for each in flushed(text)})
            size = sum(map(len, sent))
            print(f"{what:36} {took * 1000:8.0f} ms  {chains:5} chains anew, {size:8} bytes in {len(sent)}", flush=True)

        measure("everything, at first")
        measure("nothing")
        group = next(iter(desired.groups.values()))
        key = Key(Kind.GROUP, group.id)
        web = Rule(direction="ingress", version=4, protocol="tcp", port_min=80, port_max=80)
        for number in range(3):
            more = msgspec.structs.replace(web, port_min=80 + number, port_max=80 + number)
            group = desired.groups[group.id] = msgspec.structs.replace(group, rules=(*group.rules, more))
            measure("a rule more in the group of all", key)
        group = desired.groups[group.id] = msgspec.structs.replace(group, rules=group.rules[:-1])
        measure("a rule less", key)
        group = desired.groups[group.id] = msgspec.structs.replace(group, members=(*group.members, "192.0.2.1"))
        measure("a member more, elsewhere", key)
        port = next(iter(desired.ports.values()))
        new = msgspec.structs.replace(
            port, id=str(uuid.uuid4()), mac="fa:16:3e:ff:00:01", index=60000, addresses=(Address("10.0.99.99", 16, ""),)
        )
        desired.ports[new.id] = new
        measure("a port more", Key(Kind.PORT, new.id))
        del desired.ports[new.id]
        measure("a port less", Key(Kind.PORT, new.id))
        wiring.close()


def flushed(text: str) -> list[tuple[str, str]]:
    """The chains that a ruleset sends rules for, without repetition."""
    found = []
    for command in msgspec.json.decode(text)["nftables"]:
        rule = command.get("add", {}).get("rule")
        if rule:
            found.append((rule["family"], rule["chain"]))
    return found


if __name__ == "__main__":
    if os.environ.get("NEPHOS_BENCH_INSIDE") != "1":
        own = ["unshare", "--net", "--mount", "sh", "-c"]
        inner = 'mount -t tmpfs none /run/netns 2>/dev/null || { mkdir -p /run/netns; mount -t tmpfs none /run/netns; }; exec "$@"'
        words = [*own, inner, "sh", sys.executable, *sys.argv]
        sys.exit(subprocess.run(words, env={**os.environ, "NEPHOS_BENCH_INSIDE": "1"}, check=False).returncode)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
