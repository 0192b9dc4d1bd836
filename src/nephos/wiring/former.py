"""What the release before says otherwise, and hears: servers and agents of two releases meet while a cloud is upgraded,
and an agent begins with what the release before kept on disk (docs/decisions/0014-two-releases.md)."""

from __future__ import annotations

import msgspec

from nephos.wiring.base import Router, RouterGateway


class ToldRouter(Router, frozen=True):
    """A router on the wire and on a host's disk. The release before knows one gateway, as `gateway`."""

    former: RouterGateway | None = msgspec.field(default=None, name="gateway")

    def understood(self) -> Router:
        """The router as this release has it."""
        found = {name: getattr(self, name) for name in Router.__struct_fields__}
        if self.former is not None and not self.gateways:
            found["gateways"] = (self.former,)
        return Router(**found)


def told(router: Router) -> ToldRouter:
    """For both releases. An edge is no router to one that knows no edges: that one gets it without a way out."""
    found = {name: getattr(router, name) for name in Router.__struct_fields__}
    return ToldRouter(**found, former=None if router.edge else router.gateway)
