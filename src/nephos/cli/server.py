"""nephos server: the unprivileged role. This process is Granian's supervisor; its worker is `nephos.server`."""

from __future__ import annotations

import argparse

THREADS = 64
"""Request threads. Slow transfers hold one each, so there are many more than cores; an idle one costs some kilobytes."""


def options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> None:
    import os

    from granian import Granian
    from granian.constants import Interfaces
    from granian.log import LogLevels

    from nephos import settings
    from nephos.errors import SettingsError

    if os.geteuid() == 0:
        raise SettingsError("The server never runs as root; `nephos up` starts it as its own user.")
    host, port = settings.load(options.state).address
    os.environ["NEPHOS_STATE"] = str(options.state)
    Granian(
        "nephos.server:application",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=THREADS,
        backlog=1024,
        backpressure=4 * THREADS,
        log_level=LogLevels.error,
        log_access=False,
        respawn_failed_workers=True,
    ).serve()
