"""What handlers, actions and steps find everything by. `nephos.app` fills it; nothing else makes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from nephos.kernel.auth.who import Who
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.doorbell.base import Doorbell
from nephos.kernel.http.limits import Limits
from nephos.kernel.http.metrics import Metrics
from nephos.kernel.operations.engine import Operations
from nephos.kernel.policy import Policies
from nephos.kernel.sweeper import Sweep

if TYPE_CHECKING:
    from nephos.hosts.actions import Hosts
    from nephos.kernel.http.routes import Service
    from nephos.settings import Settings

Verify = Callable[[str, str | None], Who]


class Finding(msgspec.Struct, frozen=True):
    """Something that audit found: what kind of thing, which one, and what is wrong with it."""

    kind: str
    name: str
    why: str


Check = Callable[[Tx], Iterable[Finding]]


def _nobody(token: str, service_token: str | None) -> Who:
    raise NotImplementedError("identity is not composed")


@dataclass
class Cloud:
    """The engines of one server, and the services that it serves. `verify` turns a token into credentials.

    `parts` holds what a service keeps in memory (caches keyed by revision), by the service's name; `audits` are the
    services' checks of the ledger, `sweeps` take away what it kept long enough.
    """

    settings: Settings
    database: Database
    doorbell: Doorbell
    operations: Operations
    hosts: Hosts
    metrics: Metrics
    policies: Policies
    limits: Limits
    verify: Verify = _nobody
    services: Sequence[Service] = ()
    parts: dict[str, Any] = field(default_factory=dict)
    audits: list[Check] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)

    def allows(self, rule: str, who: Who, target: Mapping[str, Any]) -> bool:
        """Whether the policy says yes; operators' changes of its files are seen within a second."""
        self.policies.refresh()
        return self.policies.allows(rule, who, target)

    @property
    def max_body(self) -> int:
        return self.settings.api.max_body

    @property
    def trusted_proxies(self) -> Sequence[str]:
        return self.settings.api.trusted_proxies

    @property
    def cors_origins(self) -> Sequence[str]:
        return self.settings.api.cors_origins

    @property
    def identity_url(self) -> str:
        return self.settings.url + "/v3"
