"""Logging in: from what a client proves to a token. Source: Keystone API v3.14, "Authentication and token management"."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Row, bindparam, delete, select

from nephos import errors
from nephos.identity.assignments import effective
from nephos.identity.projects.store import NO_DOMAIN, project
from nephos.identity.tokens.store import revocation
from nephos.identity.tokens.wire import DomainRef, ProjectRef, Scope, UserRef
from nephos.identity.trusts import actions as trusts
from nephos.identity.users.store import user
from nephos.kernel.auth.token import Token
from nephos.kernel.db.engine import Tx

REFUSED = "The request you have made requires authentication."


class Candidate(NamedTuple):
    """The user that a client claims to be; `hash` None when there is none such or it has no password. `row` is all that
    the checks of a password need."""

    id: str | None
    hash: str | None
    enabled: bool = True
    default_project_id: str | None = None
    row: Row[Any] | None = None


class Target(NamedTuple):
    """A scope by ids. All None: unscoped. `expires` is when a trust ends."""

    project_id: str | None = None
    domain_id: str | None = None
    system: str | None = None
    trust_id: str | None = None
    expires: int | None = None


UNSCOPED = Target()
_home = project.alias("home")
_USER = select(user, _home.c.enabled.label("domain_enabled")).join(_home, _home.c.id == user.c.domain_id)
_USER_BY_ID = _USER.where(user.c.id == bindparam("id"))
_USER_BY_NAME = _USER.where(user.c.name == bindparam("name"), user.c.domain_id == bindparam("domain_id"))
_DOMAIN = select(project.c.id, project.c.enabled).where(project.c.is_domain.is_(True))
_DOMAIN_BY_ID = _DOMAIN.where(project.c.id == bindparam("id"))
_DOMAIN_BY_NAME = _DOMAIN.where(project.c.name == bindparam("name"), project.c.domain_id == NO_DOMAIN)
_PROJECT = select(project.c.id, project.c.enabled, project.c.parent_id, project.c.domain_id, project.c.is_domain)
_PROJECT_BY_ID = _PROJECT.where(project.c.id == bindparam("id"))
_PROJECT_BY_NAME = _PROJECT.where(project.c.name == bindparam("name"), project.c.domain_id == bindparam("domain_id"))


def candidate(tx: Tx, ref: UserRef) -> Candidate:
    """Find who logs in. An unknown user is a candidate without a hash, so that both take the same time.

    Raises BadRequest when neither an id nor a name with a domain is given.
    """
    row: Row[Any] | None = None
    if ref.id is not None:
        row = tx.first(_USER_BY_ID, {"id": ref.id})
    elif ref.name is not None:
        domain = ref.domain
        if domain is None or (domain.id is None and domain.name is None):
            raise errors.BadRequest(
                "Expecting to find id or name of the domain in user.domain: a user's name is "
                "unique only within its domain."
            )
        domain_id = _domain_id(tx, domain)
        row = tx.first(_USER_BY_NAME, {"name": ref.name, "domain_id": domain_id}) if domain_id is not None else None
    else:
        raise errors.BadRequest("Invalid input for field identity/password/user: id or name must be present.")
    if row is None:
        return Candidate(None, None)
    return Candidate(row.id, row.password_hash, row.enabled and row.domain_enabled, row.default_project_id, row)


def by_id(tx: Tx, user_id: str) -> Candidate:
    return candidate(tx, UserRef(id=user_id))


def target(tx: Tx, scope: Scope | str | None, who: Candidate) -> Target:
    """The scope that is asked for, or the default project's, or none.

    Raises Unauthorized for one that does not exist, BadRequest for one that says nothing or two things.
    """
    if isinstance(scope, str):
        if scope != "unscoped":
            raise errors.BadRequest(f"Invalid input for field scope: {scope!r} is no scope.")
        return UNSCOPED
    if scope is None:
        return _default(tx, who)
    given = [name for name in ("project", "domain", "system", "unscoped", "trust") if getattr(scope, name) is not None]
    if len(given) > 1:
        raise errors.BadRequest(f"A token has one scope, not {' and '.join(given)}.")
    if scope.project is not None:
        return Target(project_id=_project_id(tx, scope.project))
    if scope.domain is not None:
        if scope.domain.id is None and scope.domain.name is None:
            raise errors.BadRequest("Invalid input for field scope/domain: id or name must be present.")
        domain_id = _domain_id(tx, scope.domain)
        if domain_id is None:
            raise errors.Unauthorized(f"Could not find domain: {scope.domain.id or scope.domain.name}.")
        return Target(domain_id=domain_id)
    if scope.system is not None:
        if scope.system.all is not True:
            raise errors.BadRequest("Invalid input for field scope/system: it must be {'all': true}.")
        return Target(system="all")
    if scope.trust is not None:
        row = trusts.get(tx, scope.trust.id)
        if row is None:
            raise errors.Unauthorized(f"Could not find trust: {scope.trust.id}.")
        if row.trustee_user_id != who.id:
            raise errors.Forbidden("User is not a trustee.")
        return Target(project_id=row.project_id, trust_id=row.id, expires=row.expires_at)
    return UNSCOPED


def _default(tx: Tx, who: Candidate) -> Target:
    """The user's default project, if it exists, is enabled and the user has a role there."""
    if who.default_project_id is None or who.id is None:
        return UNSCOPED
    row = tx.first(_PROJECT_BY_ID, {"id": who.default_project_id})
    if row is None or not row.enabled:
        return UNSCOPED
    home = tx.first(_DOMAIN_BY_ID, {"id": row.domain_id})
    if not row.is_domain and (home is None or not home.enabled):
        return UNSCOPED
    held = effective.on_project(tx, who.id, row.id, row.parent_id, row.domain_id)
    return Target(project_id=row.id) if held else UNSCOPED


def _domain_id(tx: Tx, ref: DomainRef) -> str | None:
    if ref.id is not None:
        row = tx.first(_DOMAIN_BY_ID, {"id": ref.id})
    else:
        row = tx.first(_DOMAIN_BY_NAME, {"name": ref.name})
    return row.id if row is not None else None


def _project_id(tx: Tx, ref: ProjectRef) -> str:
    if ref.id is not None:
        row = tx.first(_PROJECT_BY_ID, {"id": ref.id})
    elif ref.name is None:
        raise errors.BadRequest("Invalid input for field scope/project: id or name must be present.")
    elif ref.domain is None or (ref.domain.id is None and ref.domain.name is None):
        raise errors.BadRequest(
            "Expecting to find id or name of the domain in scope.project.domain: a project's name "
            "is unique only within its domain."
        )
    else:
        row = tx.first(_PROJECT_BY_NAME, {"name": ref.name, "domain_id": _domain_id(tx, ref.domain)})
    if row is None:
        raise errors.Unauthorized(f"Could not find project: {ref.id or ref.name}.")
    return row.id  # type: ignore[no-any-return]


def domain_ref(tx: Tx, name_or_id: str) -> DomainRef:
    """A domain as people write it."""
    by_name = _domain_id(tx, DomainRef(name=name_or_id))
    return DomainRef(id=name_or_id) if by_name is None else DomainRef(id=by_name)


def project_ref(tx: Tx, name_or_id: str, domain: str) -> ProjectRef:
    """A project as people write it, with its domain for a name."""
    if tx.first(_PROJECT_BY_ID, {"id": name_or_id}) is not None:
        return ProjectRef(id=name_or_id)
    return ProjectRef(name=name_or_id, domain=domain_ref(tx, domain))


def revoke(tx: Tx, token: Token, *, chain: bool) -> None:
    """From now on the token counts no more; with `chain` neither do those that were got with it."""
    tx.execute(delete(revocation).where(revocation.c.audit_id == token.audit_ids[0]))
    tx.execute(delete(revocation).where(revocation.c.expires_at < tx.now))
    tx.insert(
        revocation,
        {"audit_id": token.audit_ids[0], "chain": chain, "revoked_at": tx.now, "expires_at": token.expires},
    )
