"""nephos up: server and agent on this machine, supervised. Run again, it changes what was asked and goes on."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nephos.settings import Settings

READY_SECONDS = 60.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="the HTTP APIs' address (127.0.0.1:5000); streams take the next port"
    )
    parser.add_argument(
        "--tls",
        choices=("auto", "on", "off"),
        help="HTTPS: but for loopback, always, or never: for TLS at a proxy (auto)",
    )
    parser.add_argument("--hypervisor", choices=("libvirt", "fake"), help="real guests, or simulated ones (libvirt)")
    parser.add_argument("--hosts", type=int, metavar="N", help="how many simulated hosts (1)")
    parser.add_argument("--name", help="this host's name (the machine's)")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="postgresql://… or mariadb://… in place of the embedded ledger; with a password, file:PATH of a file "
        "that holds the URL (file:/dev/stdin too)",
    )
    parser.add_argument("--servers", type=int, metavar="N", help="how many server processes share the database (1)")
    parser.add_argument("--foreground", action="store_true", help="stay, instead of leaving a supervisor behind")


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli import processes, state
    from nephos.errors import NephosError, SettingsError

    if os.geteuid() != 0:
        raise SettingsError("`nephos up` needs root: it makes users' files, namespaces, bridges and guests.")
    began = time.monotonic()
    settings = _settings(options)
    changed = all_settings.load(options.state) != settings if options.state.exists() else True
    state.prepare(settings)
    changed |= state.keep_database(settings, options.database or settings.database)
    alive = processes.running(options.state)
    if alive.get("supervisor") and not changed:
        _wait(settings, alive["supervisor"])
        _say(options, settings, began, "runs already")
        return
    if alive.get("supervisor"):
        from nephos.cli.down import stop

        stop(options.state)
    all_settings.save(settings)
    try:
        _check(settings)
        if not settings.host.server:
            _hand_over(settings)
            state.trust(settings)
        enter = _enter(settings)
        if options.foreground:
            _say(options, settings, began, "starts")
            _supervise(settings, enter)
            return
        supervisor = _daemon(settings, enter)
        _wait(settings, supervisor)
    except NephosError as wrong:
        from nephos.doctor.worlddump import dump

        path = dump(settings, wrong.message)
        raise SettingsError(f"{wrong.message}\nThe state of the world is in {path}.") from wrong
    _say(options, settings, began, "is up")


def _settings(options: argparse.Namespace) -> Settings:
    from nephos import settings as all_settings
    from nephos.cli import state
    from nephos.errors import SettingsError
    from nephos.kernel import clock
    from nephos.wiring.base import Physical

    settings = all_settings.load(options.state)
    settings.cloud_id = settings.cloud_id or clock.hex_id()
    settings.listen = options.listen or settings.listen
    settings.tls.mode = options.tls or settings.tls.mode
    settings.hypervisor = options.hypervisor or settings.hypervisor
    settings.fake_hosts = options.hosts or settings.fake_hosts
    settings.host.name = options.name or settings.host.name
    settings.servers = options.servers or settings.servers
    if options.database and state.has_password(options.database):
        raise SettingsError(
            "A password on the command line is there for everybody to read (ps): write the URL into a file and give "
            "--database file:PATH."
        )
    if settings.servers > 1 and not (options.database or settings.database):
        raise SettingsError(
            f"{settings.servers} servers need a database: the embedded ledger has exactly one. Give --database "
            "postgresql://… or mariadb://…"
        )
    if not settings.host.physical and not settings.host.server:
        settings.host.physical = {"public": Physical(bridge="br-ex", address="172.24.4.1/24", masquerade=True)}
    _ = settings.address
    return settings


def _check(settings: Settings) -> None:
    """Refuse, with the owner's name, what would fail later; find out once whether KVM works. Nothing listens on a host
    that joined a cloud elsewhere."""
    from nephos import settings as all_settings
    from nephos.cli import state
    from nephos.doctor import preflight
    from nephos.errors import SettingsError

    _, port = settings.address
    ports = () if settings.host.server else (port, *settings.streams_ports)
    wrong = preflight.blocking(settings.state, ports=ports, guests=settings.hypervisor != "fake")
    if settings.database:
        state.check_database(settings)
    if wrong:
        raise SettingsError("This machine is not ready:\n" + "\n".join(f"  - {line}" for line in wrong))
    if settings.hypervisor != "fake" and not settings.host.acceleration:
        found = preflight.acceleration(settings.agent_dir / "kvm")
        settings.host.acceleration = found.kind
        print(f"acceleration: {found.kind}: {found.why}", file=sys.stderr)
        all_settings.save(settings)


def _hand_over(settings: Settings) -> None:
    """Give the server, through a file only it can read, the first passwords and the hosts to enrol."""
    from nephos.agent.main import host_names, key_of
    from nephos.cli import state

    public = key_of(settings.agent_dir).public_key().public_bytes_raw().hex()
    first = {"passwords": state.passwords(settings), "hosts": dict.fromkeys(host_names(settings), public)}
    state.write_private(settings.server_dir / "first.json", json.dumps(first), state.server_user().pw_uid)


def _enter(settings: Settings) -> list[str]:
    from nephos.agent.main import host_names
    from nephos.cli import enclosure
    from nephos.settings import DEFAULT_STATE

    if settings.hypervisor == "fake" or settings.state == DEFAULT_STATE or settings.host.server:
        return []
    return enclosure.ensure(settings.state, host_names(settings)[0])


def _supervise(settings: Settings, enter: list[str]) -> None:
    from nephos.cli.processes import Supervisor
    from nephos.settings import SERVER_USER

    Supervisor(settings.state, user=SERVER_USER, servers=settings.server_roles, enter=enter).run()


def _daemon(settings: Settings, enter: list[str]) -> int:
    """Leave a supervisor behind. It is a process of its own, so that it carries nothing of this one's memory."""
    from nephos.settings import SERVER_USER

    code = (
        "import sys, pathlib; from nephos.cli.processes import Supervisor; "
        "Supervisor(pathlib.Path(sys.argv[1]), user=sys.argv[2], servers=sys.argv[3].split(), enter=sys.argv[4:]).run()"
    )
    with (settings.log_dir / "supervisor.log").open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(settings.state), SERVER_USER, " ".join(settings.server_roles), *enter],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
        )
    return child.pid


def _wait(settings: Settings, supervisor: int) -> None:
    """Until the APIs answer. Raises SettingsError with the server's last words."""
    from nephos.cli import client
    from nephos.errors import SettingsError

    if settings.host.server:
        return
    end = time.monotonic() + READY_SECONDS
    url = settings.local_url + "/healthcheck"
    opener = client.opener(settings)
    while time.monotonic() < end:
        try:
            with opener.open(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            pass  # a port that nobody listens at yet may even answer with what was asked
        if not Path(f"/proc/{supervisor}").exists():
            raise SettingsError(f"The supervisor ended: {_tail(settings.log_dir / 'supervisor.log')}")
        time.sleep(0.02)
    raise SettingsError(f"{url} does not answer after {READY_SECONDS:g} s: {_tail(settings.log_dir / 'server.out')}")


def _tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def _say(options: argparse.Namespace, settings: Settings, began: float, what: str) -> None:
    seconds = time.monotonic() - began
    url = settings.host.server or settings.url
    if options.json:
        print(json.dumps({"url": url, "state": str(settings.state), "seconds": round(seconds, 2)}))
    else:
        print(
            f"The {'host' if settings.host.server else 'cloud'} {what}: {url} (state {settings.state}, {seconds:.1f} s)"
        )
