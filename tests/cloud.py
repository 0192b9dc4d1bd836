"""A running cloud for tests, as an operator starts it: the installed command, a state directory of its own.

    with RunningCloud(hypervisor="fake", hosts=2) as cloud:
        cloud.openstack("server", "list")
        demo = cloud.connect("demo")           # openstacksdk

With real guests the cloud lives in namespaces of its own; `cloud.inside(...)` runs a command there.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

importlib.import_module("openstackclient.shell")  # before the first fork, so that it is there in each
PREFIX = Path(os.environ.get("NEPHOS_PREFIX", "/opt/nephos"))
NEPHOS = PREFIX / "bin" / "nephos"


def free_port() -> int:
    """A port p on loopback such that p and p + 1 are free."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return int(port)
    raise RuntimeError("no two free ports")


class RunningCloud:
    """Started on entry, purged on exit, also after a failure. `options` are more words of `nephos up`."""

    def __init__(
        self,
        *,
        hypervisor: str = "fake",
        hosts: int = 1,
        name: str = "host-1",
        failpoint: Path | None = None,
        options: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        self._environment = {**os.environ, **({"NEPHOS_FAILPOINT": str(failpoint)} if failpoint else {})}
        self.state = Path(tempfile.mkdtemp(prefix="nephos-test-", dir="/var/tmp"))
        self.state.chmod(0o755)
        self._exports: dict[str, dict[str, str]] = {}
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._up = ["up", "--listen", f"127.0.0.1:{self.port}", "--hypervisor", hypervisor]
        self._up += ["--tls", "on"] if tls else []
        self._up += ["--hosts", str(hosts)] if hypervisor == "fake" else ["--name", name]
        self._up += options

    def __enter__(self) -> RunningCloud:
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.nephos("down", "--purge")  # a failure is shown, and the state stays to purge by
        shutil.rmtree(self.state, ignore_errors=True)

    def up(self) -> None:
        self.nephos(*self._up)

    def nephos(self, *words: str, check: bool = True) -> str:
        """Run a command of the product; its output. Raises AssertionError with everything it said."""
        done = subprocess.run(
            [str(NEPHOS), words[0], "--state", str(self.state), *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=self._environment,
        )
        assert not check or done.returncode == 0, (
            f"nephos {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def status(self) -> Any:
        return json.loads(self.nephos("status", "--json", check=False))

    def audit(self) -> Any:
        return json.loads(self.nephos("audit", "--json", check=False))

    def kill(self, role: str) -> None:
        """kill -9 of every process of a role; the supervisor starts it again."""
        for process in self.status_processes():
            if process["role"] == role:
                try:
                    os.kill(process["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def status_processes(self) -> list[dict[str, Any]]:
        found = subprocess.run(
            [str(NEPHOS), "status", "--json", "--state", str(self.state)], capture_output=True, text=True, check=False
        )
        processes: list[dict[str, Any]] = json.loads(found.stdout)["processes"]
        return processes

    def exports(self, user: str) -> dict[str, str]:
        if user not in self._exports:
            self._exports[user] = json.loads(self.nephos("openrc", user, "--json"))
        return self._exports[user]

    def openstack(self, *words: str, user: str = "demo", check: bool = True) -> str:
        """Type an `openstack` command as a user; its output. Raises AssertionError with everything it said.

        It is the client's own entry point in a forked process: importing it anew for each command would take most of a
        test's time.
        """
        environment = {**self.exports(user), "no_proxy": "127.0.0.1", "HOME": str(self.state)}
        return type_command(words, environment, check=check)

    def connect(self, user: str) -> Any:
        """An openstacksdk connection."""
        import openstack

        os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
        exports = self.exports(user)
        names = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name")
        auth = {name: exports["OS_" + name.upper()] for name in names}
        trust = {"cacert": exports["OS_CACERT"]} if "OS_CACERT" in exports else {}
        return openstack.connect(auth=auth, region_name="RegionOne", load_yaml_config=False, load_envvars=False, **trust)

    @property
    def namespace(self) -> str:
        return str(self.status()["namespace"])

    def inside(self, *words: str, check: bool = True) -> str:
        """Run a command in the network namespace where the cloud's host lives."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *words], capture_output=True, text=True, check=False, timeout=120
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def hosts_up(self, count: int, seconds: float = 30) -> None:
        """Wait until so many hosts are up."""
        wait_for(lambda: sum(host["up"] for host in self.status()["hosts"]) >= count, seconds, f"{count} hosts up")


@functools.cache
def _load_commands() -> None:
    """What the client would import and look up anew in each fork: a second, which the first command pays."""
    for group in entry_points().groups:
        if group.startswith("openstack."):
            for command in entry_points(group=group):
                command.load()
    from openstackclient.shell import main

    with redirect_stdout(io.StringIO()):
        main(["help", "versions", "show"])


def type_command(words: Sequence[str], environment: dict[str, str], *, check: bool) -> str:
    """See `RunningCloud.openstack`."""
    _load_commands()
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=typed, args=(list(words), environment, theirs))
    child.start()
    theirs.close()
    status, output, complaint = ours.recv()
    child.join()
    assert not check or status == 0, f"openstack {' '.join(words)}: {status}\n{output}\n{complaint}"
    return str(output) if status == 0 and output else f"{output}{complaint}"


def typed(words: list[str], environment: dict[str, str], answer: Any) -> None:
    """In a process of its own, as the client keeps who it was for: run a command, send back status and both outputs."""
    from openstackclient.shell import main

    os.environ.update(environment)
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        status = main(words)
    answer.send((status, said.getvalue(), complained.getvalue()))


def wait_for(condition: Any, seconds: float, what: str) -> Any:
    """The condition's first true value. Raises AssertionError that names what did not come."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
