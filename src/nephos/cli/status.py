"""nephos status: is the cloud there, and what runs (S3-03)."""

from __future__ import annotations

import argparse
import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nephos.settings import Settings


def options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli import client, enclosure, processes
    from nephos.errors import NephosError

    settings = all_settings.load(options.state)
    found: dict[str, Any] = {
        "state": str(options.state),
        "url": settings.host.server or settings.url,
        "database": shown_database(settings),
        "processes": processes.tree(options.state),
        "namespace": enclosure.name_of(options.state) if enclosure.holder(options.state) else None,
        "answers": False,
        "hosts": [],
        "policy_problems": [],
    }
    if settings.host.server:
        found["answers"] = bool(found["processes"])
    elif found["processes"]:
        try:
            cloud = client.Client(settings)
            found["hosts"] = cloud.get("/nephos/v1/hosts")["hosts"]
            found["policy_problems"] = cloud.get("/nephos/v1/policy?rule=nephos:hosts:list")["problems"]
            found["answers"] = True
        except NephosError as wrong:
            found["error"] = wrong.message
    found["agent_error"] = last_words(settings, found["hosts"])
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    if not found["answers"]:
        raise SystemExit(3)


def last_words(settings: Settings, hosts: list[dict[str, Any]]) -> str | None:
    """Why this machine's agent does not stay, when its host is down: what it said last."""
    own = settings.host.name or socket.gethostname()
    if not any(host["name"] == own and not host["up"] for host in hosts):
        return None
    try:
        said = (settings.log_dir / "agent.out").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return said[-1] if said else None


def shown_database(settings: Settings) -> str:
    """Where the ledger is, without a password; the file that says so where the caller may not read it."""
    from sqlalchemy import make_url

    from nephos.errors import SettingsError

    try:
        return make_url(settings.database_url).render_as_string(hide_password=True)
    except SettingsError:
        return settings.database


def _print(found: dict[str, Any]) -> None:
    print(f"cloud      {found['url']}  ({'answers' if found['answers'] else 'does not answer'})")
    print(f"state      {found['state']}")
    print(f"database   {found['database']}")
    if found["namespace"]:
        print(f"namespace  {found['namespace']}  (ip netns exec {found['namespace']} …)")
    if found.get("error"):
        print(f"error      {found['error']}")
    for problem in found["policy_problems"]:
        print(f"policy     {problem}")
    if found["agent_error"]:
        print(f"agent      {found['agent_error']}")
    for process in found["processes"]:
        print(f"process    {process['role']:<10} pid {process['pid']:<8} uid {process['uid']}")
    for host in found["hosts"]:
        state = "up" if host["up"] else "down"
        print(
            f"host       {host['name']:<16} {state:<5} {host['hypervisor_type'] or '-'}, {host['vcpus']} vcpus, {host['ram_mb']} MB"
        )
        for tunnel in host["tunnels"]:
            state = f"up, frames of {tunnel['mtu']} bytes pass" if tunnel["up"] else "no answer"
            if tunnel["fallback"]:
                state += f"; networks go by {tunnel['fallback']}"
                if tunnel["fallback_up"] is not None:
                    state += f", frames of {tunnel['fallback_mtu']} bytes pass" if tunnel["fallback_up"] else ", no answer either"
            print(f"tunnel     {host['name']:<16} → {tunnel['peer']:<16} {state}")
