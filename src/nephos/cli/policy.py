"""nephos policy: the rules in force, and whether a user may do something. Exit status of `check`: 0 may, 1 may not."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="the rules in force, where each comes from, and what is wrong with the files")
    show.add_argument("what", nargs="?", metavar="SERVICE|RULE", help="one service's or one rule (all)")
    show.add_argument("--changed", action="store_true", help="only what the operator changed")
    check = verbs.add_parser("check", help="may this user do this, and which rule says so")
    check.add_argument("--user", required=True, help="name or id")
    check.add_argument("--user-domain", default="Default", metavar="DOMAIN", help="name or id (Default)")
    scope = check.add_mutually_exclusive_group()
    scope.add_argument("--project", help="name or id: with a token for this project")
    scope.add_argument("--domain", help="name or id: with a token for this domain")
    scope.add_argument("--system", action="store_true", help="with a token for the system")
    check.add_argument("--project-domain", default="Default", metavar="DOMAIN", help="name or id (Default)")
    check.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what it is done to (the user's own project)",
    )
    check.add_argument("what", nargs="+", metavar="RULE | METHOD PATH [ACTION]", help="a rule's name, or an API call")
    for each in (show, check):
        each.add_argument("--state", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli.client import Client

    client = Client(all_settings.load(options.state))
    found = (
        _rules(client, options) if options.verb == "show" else client.post("/nephos/v1/policy/check", _asked(options))
    )
    if options.json:
        print(json.dumps(found))
    else:
        _show(found) if options.verb == "show" else _tell(found)
        for problem in found["problems"]:
            print(f"wrong: {problem}", file=sys.stderr)
    if not found.get("allowed", True):
        raise SystemExit(1)


def _rules(client: Any, options: argparse.Namespace) -> Any:
    from urllib.parse import quote

    found = client.get("/nephos/v1/policy")
    services = {rule["service"] for rule in found["rules"]}
    if options.what in services:
        found["rules"] = [rule for rule in found["rules"] if rule["service"] == options.what]
    elif options.what is not None:
        found = client.get(f"/nephos/v1/policy?rule={quote(options.what)}")
    if options.changed:
        found["rules"] = [rule for rule in found["rules"] if rule["source"] != "default"]
    return found


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    from nephos.errors import SettingsError

    words = options.what
    if len(words) > 3:
        raise SettingsError("Ask for a rule, or for METHOD PATH [ACTION].")
    target: dict[str, Any] = {}
    for each in options.target:
        name, equals, value = each.partition("=")
        if not equals:
            raise SettingsError(f"--target {each}: NAME=VALUE is expected.")
        target[name] = {"true": True, "false": False, "none": None}.get(value.lower(), value)
    return {
        "user": options.user,
        "user_domain": options.user_domain,
        "scope": {
            "project": options.project,
            "project_domain": options.project_domain,
            "domain": options.domain,
            "system": options.system,
        },
        "rule": words[0] if len(words) == 1 else None,
        "method": words[0] if len(words) > 1 else None,
        "path": words[1] if len(words) > 1 else None,
        "action": words[2] if len(words) > 2 else None,
        "target": target or None,
    }


def _show(found: dict[str, Any]) -> None:
    for rule in found["rules"]:
        source = "" if rule["source"] == "default" else f"   [{rule['source']}]"
        scopes = f"   ({', '.join(rule['scope_types'])})" if rule["scope_types"] else ""
        print(f"{rule['service']}  {rule['name']}: {rule['check_str'] or '(everybody)'}{scopes}{source}")


def _tell(found: dict[str, Any]) -> None:
    print(f"{'yes' if found['allowed'] else 'no'}: {found['reason']}")
    if found.get("roles") is not None:
        print(f"roles: {', '.join(found['roles']) or 'none'}")
    if found.get("target"):
        print("target: " + ", ".join(f"{name}={value}" for name, value in found["target"].items()))
    if found["explanation"]:
        print("\n".join(_lines(found["explanation"], 0)))


def _lines(part: dict[str, Any], depth: int) -> list[str]:
    note = f"   [{part['note']}]" if part["note"] else ""
    own = f"{'  ' * depth}{'yes' if part['allowed'] else 'no '} {part['text']}{note}"
    return [own, *(line for child in part["children"] for line in _lines(child, depth + 1))]
