"""Access rules of application credentials: which API calls a token is good for.

Source: Keystone API v3.14, "Access rules". `*` stands for one part of a path, `**` for any number, `{name}` for one.
"""

from __future__ import annotations

import re
from functools import lru_cache

from nephos import errors
from nephos.kernel.auth.who import Who

_PLACES = re.compile(r"\*\*|\*|\{[^}/]*\}")


@lru_cache(maxsize=512)
def pattern(path: str) -> re.Pattern[str]:
    parts, at = [], 0
    for found in _PLACES.finditer(path):
        parts += [re.escape(path[at : found.start()]), ".*" if found[0] == "**" else "[^/]+"]
        at = found.end()
    return re.compile("".join([*parts, re.escape(path[at:])]))


def check(who: Who, service: str, method: str, path: str) -> None:
    """Raises Unauthorized unless one of the token's rules is for this call.

    A rule's path may be written with the service's mount point (`/compute/v2.1/servers`) or without
    (`/v2.1/servers`), as it is where each service has an address of its own. A service that passes a user's token on,
    with its own beside it, is not held to the rules.
    """
    if who.access_rules is None or who.service_roles:
        return
    paths = (path, "/" + path.lstrip("/").partition("/")[2])
    for rule in who.access_rules:
        if rule.service == service and rule.method == method and any(pattern(rule.path).fullmatch(one) for one in paths):
            return
    raise errors.Unauthorized(f"The access rules of this application credential do not allow {method} {path}.")
