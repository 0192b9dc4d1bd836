"""nephos doctor: what this machine has and lacks, each lack with its reason and what mends it."""

from __future__ import annotations

import argparse
import json


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
