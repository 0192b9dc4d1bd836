"""nephos openrc: shell exports, as every OpenStack client reads them (S1-48)."""

from __future__ import annotations

import argparse
import json
import shlex


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", nargs="?", default="demo", help="admin or demo (demo)")


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.cli.state import credentials

    settings = all_settings.load(options.state)
    known = credentials(settings, options.user)
    exports = {
        "OS_AUTH_URL": known["auth_url"],
        "OS_USERNAME": known["username"],
        "OS_PASSWORD": known["password"],
        "OS_PROJECT_NAME": known["project_name"],
        "OS_USER_DOMAIN_NAME": known["user_domain_name"],
        "OS_PROJECT_DOMAIN_NAME": known["project_domain_name"],
        "OS_REGION_NAME": settings.region,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_INTERFACE": "public",
    }
    if settings.client_authority is not None:
        exports["OS_CACERT"] = str(settings.client_authority)
    if options.json:
        print(json.dumps(exports))
        return
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
