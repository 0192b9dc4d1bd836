"""The `nephos` command. Each subcommand is a module of this package, imported only when it is asked for."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "up": "start the cloud on this machine, or change and restart it",
    "down": "stop the cloud; guests go on, unless --purge",
    "status": "show processes, hosts and services",
    "demo": "boot a server through the APIs and log in to it",
    "openrc": "print shell exports for a user",
    "clouds": "print a clouds.yaml",
    "audit": "list what is stuck, orphaned or left over",
    "trace": "follow packets from a port and say what eats them",
    "doctor": "check what this machine has and lacks",
    "invite": "let another machine join this cloud as a host",
    "join": "make this machine a host of a cloud elsewhere",
    "ca": "show, export and renew the certificates of the cloud's own authority",
    "policy": "show the rules in force, and ask whether a user may do something",
    "keys": "show and rotate what signs tokens and seals credentials",
    "image": "build guest images",
    "server": "run the server role (started by up)",
    "agent": "run the agent role (started by up)",
}
STATE = Path("/var/lib/nephos")


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand; its errors become one line on standard error and exit status 1."""
    given = sys.argv[1:] if arguments is None else arguments
    name = next((word for word in given if not word.startswith("-")), "")
    parser = argparse.ArgumentParser(prog="nephos", description="An IaaS cloud that speaks the OpenStack APIs.")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command, words in COMMANDS.items():
        each = commands.add_parser(command, help=words, description=words[0].upper() + words[1:] + ".")
        each.add_argument("--state", type=Path, default=STATE, metavar="DIR", help=f"state directory ({STATE})")
        each.add_argument("--json", action="store_true", help="answer in JSON")
        if command == name:
            import_module(f"nephos.cli.{command}").options(each)
    options = parser.parse_args(given)
    if options.version:
        from nephos import __version__

        print(__version__)
        return
    if not options.command:
        parser.print_help()
        raise SystemExit(2)
    options.state = options.state.absolute()
    from nephos.errors import NephosError

    try:
        import_module(f"nephos.cli.{options.command}").run(options)
    except NephosError as wrong:
        print(f"nephos {options.command}: {wrong.message}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
