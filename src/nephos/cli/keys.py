"""nephos keys: what signs tokens and seals credentials, and its rotation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="list the keys with their states")
    rotate = verbs.add_parser("rotate", help="make the staged key primary")
    rotate.add_argument(
        "kind",
        nargs="?",
        choices=("tokens", "credentials", "receipts", "fernet", "jws"),
        help="one kind only; `tokens` is the form that new tokens have (tokens, credentials and receipts)",
    )
    rotate.add_argument("--force", action="store_true", help="let a key go though tokens that it signed still count")
    for each in (show, rotate):
        each.add_argument("--state", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli.client import Client

    client = Client(all_settings.load(options.state))
    if options.verb == "show":
        found = client.get("/nephos/v1/keys")
        print(json.dumps(found)) if options.json else _show(found)
        return
    kinds = [options.kind] if options.kind else ["tokens", "credentials", "receipts"]
    made = []
    for kind in kinds:
        made.append(client.post(f"/nephos/v1/keys/{kind}/rotate", {"force": options.force})["key"])
        if not options.json:
            print(f"{made[-1]['kind']:<12} key {made[-1]['number']} is primary")
    if options.json:
        print(json.dumps(made))


def _show(found: dict[str, Any]) -> None:
    every = f"every {found['rotate_hours']} h" if found["rotate_hours"] else "by hand"
    print(
        f"New tokens are {found['provider']} and last {found['lifetime']} s; of each kind {found['max_active']} keys, rotated {every}."
    )
    for key in found["keys"]:
        since = key["primary_at"] or key["created_at"]
        sealed = f"{key['credentials']} credentials" if "credentials" in key else ""
        print(f"{key['kind']:<12} {key['number']:>4}  {key['state']:<10} since {since}  {sealed}".rstrip())
