"""nephos down: stop server and agent. Guests, DHCP and routers go on; with --purge everything that was made goes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path

STOP_SECONDS = 25.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--purge", action="store_true", help="remove guests, networks, rules and all files of this cloud"
    )


def run(options: argparse.Namespace) -> None:
    from nephos.errors import SettingsError

    if os.geteuid() != 0:
        raise SettingsError("`nephos down` needs root.")
    was = stop(options.state)
    left = _purge(options.state) if options.purge else ""
    words = "purged" if options.purge else "stopped" if was else "was not running"
    if options.json:
        print(json.dumps({"result": words, **({"left": left} if left else {})}))
    else:
        print(f"The cloud in {options.state} {words}." + (f" Its ledger stays in {left}: drop it there." if left else ""))


def _purge(state: Path) -> str:
    """Purge, and answer which database still holds the cloud's ledger; none when it went with the state."""
    from nephos import settings as all_settings
    from nephos.cli.status import shown_database

    settings = all_settings.load(state)
    left = shown_database(settings) if settings.database else ""
    purge(state)
    return left


def stop(state: Path) -> bool:
    """End the supervisor, which ends the roles; answers whether there was one. Roles without one are ended too."""
    from nephos.cli import processes

    alive = processes.running(state)
    if not alive:
        return False
    order = ["supervisor"] if "supervisor" in alive else []
    for role in order or list(alive):
        os.kill(alive[role], signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end:
        if not processes.running(state):
            return True
        time.sleep(0.05)
    for pid in processes.running(state).values():
        os.kill(pid, signal.SIGKILL)
    return True


def purge(state: Path) -> None:
    """Remove domains, namespaces, bridges, rules, processes and files; restore what was changed on the machine."""
    import shutil
    import subprocess

    from nephos import settings as all_settings
    from nephos.cli import enclosure, processes
    from nephos.errors import HostFault
    from nephos.settings import DEFAULT_STATE

    if not (state / "nephos.toml").exists():
        return
    settings = all_settings.load(state)
    if settings.hypervisor != "fake" and settings.cloud_id:
        enter: list[str] = []
        if state != DEFAULT_STATE:
            held = enclosure.holder(state)
            enter = enclosure.ensure(state, "purge") if held is not None else []
        if state == DEFAULT_STATE or enter:
            words = processes.command("agent", state)
            done = subprocess.run([*enter, *words, "--purge"], capture_output=True, text=True, check=False)
            if done.returncode:
                raise HostFault(
                    f"What the cloud made on this host could not all be removed: {done.stderr.strip()[-2000:]}"
                )
        enclosure.remove(state)
    shutil.rmtree(state)
