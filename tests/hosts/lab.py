"""A laboratory of hosts on one machine: a switch, hosts, a place for a server, and an internet with DNS.

Every node is a network, mount, UTS and PID namespace of its own, held by one process; killing that process ends all
that ever ran in the node and takes its devices, namespaces and mounts along. Nothing has a name outside, so labs do not
meet and nothing of this machine's own network is touched.

Addresses: hosts 192.168.77.N, server 192.168.77.200, internet 192.168.77.254 as everyone's default gateway; in the
internet live a DNS server 198.51.100.53 (outside.example is 198.51.100.80; large.example has 2 kB of TXT, which need
TCP) and 198.51.100.80, which answers TCP 80.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
UNDERLAY, SERVER, GATEWAY = "192.168.77", 200, 254
DNS, OUTSIDE, OUTSIDE_NAME = "198.51.100.53", "198.51.100.80", "outside.example"
LARGE_NAME = "large.example"
SLOW = float(os.environ.get("NEPHOS_TESTS_SLOWER", "1"))
"""How many times as long as on a real machine everything may take: more than 1 on an emulated one."""
_HOLD = "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done"


class Failed(AssertionError):
    """A command in a node failed; the text holds what it said."""


class Node:
    """Something with a network of its own. `pid` is a process that lives in its namespaces."""

    name: str
    pid: int
    folder: Path
    _flags: tuple[str, ...] = ("-n", "-m", "-u", "-p")

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), *self._flags, "--", *words]

    def run(
        self, *words: str, check: bool = True, timeout: float = 30, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here. One word with spaces is split as a shell would. `Failed` unless it succeeds."""
        parts = shlex.split(words[0]) if len(words) == 1 else list(words)
        done = subprocess.run(
            self.command(*parts), capture_output=True, text=True, timeout=timeout * SLOW, input=text, check=False
        )
        if check and done.returncode:
            raise Failed(f"{self.name}: {shlex.join(parts)} answered {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def out(self, *words: str, timeout: float = 30) -> str:
        return self.run(*words, timeout=timeout).stdout.strip()

    def popen(self, *words: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command here with piped output; it ends with the lab at the latest.

        It stays in the PID namespace of the caller, so that signals reach it and not nsenter.
        """
        enter = ["nsenter", "-t", str(self.pid), *(flag for flag in self._flags if flag != "-p"), "--"]
        process = subprocess.Popen(
            [*enter, *words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._all_processes().append(process)
        return process

    def _all_processes(self) -> list[subprocess.Popen[str]]:
        raise NotImplementedError

    def pings(self, address: str, *, count: int = 1, wait: float = 2) -> bool:
        """Whether any of `count` pings is answered."""
        words = ["ping", "-q", "-i", "0.2", "-c", str(count), "-W", str(wait * SLOW), address]
        return " 0 received" not in self.run(*words, check=False, timeout=60).stdout

    def reaches(self, address: str, port: int, *, wait: float = 2, source: str | None = None) -> str | None:
        """What a TCP server says there to an HTTP GET; None when no connection comes about."""
        words = ["curl", "-s", "-m", str(wait * SLOW), *(["--interface", source] if source else [])]
        done = self.run(*words, f"http://{address}:{port}/", check=False, timeout=wait + 10)
        return done.stdout if done.returncode == 0 else None

    def http(self, url: str, *options: str) -> tuple[int, str]:
        """(status, body) of a GET by curl; status 0 when there is no answer."""
        done = self.run("curl", "-s", "-m", str(5 * SLOW), "-w", "\n%{http_code}", *options, url, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def serve(self, port: int, says: str, *, times: int = 1) -> None:
        """Answer every HTTP request on this TCP port with `says`, so many times over."""
        script = (
            "import http.server\n"
            "class H(http.server.BaseHTTPRequestHandler):\n"
            " def do_GET(s):\n"
            f"  b={says!r}.encode()*{times}\n"
            "  s.send_response(200); s.send_header('Content-Length',str(len(b))); s.end_headers(); s.wfile.write(b)\n"
            " def log_message(s,*a): pass\n"
            f"h=http.server.ThreadingHTTPServer(('0.0.0.0',{port}),H)\n"
            "print('ready',flush=True)\nh.serve_forever()\n"
        )
        process = self.popen("/usr/bin/python3", "-c", script)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise Failed(f"{self.name}: no server on port {port}")


class Space(Node):
    """A node that the lab holds open."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.folder = lab.folder / name
        self.folder.mkdir(parents=True)
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
             "--propagation", "private", "bash", "-c", _HOLD],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        lab.processes.append(self._holder)
        assert self._holder.stdout is not None and self._holder.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self.pid = int(children.split()[0])
        resolv_conf = self.folder / "resolv.conf"
        resolv_conf.write_text(f"nameserver {DNS}\n")
        self.run(
            "sh",
            "-ec",
            f"hostname {name}; umount -l /sys; mount -t sysfs sysfs /sys; mkdir -p /run/netns;"
            f"mount -t tmpfs tmpfs /run/netns; mount --bind {resolv_conf} /etc/resolv.conf; ip link set lo up",
        )

    def _all_processes(self) -> list[subprocess.Popen[str]]:
        return self.lab.processes

    def cable(self, device: str, segment: str) -> None:
        """One more NIC, without address, on a physical segment of its own in the switch, which is made on first use.

        As on a real NIC no frame leaves unfinished: a switch in user space reads whole ones off it.
        """
        end = f"{device}-{self.name}"
        make = f"ip link show {segment} >/dev/null 2>&1 || ip link add {segment} up type bridge mcast_snooping 0"
        pair = f"ip link add {end} type veth peer name {device} netns {self.pid}; ip link set {end} master {segment} up"
        enter = ["nsenter", "-t", str(self.lab.switch.pid), "-n", "--", "sh", "-ec"]
        subprocess.run([*enter, f"{make}; {pair}; ethtool -K {end} tx off >/dev/null"], check=True)
        self.run("sh", "-ec", f"ip link set {device} up; ethtool -K {device} tx off >/dev/null")

    def plug(self, number: int) -> None:
        """Connect to the lab's switch as 192.168.77.`number`, with the internet as default gateway."""
        # Only the switch's network is entered, so that the process id of this node means something there.
        make = f"ip link add p{number} type veth peer name eth0 netns {self.pid}"
        join = f"ip link set p{number} master phys up"
        enter = ["nsenter", "-t", str(self.lab.switch.pid), "-n", "--", "sh", "-ec"]
        subprocess.run([*enter, f"{make}; {join}"], check=True)
        self.run(f"ip address add {UNDERLAY}.{number}/24 dev eth0")
        self.run("ip link set eth0 up")
        if number != GATEWAY:
            self.run(f"ip route add default via {UNDERLAY}.{GATEWAY}")


class Host(Space):
    """A host of the cloud: underlay 192.168.77.`number`, an own /run/netns, an own libvirtd when asked for."""

    def __init__(self, lab: Lab, number: int) -> None:
        super().__init__(lab, f"host{number}")
        self.number = number
        self.address = f"{UNDERLAY}.{number}"
        self.plug(number)
        self._libvirt: str | None = None

    def libvirtd(self) -> str:
        """Start this host's own libvirtd unless it runs; answers the URI, which works from everywhere."""
        if self._libvirt is not None:
            return self._libvirt
        pairs = {
            "etc": "/etc/libvirt",
            "lib": "/var/lib/libvirt",
            "cache": "/var/cache/libvirt",
            "log": "/var/log/libvirt",
            "run": "/run/libvirt",
        }
        for name, place in pairs.items():
            (self.folder / "libvirt" / name).mkdir(parents=True)
            self.run("sh", "-ec", f"mkdir -p {place}; mount --bind {self.folder}/libvirt/{name} {place}")
        etc = self.folder / "libvirt" / "etc"
        (etc / "libvirtd.conf").write_text(
            'auth_unix_ro = "none"\nauth_unix_rw = "none"\nunix_sock_group = "root"\nlisten_tls = 0\nlisten_tcp = 1\n'
            'auth_tcp = "none"\nlisten_addr = "0.0.0.0"\n'
            f'host_uuid = "00000000-0000-4000-8000-{self.number:012d}"\n'
        )
        (etc / "qemu.conf").write_text(
            'security_driver = "none"\ncgroup_controllers = [ ]\nstdio_handler = "file"\n'
            f'vnc_listen = "0.0.0.0"\nmigration_host = "{self.address}"\n'
        )
        self.run("libvirtd", "-d", "-l", "-p", f"{self.folder}/libvirt/libvirtd.pid", timeout=30)
        socket = self.folder / "libvirt" / "run" / "libvirt-sock"
        wait(socket.exists, 10, "libvirtd's socket")
        self._libvirt = f"qemu+unix:///system?socket={socket}"
        return self._libvirt


class Guest(Node):
    """A pretend guest: a namespace behind a tap of a host."""

    _flags = ("-n", "-m")

    def __init__(self, host: Host, tap: str, mac: str, *, mtu: int = 1450) -> None:
        self.host = host
        self.mac = mac
        self.name = f"{host.name}:{tap}"
        self.folder = host.folder / tap
        self.folder.mkdir(exist_ok=True)
        words = ["/usr/bin/python3", str(HERE / "pretend_guest.py"), tap, mac, str(mtu), str(self.folder)]
        self._process = subprocess.Popen(
            ["nsenter", "-t", str(host.pid), "-n", "-m", "--", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        host.lab.processes.append(self._process)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            raise Failed(f"{self.name}: {line}{self._process.stdout.read()}")

    def _all_processes(self) -> list[subprocess.Popen[str]]:
        return self.host.lab.processes

    def dhcp(self, *, tries: int = 5) -> dict[str, str]:
        """Ask for an address as a guest does and configure what is offered; `Failed` when nobody answers.

        Answers what udhcpc was told: ip, mask, router, dns, mtu, staticroutes, hostname, serverid, domain…
        """
        seen = self.folder / "lease"
        seen.unlink(missing_ok=True)
        script = self.folder / "udhcpc.sh"
        script.write_text(_UDHCPC.format(folder=self.folder))
        script.chmod(0o755)
        options = [part for number in ("26", "121", "12", "15", "6", "3") for part in ("-O", number)]
        self.run(
            "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", str(tries), "-T", "1", "-s", str(script),
            *options, timeout=tries * 2 + 10,
        )  # fmt: skip
        return dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


_UDHCPC = """#!/bin/sh
[ "$1" = bound ] || exit 0
for name in ip mask router dns mtu staticroutes hostname serverid domain lease; do
  eval value=\\$$name; [ -n "$value" ] && echo "$name=$value"
done > {folder}/lease.part
ip address flush dev eth0
ip address add $ip/$mask dev eth0
[ -n "$mtu" ] && ip link set eth0 mtu $mtu
if [ -n "$staticroutes" ]; then
  set -- $staticroutes
  while [ $# -ge 2 ]; do ip route replace $1 via $2 dev eth0; shift 2; done
elif [ -n "$router" ]; then ip route replace default via $router; fi
: > {folder}/resolv.conf
for server in $dns; do echo "nameserver $server" >> {folder}/resolv.conf; done
mv {folder}/lease.part {folder}/lease
"""


class Lab:
    """The laboratory; a context manager that leaves nothing behind, also on failure.

    `folder` is for what its daemons write; it stays.
    """

    switch: Space
    internet: Space
    server: Space
    hosts: list[Host]

    def __init__(self, folder: Path, *, hosts: int = 1) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self._count = hosts

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _build(self) -> None:
        self.switch = Space(self, "switch")
        self.switch.run("sh", "-ec", "ip link add phys type bridge; ip link set phys up; "
                        "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")  # fmt: skip
        self.internet = Space(self, "internet")
        self.internet.plug(GATEWAY)
        self.internet.run(f"ip address add {DNS}/32 dev lo")
        self.internet.run(f"ip address add {OUTSIDE}/32 dev lo")
        self.internet.run("sysctl -qw net.ipv4.ip_forward=1")
        self.internet.run(
            "dnsmasq", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=root", "--bind-interfaces",
            f"--listen-address={DNS}", f"--address=/{OUTSIDE_NAME}/{OUTSIDE}", f"--pid-file={self.folder}/dns.pid",
            *(f"--txt-record={LARGE_NAME},{'x' * 250}{number}" for number in range(8)), "--edns-packet-max=512",
        )  # fmt: skip
        self.internet.serve(80, "outside\n")
        self.server = Space(self, "server")
        self.server.plug(SERVER)
        self.hosts = [Host(self, number + 1) for number in range(self._count)]

    def _end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def wait(true: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait until `true()` is so; `Failed` names `what`, asked at the end where it is a function, when it never is."""
    until = time.monotonic() + seconds * SLOW
    while not true():
        if time.monotonic() > until:
            raise Failed(f"{what if isinstance(what, str) else what()}: not within {seconds * SLOW} s")
        threading.Event().wait(0.05)


__all__ = ["DNS", "GATEWAY", "LARGE_NAME", "OUTSIDE", "OUTSIDE_NAME", "SLOW", "Failed", "Guest", "Host", "Lab", "Node", "wait"]
