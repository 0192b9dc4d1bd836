"""nephos image: build guest images from the distribution's own packages."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("build",), help="what to do")
    parser.add_argument(
        "--out", type=Path, default=Path("/var/cache/nephos/guest"), metavar="DIR", help="where to put it"
    )
    parser.add_argument(
        "--recipe", choices=("tiny", "debian"), default="tiny", help="a small guest, or Debian with cloud-init"
    )


def run(options: argparse.Namespace) -> None:
    import msgspec

    from nephos import guestimage

    if options.recipe == "debian":
        from nephos.guestimage.debian import build_debian

        built: object = build_debian(options.out)
    else:
        built = guestimage.build(options.out)
    plain = msgspec.to_builtins(built, enc_hook=str)
    if options.json:
        print(json.dumps(plain))
        return
    for name, value in plain.items() if isinstance(plain, dict) else (("image", plain),):
        print(f"{name:<16}{value}")
