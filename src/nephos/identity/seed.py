"""What a new cloud starts with: the same as every OpenStack installer makes, so that scripts find it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from sqlalchemy import Table, and_, select, update

from nephos.identity import part
from nephos.identity.assignments.store import ALL, PROJECT, SYSTEM, USER, assignment
from nephos.identity.catalog.store import endpoint, region, service
from nephos.identity.keys import rotation
from nephos.identity.limits import models
from nephos.identity.projects.store import NO_DOMAIN, project
from nephos.identity.roles.store import GLOBAL, implied, role
from nephos.identity.users.store import user
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

log = logging.getLogger(__name__)

DOMAIN = "default"
PROJECTS = {"admin": "Administration", "demo": "Demonstration", "service": "Service accounts"}
ROLES = ("admin", "manager", "member", "reader")
"""Each implies the next."""
SERVICES = (
    ("identity", "keystone", "/v3"),
    ("compute", "nova", "/compute/v2.1"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("placement", "placement", "/placement"),
)
INTERFACES = ("public", "internal", "admin")
USERS = ("admin", "demo")


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Idempotent. A user without a password gets the one given; one that has a password keeps it."""
    identity = part.of(cloud)
    rotation.start(cloud)
    with cloud.database.read() as tx:
        models.check_depth(tx, cloud.settings)
        complete = _complete(tx)
        with_password = set(
            tx.column(select(user.c.name).where(user.c.domain_id == DOMAIN, user.c.password_hash.is_not(None)))
        )
    hashes = {
        name: identity.passwords.hash(passwords[name])
        for name in USERS
        if name in passwords and name not in with_password
    }
    if complete and not hashes:
        return
    part.change(cloud, lambda tx: _Seed(tx, cloud.settings.region, hashes).run())


def _complete(tx: Tx) -> bool:
    types = set(tx.column(select(service.c.type)))
    users = set(tx.column(select(user.c.name).where(user.c.domain_id == DOMAIN)))
    return types >= {kind for kind, _, _ in SERVICES} and users >= set(USERS)


class _Seed:
    """Adds what is missing, by its name."""

    def __init__(self, tx: Tx, region_id: str, hashes: Mapping[str, str]) -> None:
        self.tx, self.region_id, self.hashes = tx, region_id, hashes

    def run(self) -> None:
        self._row(project, {"id": DOMAIN}, domain_id=NO_DOMAIN, name="Default", is_domain=True,
                  description="The default domain")  # fmt: skip
        projects = {
            name: self._row(project, {"domain_id": DOMAIN, "name": name}, parent_id=DOMAIN, description=words)
            for name, words in PROJECTS.items()
        }
        roles = {name: self._row(role, {"domain_id": GLOBAL, "name": name}) for name in (*ROLES, "service")}
        for prior, next_one in pairwise(ROLES):
            self._pair(implied, prior_id=roles[prior], implied_id=roles[next_one])
        for name in USERS:
            self._user(name, projects, roles)
        self._row(region, {"id": self.region_id})
        for kind, name, path in SERVICES:
            service_id = self._row(service, {"type": kind}, name=name)
            for interface in INTERFACES:
                self._row(
                    endpoint,
                    {"service_id": service_id, "interface": interface, "region_id": self.region_id},
                    url=f"$(url)s{path}",
                )

    def _user(self, name: str, projects: Mapping[str, str], roles: Mapping[str, str]) -> None:
        user_id = self._row(user, {"domain_id": DOMAIN, "name": name})
        if name in self.hashes:
            self.tx.execute(
                update(user)
                .where(user.c.id == user_id, user.c.password_hash.is_(None))
                .values(password_hash=self.hashes[name], password_changed_at=self.tx.now)
            )
        elif self.tx.scalar(select(user.c.password_hash).where(user.c.id == user_id)) is None:
            log.warning("user %s has no password yet: nobody can log in as it", name)
        granted = [(PROJECT, projects["admin"], "admin"), (SYSTEM, ALL, "admin")]
        for target, target_id, held in granted if name == "admin" else [(PROJECT, projects[name], "member")]:
            self._pair(assignment, actor=USER, actor_id=user_id, target=target, target_id=target_id,
                       role_id=roles[held], inherited=False)  # fmt: skip

    def _row(self, table: Table, by: dict[str, Any], **values: Any) -> str:
        """The id of the row that is known `by` these columns; made when there is none."""
        found: str | None = self.tx.scalar(select(table.c.id).where(and_(*[table.c[k] == v for k, v in by.items()])))
        if found is not None:
            return found
        new = {"id": clock.hex_id(), "created_at": self.tx.now, **values, **by}
        self.tx.insert(table, new)
        return str(new["id"])

    def _pair(self, table: Table, **values: Any) -> None:
        if self.tx.first(select(table).where(and_(*[table.c[k] == v for k, v in values.items()]))) is None:
            self.tx.insert(table, values)
