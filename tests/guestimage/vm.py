"""One bare QEMU for tests: its console, its machine protocol, its CPU seconds, and log-ins over SSH."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 120.0
"""Seconds that anything may take on a crowded machine; a boot takes three on an idle one."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Vm:
    """A guest under software emulation; gone when the `with` block ends."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], *, inside: Sequence[str] = (), memory_mb: int = 192
    ) -> None:
        self.folder = folder
        self.console = ""
        self._monitor = folder / "monitor.sock"
        argv = [*inside, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64,+rdrand", "-machine", "q35",
                "-m", str(memory_mb), "-nodefaults", "-display", "none", "-serial", "stdio",
                "-qmp", f"unix:{self._monitor},server=on,wait=off", *arguments]  # fmt: skip
        self.began = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Vm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        (self.folder / "console.log").write_text(self.console)

    def _read(self) -> None:
        assert self.process.stdout is not None
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self.console += piece.decode(errors="replace")

    def wait_for(self, pattern: str, *, after: int = 0, seconds: float = PATIENCE) -> re.Match[str]:
        """The first match of `pattern` on the console from character `after` on. Fails with the console's end."""
        end = time.monotonic() + seconds
        while True:
            found = re.compile(pattern).search(self.console, after)
            if found is not None:
                return found
            ended = self.process.poll() is not None and not self._reader.is_alive()
            if ended or time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} on the console; its end:\n{self.console[-3000:]}")
            time.sleep(0.02)

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def cpu_seconds(self) -> float:
        """What the guest has cost so far: user and system time of the QEMU process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def command(self, name: str, **arguments: Any) -> Any:
        """Runs one QMP command and gives what it returns."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(PATIENCE)
            monitor.connect(str(self._monitor))
            stream = monitor.makefile("rw")
            stream.readline()
            for order in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                stream.write(json.dumps(order) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
            assert "error" not in answer, answer
            return answer.get("return")


class Ssh:
    """Log-ins to a guest; `inside` are the words that enter the network namespace it is reached from."""

    def __init__(self, folder: Path, port: int = 22, address: str = "127.0.0.1", inside: Sequence[str] = ()) -> None:
        self.key = folder / "key"
        if not self.key.exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.key)], check=True
            )
        self.public = self.key.with_suffix(".pub").read_text()
        self._argv = [*inside, "ssh", "-p", str(port), "-i", str(self.key), "-F", "none", "-o", "BatchMode=yes",
                      "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                      "-o", "ConnectTimeout=5"]  # fmt: skip
        self._address = address

    def run(self, command: str, *, user: str = "cirros") -> str:
        """What a command in the guest prints; tries again until the guest lets it in."""
        end = time.monotonic() + PATIENCE
        while True:
            argv = [*self._argv, f"{user}@{self._address}", command]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 255:
                assert done.returncode == 0, (command, done.stdout, done.stderr)
                return done.stdout.strip()
            if time.monotonic() > end:
                raise AssertionError(f"no log-in: {done.stderr}")
            time.sleep(0.1)


class Wire:
    """A network namespace with a bridge, dnsmasq for DHCP and names, and the metadata service at its usual address.

    Two subnets, one for each of a guest's first cards: the bridge nt0 has 10.81.0.1/24, nt1 has 10.82.0.1/24.
    """

    MACS = ("fa:16:3e:00:81:05", "fa:16:3e:00:82:05", "fa:16:3e:00:81:06")

    def __init__(self, folder: Path, metadata: dict[str, Any]) -> None:
        self.folder = folder
        self.name = f"nephos-wire-{os.getpid()}"
        self.inside = ["ip", "netns", "exec", self.name]
        self._children: list[subprocess.Popen[bytes]] = []
        self._metadata = metadata

    def __enter__(self) -> Wire:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        try:
            self._configure()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def run(self, *words: str) -> str:
        return subprocess.run([*self.inside, *words], check=True, capture_output=True, text=True).stdout

    def _configure(self) -> None:
        self.run("ip", "link", "set", "lo", "up")
        for number, address in enumerate(("10.81.0.1/24", "10.82.0.1/24")):
            self.run("ip", "link", "add", f"nt{number}", "type", "bridge")
            self.run("ip", "addr", "add", address, "dev", f"nt{number}")
            self.run("ip", "link", "set", f"nt{number}", "up")
        for number, bridge in enumerate(("nt0", "nt1", "nt0")):
            self.run("ip", "tuntap", "add", "dev", f"tap{number}", "mode", "tap")
            self.run("ip", "link", "set", f"tap{number}", "master", bridge, "up")
        self.run("ip", "addr", "add", "169.254.169.254/32", "dev", "nt0")
        self._start(*self._dnsmasq())
        served = self.folder / "served/openstack/latest"
        served.mkdir(parents=True)
        (served / "meta_data.json").write_text(json.dumps(self._metadata))
        self._start("/usr/bin/python3", "-m", "http.server", "80", "--bind", "169.254.169.254", "--directory",
                    str(self.folder / "served"))  # fmt: skip

    def _dnsmasq(self) -> list[str]:
        hosts = [f"--dhcp-host={mac},{address}" for mac, address in
                 zip(self.MACS, ("10.81.0.5", "10.82.0.5", "10.81.0.6"), strict=True)]  # fmt: skip
        options = [
            "--dhcp-range=set:a,10.81.0.0,static,255.255.255.0,600s",
            "--dhcp-range=set:b,10.82.0.0,static,255.255.255.0,600s",
            "--dhcp-option=tag:a,option:classless-static-route,"
            "169.254.169.254/32,10.81.0.1,198.51.100.0/24,10.81.0.9,0.0.0.0/0,10.81.0.1",
            "--dhcp-option=tag:a,option:mtu,1442",
            "--dhcp-option=tag:b,option:router,10.82.0.1",
            "--dhcp-option=tag:b,option:mtu,1380",
            "--dhcp-option=option:dns-server,10.81.0.1",
            "--domain=test.example",
            "--local=/test.example/",
            "--host-record=outside.test.example,192.0.2.77",
        ]
        return ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv",
                "--bind-interfaces", "--interface=nt0", "--interface=nt1", "--user=root", "--pid-file=",
                f"--dhcp-leasefile={self.folder}/leases", "--dhcp-authoritative", *options, *hosts]  # fmt: skip

    def _start(self, *words: str) -> None:
        with (self.folder / "services.log").open("ab") as log:
            self._children.append(
                subprocess.Popen([*self.inside, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def card(self, number: int) -> list[str]:
        """QEMU words for card `number`, plugged into its tap."""
        return ["-netdev", f"tap,id=n{number},ifname=tap{number},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=n{number},mac={self.MACS[number]},romfile="]  # fmt: skip


METADATA_SERVER = """
import json, pathlib, sys
words = sys.stdin.buffer.readline().decode().split()
while sys.stdin.buffer.readline().strip():
    pass
path = pathlib.Path(sys.argv[1], words[1].lstrip("/").replace("/", "_"))
with open(sys.argv[1] + "/asked", "a") as log:
    log.write(words[1] + chr(10))
body, status = (path.read_bytes(), "200 OK") if path.exists() else (b"none", "404 Not Found")
sys.stdout.buffer.write(f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n".encode())
sys.stdout.buffer.write(body)
"""
"""Answers one request on its standard input, as QEMU's user network starts it for each connection."""


def user_network(folder: Path, metadata: dict[str, Any], user_data: str | None, port: int) -> list[str]:
    """QEMU words for a card with DHCP, the metadata service and port 22 on loopback; nothing else is reachable."""
    (folder / "md.py").write_text(METADATA_SERVER)
    (folder / "openstack_latest_meta_data.json").write_text(json.dumps(metadata))
    if user_data is not None:
        (folder / "openstack_latest_user_data").write_text(user_data)
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:22"
    service = f"guestfwd=tcp:169.254.169.254:80-cmd:/usr/bin/python3 -S {folder}/md.py {folder}"
    network = f"user,id=n0,net=169.254.169.0/24,dhcpstart=169.254.169.20,restrict=on,{forward},{service}"
    return ["-netdev", network, "-device", "virtio-net-pci,netdev=n0,romfile="]


def overlay(folder: Path, base: Path, base_format: str, size: str) -> list[str]:
    """QEMU words for a virtio disk of `size` over `base`, which stays as it is."""
    disk = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", base_format, str(disk), size],
                   check=True)  # fmt: skip
    return ["-drive", f"file={disk},if=none,id=root,cache=unsafe", "-device", "virtio-blk-pci,drive=root"]
