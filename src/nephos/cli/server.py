"""nephos server: the unprivileged role. This process is Granian's supervisor; its worker is `nephos.server`."""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--number", type=int, default=1, metavar="N", help="which of this machine's servers it is (1)")
    parser.add_argument("--check", action="store_true", help="only see whether the database can be used")


def run(options: argparse.Namespace) -> None:
    import os

    from nephos import settings
    from nephos.errors import SettingsError
    from nephos.kernel.http import serving
    from nephos.kernel.tls import keeper

    if os.geteuid() == 0:
        raise SettingsError("The server never runs as root; `nephos up` starts it as its own user.")
    chosen = settings.load(options.state)
    if options.check:
        from nephos import app

        database = app.open_database(chosen)
        database.fit(chosen.servers)
        database.close()
        return
    certificates = keeper.of(chosen)
    os.environ["NEPHOS_STATE"] = str(options.state)
    os.environ["NEPHOS_NUMBER"] = str(options.number)
    tls = certificates.shown if certificates else None
    serving.serve("nephos.server:application", *chosen.address, tls, alone=chosen.servers == 1)
