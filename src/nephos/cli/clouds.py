"""nephos clouds: a clouds.yaml with `nephos` for demo and `nephos-admin` for admin."""

from __future__ import annotations

import argparse
import json


def options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> None:
    import yaml

    from nephos import settings as all_settings
    from nephos.cli.state import credentials

    settings = all_settings.load(options.state)
    clouds = {
        name: {
            "auth": credentials(settings, user),
            "region_name": settings.region,
            "identity_api_version": "3",
            "interface": "public",
            **({"cacert": str(settings.client_authority)} if settings.client_authority else {}),
        }
        for name, user in (("nephos", "demo"), ("nephos-admin", "admin"))
    }
    document = {"clouds": clouds}
    print(json.dumps(document) if options.json else yaml.safe_dump(document, sort_keys=False), end="")
