"""nephos doctor: what this machine has and lacks, each lack with its reason and what mends it."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nephos.doctor.preflight import Finding


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="show what is fine too")


def run(options: argparse.Namespace) -> None:
    import msgspec

    from nephos import settings as all_settings
    from nephos.cli import processes
    from nephos.doctor import preflight

    settings = all_settings.load(options.state)
    host, port = settings.address
    ours = bool(processes.running(options.state))
    found = preflight.check(
        options.state,
        host=host,
        listen=() if ours else (port, settings.streams_port),
        guests=settings.hypervisor != "fake",
    )
    found += _policy(options.state / "policy")
    lacks = [each for each in found if each.state != "ok"]
    if options.json:
        print(json.dumps([msgspec.to_builtins(each) for each in found]))
    else:
        for each in found if options.all else lacks:
            print(f"{each.state:<8}{each}")
        if not lacks:
            print(f"This machine has all that Nephos needs ({len(found)} things looked at).")
    if any(each.state == "missing" for each in found):
        raise SystemExit(1)


def _policy(folder: Path) -> list[Finding]:
    """What is wrong with the operator's policy files, as the server's own user sees them (S3-55)."""
    from nephos.app import TABLES
    from nephos.doctor.preflight import Finding
    from nephos.kernel.policy import Policies

    why = "the rules in force are not what the files say"
    logging.getLogger("nephos").addHandler(logging.NullHandler())  # what is logged is shown below
    with _as_server():
        policies = Policies(TABLES, folder)
    if not policies.problems:
        return [Finding(item="policy", state="ok", why=why, detail=str(folder))]
    mend = "correct the file; it counts within a second"
    return [Finding(item="policy", state="low", why=why, detail=problem, mend=mend) for problem in policies.problems]


@contextmanager
def _as_server() -> Iterator[None]:
    """Root reads what the server may not; so ask as the server."""
    from nephos.cli.state import server_user
    from nephos.errors import SettingsError

    try:
        user = server_user() if os.geteuid() == 0 else None
    except SettingsError:
        user = None
    if user is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
