"""nephos trace PORT [TO]: sends packets as the guest behind a port and says where they get lost. Exit status 1 when they do.

TO is dhcp, metadata, gateway (the default), internet (the external network's gateway), another port or an address. Over IPv6
it goes to IPv6 addresses, from ports without IPv4, and where dhcp6, metadata6, gateway6 or internet6 ask for it. PORT is a port's id or name, or an address that one port alone has.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from nephos.cli.client import Client

WORDS = ("dhcp", "metadata", "gateway", "internet")
WORDS6 = tuple(f"{word}6" for word in WORDS)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="PORT", help="a port's id, name or address")
    parser.add_argument(
        "to", metavar="TO", nargs="?", default="gateway", help=f"{', '.join(WORDS + WORDS6)}, another port or an address"
    )


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli.client import Client

    client = Client(all_settings.load(options.state))
    to = options.to
    if to not in WORDS + WORDS6 and not _is_address(to):
        to = _port(client, to)["id"]
    port = _port(client, options.port)
    found = client.get(f"/nephos/v1/ports/{port['id']}/trace?to={quote(to)}")["trace"]
    print(json.dumps(found) if options.json else drawing(port, options.to, found))
    if not found["ok"]:
        raise SystemExit(1)


def drawing(port: dict[str, Any], to: str, found: dict[str, Any]) -> str:
    """The way, stop by stop: → where a packet was seen, ← where its answer was; then the verdict."""
    lines = [f"port {port['name'] or port['id']} {port['mac_address']} → {to}", ""]
    lines += [f"  {number}  {words}" for number, words in enumerate(found["packets"], 1)]
    numbers = "".join(f"{number:<5}" for number in range(1, len(found["packets"]) + 1))
    lines += ["", f"  {'host':<16}{'device':<18}{numbers}".rstrip()]
    for hop in found["hops"]:
        marks = "".join(
            f"{('→' if asked else '·') + ' ' + ('←' if answered else '·'):<5}"
            for asked, answered in zip(hop["questions"], hop["answers"], strict=True)
        )
        lines.append(f"  {hop['host']:<16}{hop['device'] or '(' + hop['at'] + ')':<18}{marks}  {hop.get('transport', '')}".rstrip())
    lines += ["", ("✓ " if found["ok"] else "✗ ") + found["verdict"]]
    if found["mend"]:
        lines.append(f"  mend: {found['mend']}")
    lines += [f"  also: {words}" for words in found["also"]]
    return "\n".join(lines)


def _port(client: Client, given: str) -> dict[str, Any]:
    """The port that is meant. Raises NotFound or Conflict."""
    from nephos.errors import Conflict, NotFound

    keys = [f"fixed_ips=ip_address%3D{quote(given)}"] if _is_address(given) else [f"{key}={quote(given)}" for key in ("id", "name")]
    for key in keys:
        found: list[dict[str, Any]] = client.get(f"/network/v2.0/ports?{key}")["ports"]
        if len(found) == 1:
            return found[0]
        if found:
            raise Conflict(f"{len(found)} ports are called {given}; give an id: {', '.join(each['id'] for each in found)}")
    raise NotFound(f"No port has the id, name or address {given}.")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
