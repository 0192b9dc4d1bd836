"""What a token means now: its user, its scope and the roles there, read from the ledger."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, bindparam, or_, select

from nephos import errors
from nephos.identity.application_credentials import actions as applications
from nephos.identity.application_credentials.wire import short_rule
from nephos.identity.assignments import effective
from nephos.identity.projects.store import project
from nephos.identity.roles.graph import Graph, Role
from nephos.identity.tokens.store import revocation
from nephos.identity.trusts import actions as trusts
from nephos.identity.users.store import user
from nephos.kernel.auth.token import Token
from nephos.kernel.auth.who import AccessRule, Who
from nephos.kernel.db.engine import Tx
from nephos.kernel.policy import role_set


class Named(NamedTuple):
    id: str
    name: str


class Person(NamedTuple):
    """A user with its domain. `password_expires_at` is microseconds, None for never."""

    id: str
    name: str
    domain: Named
    password_expires_at: int | None


class Place(NamedTuple):
    """A project with its domain."""

    id: str
    name: str
    domain: Named
    is_domain: bool


class Application(NamedTuple):
    """The application credential that a token was got with. `rules` None: no access rules."""

    id: str
    name: str
    unrestricted: bool
    rules: tuple[AccessRule, ...] | None
    shown_rules: tuple[dict[str, Any], ...]


class Delegation(NamedTuple):
    """The trust that a token was got by."""

    id: str
    impersonation: bool
    trustor_id: str
    trustee_id: str


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A valid token, understood. At most one of `project`, `domain` and `system` is set."""

    token: Token
    person: Person
    project: Place | None = None
    domain: Named | None = None
    system: bool = False
    roles: tuple[Role, ...] = ()
    application: Application | None = None
    trust: Delegation | None = None

    def who(self) -> Who:
        place = self.project
        roles = role_set(role.name for role in self.roles)
        return Who(
            user_id=self.person.id,
            user_name=self.person.name,
            user_domain_id=self.person.domain.id,
            user_domain_name=self.person.domain.name,
            project_id=place.id if place else None,
            project_name=place.name if place else None,
            project_domain_id=place.domain.id if place else None,
            project_domain_name=place.domain.name if place else None,
            domain_id=self.domain.id if self.domain else None,
            domain_name=self.domain.name if self.domain else None,
            system_scope="all" if self.system else None,
            is_domain=place.is_domain if place else False,
            roles=roles,
            is_admin="admin" in roles,
            methods=self.token.methods,
            audit_ids=self.token.audit_ids,
            issued=self.token.issued,
            expires=self.token.expires,
            trust_id=self.trust.id if self.trust else None,
            application_credential_id=self.application.id if self.application else None,
            restricted=self.application is not None and not self.application.unrestricted,
            access_rules=self.application.rules if self.application else None,
        )


_home = project.alias("home")
_USER = (
    select(
        user.c.id,
        user.c.name,
        user.c.enabled,
        user.c.revoked_before,
        user.c.password_expires_at,
        _home.c.id.label("domain_id"),
        _home.c.name.label("domain_name"),
        _home.c.enabled.label("domain_enabled"),
        _home.c.revoked_before.label("domain_revoked_before"),
    )
    .join(_home, _home.c.id == user.c.domain_id)
    .where(user.c.id == bindparam("id"))
)
_PROJECT = select(
    project.c.id,
    project.c.name,
    project.c.domain_id,
    project.c.parent_id,
    project.c.is_domain,
    project.c.enabled,
    project.c.revoked_before,
).where(project.c.id == bindparam("id"))
_REVOKED = select(revocation.c.audit_id).where(
    or_(
        revocation.c.audit_id == bindparam("own"),
        (revocation.c.audit_id == bindparam("first")) & revocation.c.chain.is_(True),
    )
)


def resolve(tx: Tx, graph: Graph, token: Token) -> Subject:
    """Raises Unauthorized when the token was revoked or its user or scope does not count any more."""
    person = _person(tx, token, token.user_id)
    if tx.first(_REVOKED, {"own": token.audit_ids[0], "first": token.audit_ids[-1]}) is not None:
        raise errors.Unauthorized("The token was revoked.")
    if token.trust_id is not None:
        return _by_trust(tx, graph, token, person)
    if token.project_id is not None:
        return _on_project(tx, graph, token, person)
    if token.application_credential_id is not None:
        raise errors.Unauthorized("A token of an application credential is for its project only.")
    if token.domain_id is not None:
        row = tx.first(_PROJECT, {"id": token.domain_id})
        if row is None or not row.is_domain:
            raise errors.Unauthorized(f"Domain {token.domain_id} does not exist.")
        _usable(row, token, "domain")
        roles = graph.expand(effective.on_domain(tx, person.id, row.id))
        scoped = Subject(token=token, person=person, domain=Named(row.id, row.name), roles=tuple(roles))
        return _with_roles(scoped, f"domain {row.name}")
    if token.system is not None:
        roles = graph.expand(effective.on_system(tx, person.id))
        return _with_roles(Subject(token=token, person=person, system=True, roles=tuple(roles)), "the system")
    return Subject(token=token, person=person)


def person(tx: Tx, user_id: str) -> Person:
    """Raises Unauthorized for a user that does not exist."""
    row = tx.first(_USER, {"id": user_id})
    if row is None:
        raise errors.Unauthorized("The user does not exist.")
    return Person(row.id, row.name, Named(row.domain_id, row.domain_name), row.password_expires_at)


def _person(tx: Tx, token: Token, user_id: str) -> Person:
    row = tx.first(_USER, {"id": user_id})
    if row is None:
        raise errors.Unauthorized("The user of this token does not exist.")
    if not row.enabled or not row.domain_enabled:
        raise errors.Unauthorized(f"{'User' if not row.enabled else 'The domain of user'} {row.name} is disabled.")
    for moment in (row.revoked_before, row.domain_revoked_before):
        if moment is not None and token.issued <= moment:
            raise errors.Unauthorized("The token was revoked.")
    return Person(row.id, row.name, Named(row.domain_id, row.domain_name), row.password_expires_at)


def _by_trust(tx: Tx, graph: Graph, token: Token, trustee: Person) -> Subject:
    """The roles of the trust that the first trustor still has; as the trustor, where the trust says so."""
    row = trusts.standing(tx, token.trust_id or "")
    if row is None or row.trustee_user_id != token.user_id or row.project_id != token.project_id:
        raise errors.Unauthorized("The trust of this token does not hold any more.")
    first = trusts.chain(tx, row)[-1]
    trustor = _person(tx, token, row.trustor_user_id)
    delegation = Delegation(row.id, row.impersonation, trustor.id, trustee.id)
    person = trustor if row.impersonation else trustee
    if token.project_id is None:
        return Subject(token=token, person=person, trust=delegation)
    owner = trustor if first.trustor_user_id == trustor.id else _person(tx, token, first.trustor_user_id)
    scoped = _on_project(tx, graph, token, owner)
    carried = set(trusts.role_ids(tx, row.id))
    roles = tuple(role for role in scoped.roles if role.id in carried)
    scoped = msgspec.structs.replace(scoped, person=person, roles=roles, trust=delegation)
    return _with_roles(scoped, "the project of this trust")


def _on_project(tx: Tx, graph: Graph, token: Token, person: Person) -> Subject:
    row = tx.first(_PROJECT, {"id": token.project_id})
    if row is None:
        raise errors.Unauthorized(f"Project {token.project_id} does not exist.")
    _usable(row, token, "project")
    domain_id = row.id if row.is_domain else row.domain_id
    home = row if row.is_domain else tx.first(_PROJECT, {"id": domain_id})
    if home is None:
        raise errors.Unauthorized(f"The domain of project {row.name} does not exist.")
    _usable(home, token, "domain")
    roles = graph.expand(effective.on_project(tx, person.id, row.id, row.parent_id, domain_id))
    application = None
    if token.application_credential_id is not None:
        application, carried = _application(tx, token, row.id)
        roles = [role for role in roles if role.id in carried]
    scoped = Subject(
        token=token,
        person=person,
        project=Place(row.id, row.name, Named(home.id, home.name), row.is_domain),
        roles=tuple(roles),
        application=application,
    )
    return _with_roles(scoped, f"project {row.name}")


def _application(tx: Tx, token: Token, project_id: str) -> tuple[Application, set[str]]:
    """The credential, and the ids of the roles that it carries."""
    row = applications.get(tx, token.application_credential_id or "")
    if row is None or row.user_id != token.user_id or row.project_id != project_id:
        raise errors.Unauthorized("The application credential of this token does not exist.")
    if row.expires_at is not None and row.expires_at <= tx.now:
        raise errors.Unauthorized("The application credential of this token has expired.")
    rules = shown = None
    if row.access_rule_ids is not None:
        known = applications.rules_of(tx, row.access_rule_ids)
        kept = [known[one] for one in row.access_rule_ids if one in known]
        rules = tuple(AccessRule(one.service, one.method, one.path) for one in kept)
        shown = tuple(short_rule(one) for one in kept)
    carried = set(applications.role_ids_of(tx, [row.id]).get(row.id, ()))
    return Application(row.id, row.name, row.unrestricted, rules, shown or ()), carried


def _usable(row: Row[Any], token: Token, kind: str) -> None:
    if not row.enabled:
        raise errors.Unauthorized(f"The {kind} {row.name} is disabled.")
    if row.revoked_before is not None and token.issued <= row.revoked_before:
        raise errors.Unauthorized("The token was revoked.")


def _with_roles(subject: Subject, place: str) -> Subject:
    if not subject.roles:
        raise errors.Unauthorized(f"User {subject.person.name} has no access to {place}.")
    return subject
