"""A cloud over the laboratory's hosts: the server in a node of its own, an agent and a libvirtd on every host.

    with Lab(folder, hosts=2) as lab, LabCloud(lab) as cloud:
        with cloud.network():                       # this process speaks from where the server is
            cloud.connect("demo").compute.servers()

What runs is what is installed. The state is laid out as `nephos up` lays it out, the hosts are enrolled as it does it,
and have the certificates that joining would have got them: the server listens on a network, so all is TLS.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from nephos import settings as all_settings
from nephos.agent.main import key_of
from nephos.agent.trust import keep
from nephos.cli import state
from nephos.cli.client import Client
from nephos.errors import NephosError
from nephos.kernel import clock
from nephos.kernel.tls.authority import Authority, write
from nephos.settings import SERVER_USER, Settings
from nephos.wiring.base import Physical, WiringSettings
from tests.cloud import NEPHOS, type_command
from tests.hosts.lab import SERVER, UNDERLAY, Failed, Host, Lab, Node, wait

PORT = 5000
PUBLIC = Physical(bridge="br-ex", address="172.24.4.1/24", masquerade=True)
_CLONE_NEWNET = 0x40000000


class Process:
    """A command that stays, in a node's namespaces, the one of processes too: it ends with the node."""

    def __init__(self, node: Node, name: str, *words: str, user: str = "root") -> None:
        self.node, self._stamp = node, node.folder / f"{name}.pid"
        self.output = node.folder / f"{name}.out"
        self._stamp.unlink(missing_ok=True)
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user != "root" else []
        with self.output.open("ab") as out:
            self._outside = subprocess.Popen(
                node.command("sh", "-c", 'echo $$ > "$0"; exec "$@"', str(self._stamp), *become, *words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
            )

    def ended(self) -> bool:
        return self._outside.poll() is not None

    def signal(self, name: str) -> None:
        self.node.run("kill", f"-{name}", self._stamp.read_text().strip(), check=False)

    def stop(self, seconds: float = 20) -> None:
        if not self.ended():
            self.signal("TERM")
            self._outside.wait(seconds)

    def kill(self) -> None:
        if not self.ended():
            self._outside.kill()
            self._outside.wait()


class LabCloud:
    """Started on entry; everything ends with it, as the lab's own ending would. `outside` are the hosts, by number,
    that reach the external network: only there can routers with a gateway be. `wiring` are the settings of hosts, by
    name, whose tunnels do not end at their own address or whose switch is another."""

    def __init__(
        self, lab: Lab, *, outside: tuple[int, ...] = (1,), wiring: Mapping[str, WiringSettings] | None = None
    ) -> None:
        self.lab = lab
        cloud_id = clock.hex_id()
        self.settings = Settings(
            state=lab.folder / "cloud", cloud_id=cloud_id, listen=f"{UNDERLAY}.{SERVER}:{PORT}", hypervisor="libvirt"
        )
        self.url = self.settings.url
        self.hosts = {host.name: host for host in lab.hosts}
        self._host_settings = {
            host.name: Settings(
                state=lab.folder / f"{host.name}-state",
                cloud_id=cloud_id,
                hypervisor="libvirt",
                host=_settings(host, (wiring or {}).get(host.name), reaches=host.number in outside),
            )
            for host in lab.hosts
        }
        self.processes: dict[str, Process] = {}
        self._operator: Client | None = None

    def __enter__(self) -> LabCloud:
        try:
            self._prepare()
            self.start_server()
            for host in self.lab.hosts:
                self.start_agent(host)
            wait(lambda: self._up() == set(self.hosts), 60, f"agents of {sorted(self.hosts)} connected")
        except BaseException as wrong:
            said = self.said()
            self._end()
            raise Failed(f"{wrong}\n{said}") from wrong
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None:
            print(self.said())
        self._end()

    def _prepare(self) -> None:
        for each in (self.settings, *self._host_settings.values()):
            state.prepare(each)
            all_settings.save(each)
        state.trust(self.settings)
        authority = Authority(self.settings.tls_dir)
        keys = {}
        for name, each in self._host_settings.items():
            key = key_of(each.agent_dir)
            public = key.public_key().public_bytes_raw()
            keys[name] = public.hex()
            write(each.agent_dir / "ca.pem", authority.pem.read_bytes(), 0o644)
            keep(each.agent_dir / "host.pem", key, authority.host(name, public, each.tls.host_days))
        first = json.dumps({"passwords": state.passwords(self.settings), "hosts": keys})
        state.write_private(self.settings.server_dir / "first.json", first, state.server_user().pw_uid)

    def start_server(self) -> None:
        words = [str(NEPHOS), "server", "--state", str(self.settings.state)]
        self.processes["server"] = server = Process(self.lab.server, "server", *words, user=SERVER_USER)
        wait(lambda: server.ended() or self._answers(), 60, f"the server answers at {self.url}")
        if server.ended():
            raise Failed(f"the server ended: {server.output.read_text()}")

    def start_agent(self, host: Host) -> None:
        words = [str(NEPHOS), "agent", "--state", str(self.state_of(host))]
        words += ["--server", f"wss://{UNDERLAY}.{SERVER}:{PORT + 1}"]
        self.processes[host.name] = Process(host, "agent", *words)

    def state_of(self, host: Host) -> Path:
        return self._host_settings[host.name].state

    def _answers(self) -> bool:
        trusted = str(self.settings.authority_file)
        return self.lab.server.http(f"{self.url}/healthcheck", "--noproxy", "*", "--cacert", trusted)[0] == 200

    def _up(self) -> set[str]:
        return {each["name"] for each in self.get("/nephos/v1/hosts")["hosts"] if each["up"]}

    def _end(self) -> None:
        for process in reversed(self.processes.values()):
            process.kill()

    def said(self) -> str:
        """The last lines that each role wrote."""
        logs = [self.settings.log_dir / "server.log"]
        logs += [each.log_dir / "agent.log" for each in self._host_settings.values()]
        logs += [process.output for process in self.processes.values()]
        return "\n".join(f"--- {log}\n" + "\n".join(log.read_text().splitlines()[-15:]) for log in logs if log.exists())

    @contextmanager
    def network(self) -> Iterator[None]:
        """Connections that this thread opens meanwhile start where the server is."""
        kept = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{UNDERLAY}.{SERVER}"
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(f"/proc/{self.lab.server.pid}/ns/net")
            yield
        finally:
            _enter(f"/proc/self/fd/{here}")
            os.close(here)
            for name, value in kept.items():
                os.environ.pop(name, None)
                os.environ.update({name: value} if value is not None else {})

    def connect(self, user: str) -> Any:
        """An openstacksdk connection, to be used within `network`."""
        import openstack

        auth = state.credentials(self.settings, user)
        return openstack.connect(
            auth=auth,
            region_name="RegionOne",
            load_yaml_config=False,
            load_envvars=False,
            cacert=str(self.settings.authority_file),
        )

    def openstack(self, *words: str, user: str = "demo", check: bool = True) -> str:
        """As `RunningCloud.openstack`: type a command where the server is; its output."""
        known = state.credentials(self.settings, user)
        environment = {f"OS_{name.upper()}": value for name, value in known.items()}
        environment |= {
            "OS_REGION_NAME": self.settings.region,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_CACERT": str(self.settings.authority_file),
            "no_proxy": f"{UNDERLAY}.{SERVER}",
            "HOME": str(self.lab.folder),
        }
        with self.network():
            return type_command(words, environment, check=check)

    def get(self, path: str) -> Any:
        """A GET of the operator's API as admin."""
        self._operator = self._operator or Client(self.settings)
        with self.network():
            try:
                return self._operator.get(path)
            except NephosError as wrong:
                raise Failed(wrong.message) from wrong

    def audit(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.get("/nephos/v1/audit")["findings"]
        return found


def _settings(host: Host, wiring: WiringSettings | None, *, reaches: bool) -> all_settings.Host:
    wiring = wiring or WiringSettings(tunnel_address=host.address)
    return all_settings.Host(
        name=host.name,
        tunnel_address=wiring.tunnel_address or "",
        tunnel_fallback=wiring.tunnel_fallback,
        physical={**wiring.physical, **({"public": PUBLIC} if reaches else {})},
        switch=wiring.switch,
        underlay=wiring.underlay,
        acceleration="tcg",
    )


def _enter(namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"enter {namespace}")
    finally:
        os.close(handle)
