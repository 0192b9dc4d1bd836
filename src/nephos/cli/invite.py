"""nephos invite: let another machine join this cloud as a host. Prints the command to type there; or takes it back."""

from __future__ import annotations

import argparse
import json
import os


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", nargs="?", help="the host's name; without one, any that the cloud does not know yet")
    parser.add_argument(
        "--withdraw",
        action="store_true",
        help="have invitations in the host's name not work any more; in place of the name, the ticket of one",
    )
    parser.add_argument("--seconds", type=int, default=3600, help="how long the invitation works (3600); it works once")


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli.client import Client
    from nephos.errors import SettingsError
    from nephos.hosts import enrolment
    from nephos.kernel.tls import keeper
    from nephos.kernel.tls.authority import Authority

    settings = all_settings.load(options.state)
    if options.withdraw:
        found = Client(settings).post("/nephos/v1/invitations/withdraw", {"invitation": options.host})
        print(json.dumps(found) if options.json else f"Withdrawn: {found['withdrawn']}.")
        return
    if not settings.https:
        raise SettingsError(
            f"This cloud listens on {settings.listen} without TLS, where no other machine comes: "
            "`nephos up --listen ADDRESS:PORT` first."
        )
    if os.geteuid() != 0:
        raise SettingsError("`nephos invite` needs root: it signs with the key of the cloud's authority.")
    ticket = enrolment.invite(Authority(settings.tls_dir), options.host, options.seconds)
    host = keeper.names(settings)[0]
    shown = f"[{host}]" if ":" in host else host
    server = ",".join(f"wss://{shown}:{port}" for port in settings.streams_ports)
    name = f" --name {options.host}" if options.host else ""
    if options.json:
        print(json.dumps({"server": server, "ticket": ticket, "host": options.host, "seconds": options.seconds}))
    else:
        print(f"nephos join {server} {ticket}{name}")
