"""nephos agent: the privileged role on every host."""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server", default="", metavar="URL", help="ws://HOST:PORT of the streams listener, or its socket; several with commas"
    )
    parser.add_argument("--purge", action="store_true", help="remove all that the agent made on this host, and end")


def run(options: argparse.Namespace) -> None:
    from nephos.agent.main import main, purge

    if options.purge:
        purge(options.state)
        return
    main(options.state, options.server or None)
