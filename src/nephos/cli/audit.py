"""nephos audit: what is stuck, orphaned or left over. Exit status 1 when there is anything."""

from __future__ import annotations

import argparse
import json


def options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli.client import Client

    found = Client(all_settings.load(options.state)).get("/nephos/v1/audit")["findings"]
    if options.json:
        print(json.dumps(found))
    elif not found:
        print("Nothing is stuck, orphaned or left over.")
    for each in found if not options.json else ():
        print(f"{each['kind']:<12} {each['name']:<48} {each['why']}")
    if found:
        raise SystemExit(1)
