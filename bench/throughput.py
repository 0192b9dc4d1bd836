"""What security groups and anti-spoofing cost: TCP between guests of two hosts, with our rules and without.

    sudo .venv/bin/python bench/throughput.py [--seconds 0.5] [--runs 9] [--check] [--steps]
    sudo .venv/bin/python bench/throughput.py --guests [--seconds 4] [--runs 5]

Two lab hosts with the kernel's switch, a VXLAN network between them, a guest on each in the default group. The guests are
namespaces; their frames get to and from their taps by redirection in the kernel, so that no user-space copy hides what
the path costs: a guest in QEMU pays far more for each byte, and notices less of the rules.

Sender and receiver each have a core to themselves, before all other work of the machine, and the guests' TCP is cubic, as in
a stock Linux guest: a host's own default may be to pace (BBR), and then that is what is measured. Runs are short and take
turns, rules in force and taken out; their medians are compared. Beside Gbit/s stands the sender's processor time for 64 KiB,
the largest packet that crosses a path whole, where all but the receiver's own work is done.

With --guests they are servers of a whole cloud instead, in QEMU as users have them, with its agents held still while rules
are out; what their emulation costs is then part of either path.

With --steps also what is between nothing and our rules is measured: hooks that do nothing, connection tracking alone. With
--check it fails below what docs/spec.md promises.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nephos.wiring.base import Port
from tests.hosts.lab import Host, Lab, wait
from tests.hosts.wiring_lab import Cloud, HostWiring

LEAST = 0.78
_HOLD = (
    "import fcntl,os,struct,sys,time\n"
    "h=os.open('/dev/net/tun',os.O_RDWR)\n"
    "fcntl.ioctl(h,0x400454CA,struct.pack('16sH22x',sys.argv[1].encode(),0x5002))\n"
    "print('ready',flush=True)\ntime.sleep(1e6)\n"
)
"""An open tap has a carrier; nothing is ever read from it, because nothing gets so far."""
_ALONE = (
    "import os\n"
    "def alone(core):\n"
    " os.sched_setaffinity(0,{core}); os.sched_setscheduler(0,os.SCHED_FIFO,os.sched_param(10))\n"
)
_SERVE = (
    _ALONE + "import socket\nalone(min(os.sched_getaffinity(0)))\n"
    "s=socket.create_server(('0.0.0.0',5201))\nprint('ready',flush=True)\n"
    "while True:\n c,_=s.accept()\n"
    " while c.recv(1<<22,socket.MSG_TRUNC): pass\n"
)
_SEND = (
    _ALONE + "import socket,sys,time\nalone(max(os.sched_getaffinity(0)))\n"
    "c=socket.create_connection((sys.argv[1],5201),5)\nc.setsockopt(socket.IPPROTO_TCP,socket.TCP_CONGESTION,b'cubic')\n"
    "b=bytes(1<<20)\nn=0\n"
    "e=time.monotonic()+float(sys.argv[2])\na=time.monotonic();p=time.process_time()\n"
    "while time.monotonic()<e: n+=c.send(b)\n"
    "print(n*8/(time.monotonic()-a)/1e9,(time.process_time()-p)/n*65536*1e6)\n"
)
_HOOKS = """
table bridge nephos_step { chain a { type filter hook prerouting priority -300; policy accept; }
 chain b { type filter hook forward priority -300; policy accept; }
}
table inet nephos_step { chain a { type filter hook forward priority 0; policy accept; }
}"""
_TRACKED = """
table inet nephos_step { chain a { type filter hook forward priority 0; policy accept; ct state established accept; }
}"""
_UNTRACKED = """
table inet nephos_step_tunnel { chain a { type filter hook prerouting priority -300; policy accept; udp dport 4789 notrack; }
 chain b { type filter hook output priority -300; policy accept; udp dport 4789 notrack; }
}"""
STEPS = {"hooks that do nothing": _HOOKS, "connection tracking": _TRACKED, "… not of the tunnel": _TRACKED + _UNTRACKED}


class Run(NamedTuple):
    gbits: float
    """Gbit/s that got through."""
    cost: float
    """Microseconds of the sender's processor for 64 KiB."""


class FastGuest:
    """A namespace behind a tap: what it sends enters the bridge from the tap, what the tap gets goes to it."""

    def __init__(self, host: Host, port: Port) -> None:
        self._host, self._name = host, f"g{port.index}"
        tap, end = f"tap{port.id[:11]}", f"e{port.index}"
        hold = host.popen("/usr/bin/python3", "-c", _HOLD, tap)
        assert hold.stdout is not None and hold.stdout.readline() == "ready\n"
        every = "protocol all prio 1 u32 match u32 0 0"
        address = f"{port.addresses[0].address}/{port.addresses[0].prefix}"
        host.run(
            "sh", "-ec",
            f"ip netns add {self._name}; ip link add {end} up type veth peer name eth0 netns {self._name};"
            f"ip -n {self._name} link set eth0 address {port.mac} mtu 1450 up;"
            f"ip -n {self._name} address add {address} dev eth0;"
            f"tc qdisc add dev {end} clsact; tc qdisc add dev {tap} clsact;"
            f"tc filter add dev {end} ingress {every} action mirred ingress redirect dev {tap};"
            f"tc filter add dev {tap} egress {every} action mirred egress redirect dev {end}",
        )  # fmt: skip

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self._name, *words]

    def serve(self) -> None:
        process = self._host.popen(*self.command("/usr/bin/python3", "-c", _SERVE))
        assert process.stdout is not None and process.stdout.readline() == "ready\n"

    def sends(self, address: str, seconds: float) -> Run:
        """Send to a serving guest for so long."""
        words = self.command("/usr/bin/python3", "-c", _SEND, address, str(seconds))
        return Run(*map(float, self._host.out(*words, timeout=seconds + 30).split()))

    def pings(self, address: str) -> bool:
        return self._host.run(*self.command("ping", "-c1", "-W1", address), check=False).returncode == 0


def bare(host: Host) -> None:
    """Take our rules out: the path as it would be without them."""
    for line in host.out("nft", "list", "tables").splitlines():
        _, family, name = line.split()
        if name.startswith("nephos"):
            host.run("nft", "delete", "table", family, name)


def _steps(lab: Lab, cloud: Cloud, steps: bool) -> dict[str, Callable[[], None]]:
    """What brings each of the ways about."""

    def only(rules: str) -> None:
        for host in lab.hosts:
            bare(host)
            if rules:
                host.run("nft", "-f", "-", text=rules)

    ways: dict[str, Callable[[], None]] = {"without rules": lambda: only(""), "with ours": cloud.wire}
    return ways | ({name: partial(only, rules) for name, rules in STEPS.items()} if steps else {})


def _namespaces(lab: Lab, seconds: float, runs: int, steps: bool) -> dict[str, list[Run]]:
    cloud = Cloud([HostWiring(host) for host in lab.hosts])
    network = cloud.network()
    default = cloud.group()
    member = {"direction": "ingress", "version": 4, "remote_group_id": default.id}
    cloud.change(default, rules=(*default.rules, type(default.rules[0])(**member)))
    ports = [cloud.port(network, 11 + host, cloud.groups[default.id], host=host) for host in range(2)]
    cloud.wire()
    near, far = (FastGuest(host, port) for host, port in zip(lab.hosts, ports, strict=True))
    address = ports[1].addresses[0].address
    wait(lambda: near.pings(address), 20, "the guests to meet")
    far.serve()
    ways = _steps(lab, cloud, steps)
    found: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, prepare in ways.items():
            prepare()
            near.sends(address, 0.05)
            found[name].append(near.sends(address, seconds))
    return found


def _servers(lab: Lab, folder: Path, seconds: float, runs: int) -> dict[str, list[Run]]:
    """Of real guests, sent by nc for so long and counted where it arrives; nobody's processor time is told."""
    from tests.hosts.lab_cloud import LabCloud
    from tests.hosts.two_guests import OPEN_PORT, World

    with LabCloud(lab) as cloud:
        world = World(cloud, folder)
        for number in range(2):
            wait(lambda number=number: world.answers(number), 120, f"log-in to guest {number + 1}")  # type: ignore[misc]
        agents = [cloud.processes[host.name] for host in lab.hosts]

        def ruled() -> bool:
            return all(host.out("nft", "list", "tables").count(" nephos") >= 2 for host in lab.hosts)

        def sends() -> Run:
            # Until its input ends nc does not half-close.
            count = f"sleep {seconds + 30} | nc -l -p {OPEN_PORT} | wc -c > /tmp/n"
            world.in_guest(1, f"rm -f /tmp/n; ({count}) < /dev/null > /dev/null 2>&1 & sleep 0.5")
            send = f"timeout {seconds} nc {world.addresses[1]} {OPEN_PORT} < /dev/zero; true"
            world.in_guest(0, send, timeout=seconds + 30)
            wait(lambda: world.in_guest(1, "cat /tmp/n 2>/dev/null; true").strip(), 20, "the count")
            return Run(int(world.in_guest(1, "cat /tmp/n")) * 8 / seconds / 1e9, 0)

        found: dict[str, list[Run]] = {"without rules": [], "with ours": []}
        for _ in range(runs):
            for agent in agents:
                agent.signal("STOP")
            for host in lab.hosts:
                bare(host)
            found["without rules"].append(sends())
            for agent in agents:
                agent.signal("CONT")
            wait(ruled, 30, "the rules to be back")
            found["with ours"].append(sends())
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--guests", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nephos-bench-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        with Lab(Path(folder) / "lab", hosts=2) as lab:
            if options.guests:
                found = _servers(lab, Path(folder), options.seconds or 4, options.runs or 5)
            else:
                found = _namespaces(lab, options.seconds or 0.5, options.runs or 9, options.steps)
    free = statistics.median(run.gbits for run in found["without rules"])
    for name, runs in found.items():
        gbits, cost = (statistics.median(values) for values in zip(*runs, strict=True))
        spread = ", ".join(f"{run.gbits:.2f}" for run in sorted(runs))
        print(f"{name:<24} {gbits:6.2f} Gbit/s {gbits / free:6.1%} {cost:6.2f} µs for 64 KiB  ({spread})")
    share = statistics.median(run.gbits for run in found["with ours"]) / free
    print(f"share {share:.1%} (at least {LEAST:.0%})")
    return int(options.check and share < LEAST)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as wrong:
        sys.exit(f"{wrong.cmd}: {wrong.stderr}")
