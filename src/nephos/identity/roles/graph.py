"""All roles and what they imply, in memory: a cloud has tens of them, and every token needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import select

from nephos.identity.roles.store import GLOBAL, implied, role
from nephos.kernel.db.engine import Tx


class Role(NamedTuple):
    id: str
    name: str
    domain_id: str


_ROLES = select(role.c.id, role.c.name, role.c.domain_id)
_IMPLIED = select(implied.c.prior_id, implied.c.implied_id)


class Graph:
    """`roles` by id; `closure` of a role id are the ids that it implies at any distance, itself included."""

    def __init__(self, roles: Iterable[Role], implied_pairs: Iterable[tuple[str, str]]) -> None:
        self.roles = {one.id: one for one in roles}
        self.direct: dict[str, list[str]] = {}
        for prior, other in implied_pairs:
            self.direct.setdefault(prior, []).append(other)
        self.closure = {one: self._reach(one) for one in self.roles}

    def _reach(self, start: str) -> frozenset[str]:
        seen, waiting = {start}, [start]
        while waiting:
            for other in self.direct.get(waiting.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return frozenset(seen)

    def expand(self, role_ids: Iterable[str]) -> list[Role]:
        """What a token carries for these assignments: all that they imply, without roles of a domain, by name.

        A domain's own role counts through what it implies (Keystone API, "domain-specific roles").
        """
        ids: set[str] = set()
        for one in role_ids:
            ids |= self.closure.get(one, frozenset())
        return sorted((self.roles[one] for one in ids if self.roles[one].domain_id == GLOBAL), key=lambda one: one.name)


def load(tx: Tx) -> Graph:
    return Graph(
        [Role(row.id, row.name, row.domain_id) for row in tx.all(_ROLES)],
        [(row.prior_id, row.implied_id) for row in tx.all(_IMPLIED)],
    )
