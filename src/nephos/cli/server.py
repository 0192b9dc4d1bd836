"""nephos server: the unprivileged role."""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> None:
    import os

    from nephos.errors import SettingsError
    from nephos.server import main

    if os.geteuid() == 0:
        raise SettingsError("The server never runs as root; `nephos up` starts it as its own user.")
    main(options.state)
