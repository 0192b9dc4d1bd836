"""The route table: every URL with its verb, its handler and its permission in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nephos.kernel.http import faults
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.versions import Microversions, Version

Handler = Callable[[Call], Reply]


class Route(NamedTuple):
    """One thing a client can ask.

    `path` is below the service's prefix, parameters in braces. `permission` is the policy rule; None makes the route
    public. `target` says whom the rule is checked against before the handler runs: "own" the caller's project, or
    "later": the handler calls `call.permit(target)` itself (and a request in which it forgot to is an error).
    `action` is the one key of the body that selects the handler on an action URL. `since`/`until` bound microversions.
    """

    method: str
    path: str
    handler: Handler
    permission: str | None
    status: int = 200
    target: str = "own"
    action: str | None = None
    since: Version | None = None
    until: Version | None = None
    streams: bool = False


class Service(NamedTuple):
    """One API: where it lives, how it versions and how it words faults.

    `prefixes` are its URL prefixes, the first one is the catalogue's. Where `dashes_alike`, names of collections are
    taken with dashes and with underscores, as Neutron takes them: its clients use both.
    """

    name: str
    prefixes: tuple[str, ...]
    routes: Sequence[Route]
    dialect: faults.Dialect
    microversions: Microversions | None = None
    dashes_alike: bool = False

    def spellings(self, path: str) -> frozenset[str]:
        """The ways to write a route's path."""
        if not self.dashes_alike:
            return frozenset({path})
        version, _, rest = path[1:].partition("/")
        noun, slash, inner = rest.partition("/")
        nouns = {noun, noun.replace("_", "-"), noun.replace("-", "_")}
        return frozenset({path, *(f"/{version}/{each}{slash}{inner}" for each in nouns if each)})

    def below(self, path: str) -> str | None:
        """The rest of a path below the prefix that it came by; None when it is not this service's."""
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            if path == prefix or path.startswith(prefix + "/"):
                return path[len(prefix) :]
        return None

    def canonical(self, path: str) -> str:
        """A path of this service as the catalogue writes it, whichever of the prefixes it came by."""
        return self.prefixes[0] + (self.below(path) or "").rstrip("/")
