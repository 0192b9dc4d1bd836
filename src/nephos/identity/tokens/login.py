"""Checks what a client proves, method by method, and makes the token. Hashing happens between units of work."""

from __future__ import annotations

from typing import NamedTuple

from nephos import errors
from nephos.identity import notifications
from nephos.identity.application_credentials import actions as applications
from nephos.identity.credentials import actions as credentials
from nephos.identity.part import Identity
from nephos.identity.tokens import actions, factors
from nephos.identity.tokens.subject import Subject, resolve
from nephos.identity.tokens.wire import Auth, IdentityPart, Scope, SystemRef, UserRef
from nephos.identity.trusts import actions as trusts
from nephos.identity.users import actions as users
from nephos.identity.users import compliance
from nephos.kernel import clock
from nephos.kernel.auth.token import Token, new_audit_id
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

MICRO = 1_000_000


class Proof(NamedTuple):
    """One method that succeeded. A token proves its own methods, chain and end with it; an application credential binds
    to its project."""

    who: actions.Candidate
    methods: tuple[str, ...]
    expires: int | None = None
    chain: str | None = None
    application_credential_id: str | None = None
    project_id: str | None = None


def log_in(cloud: Cloud, identity: Identity, auth: Auth, receipt: str | None = None) -> tuple[str, Subject]:
    """A token as text and as what it says. `receipt` is of an earlier log-in that was not complete.

    Raises Unauthorized, BadRequest, and More when the user's rules ask for more proofs.
    """
    # taken first: a password that changes while it is being checked ends the token that it gets
    now = clock.now_us()
    proofs = _prove(cloud, identity, auth)
    who = proofs[0].who
    if who.id is None or any(proof.who.id != who.id for proof in proofs):
        raise errors.Unauthorized(actions.REFUSED)
    methods = _enough(identity, who, proofs, receipt)
    chains = [proof.chain for proof in proofs if proof.chain is not None]
    ends = [proof.expires for proof in proofs if proof.expires is not None]
    bound = next((proof for proof in proofs if proof.application_credential_id is not None), None)
    with cloud.database.read() as tx:
        target = actions.target(tx, auth.scope, who)
        if bound is not None:
            target = _bind(auth, target, bound)
        if target.expires is not None:
            ends.append(target.expires)
        token = Token(
            user_id=who.id,
            methods=methods,
            issued=now,
            expires=min([*ends, now + cloud.settings.tokens.lifetime * MICRO]),
            audit_ids=(new_audit_id(), *chains[:1]),
            project_id=target.project_id,
            domain_id=target.domain_id,
            system=target.system,
            trust_id=target.trust_id,
            application_credential_id=bound.application_credential_id if bound is not None else None,
        )
        subject = resolve(tx, identity.graph(tx), token)
    if target.trust_id is not None:
        trust_id = target.trust_id
        cloud.database.write(lambda tx: trusts.use(tx, trust_id))
    return identity.tokens.encode(token), subject


def without_proof(
    cloud: Cloud,
    identity: Identity,
    user: tuple[str, str],
    *,
    project: tuple[str, str] | None = None,
    domain: str | None = None,
    system: bool = False,
) -> Who:
    """What a token of this user would be worth, were it to log in: for an operator who asks what it may do.

    User and project come with their domain, each by its id or its name. Raises NotFound for a user that does not exist,
    Unauthorized for a scope that it does not get.
    """
    with cloud.database.read() as tx:
        who = actions.by_id(tx, user[0])
        if who.id is None:
            who = actions.candidate(tx, UserRef(name=user[0], domain=actions.domain_ref(tx, user[1])))
        if who.id is None:
            raise errors.NotFound(f"Could not find user: {user[0]}.")
        scope = Scope(
            project=None if project is None else actions.project_ref(tx, *project),
            domain=None if domain is None else actions.domain_ref(tx, domain),
            system=SystemRef(all=True) if system else None,
        )
        target = actions.target(tx, scope, who) if project or domain or system else actions.UNSCOPED
        now = clock.now_us()
        token = Token(
            user_id=who.id,
            methods=("password",),
            issued=now,
            expires=now + MICRO,
            audit_ids=(new_audit_id(),),
            project_id=target.project_id,
            domain_id=target.domain_id,
            system=target.system,
        )
        return resolve(tx, identity.graph(tx), token).who()


def _enough(identity: Identity, who: actions.Candidate, proofs: list[Proof], receipt: str | None) -> tuple[str, ...]:
    """All methods that succeeded, those of the receipt included. Raises More, Unauthorized for another's receipt."""
    assert who.id is not None and who.row is not None
    methods = tuple(dict.fromkeys(method for proof in proofs for method in proof.methods))
    if receipt is not None:
        earlier = identity.receipts.open(receipt)
        if earlier.user_id != who.id:
            raise errors.Unauthorized("The auth receipt is of another user.")
        methods = tuple(dict.fromkeys((*earlier.methods, *methods)))
    required = factors.missing(who.row.options, methods)
    if required:
        raise factors.More(identity.receipts.new(who.id, methods), required)
    return methods


def _prove(cloud: Cloud, identity: Identity, auth: Auth) -> list[Proof]:
    asked = auth.identity
    if not asked.methods:
        raise errors.BadRequest("Invalid input for field identity/methods: there is none.")
    proofs = []
    for method in dict.fromkeys(asked.methods):
        if method == "password":
            proofs.append(_password(cloud, identity, asked))
        elif method == "token":
            proofs.append(_token(cloud, identity, auth))
        elif method == "totp":
            proofs.append(_totp(cloud, identity, asked))
        elif method == "application_credential":
            proofs.append(_application_credential(cloud, identity, asked))
        else:
            raise errors.Unauthorized(f"Attempted to authenticate with an unsupported method: {method}.")
    return proofs


def _password(cloud: Cloud, identity: Identity, asked: IdentityPart) -> Proof:
    if asked.password is None or asked.password.user.password is None:
        raise errors.BadRequest("Expecting to find identity.password.user.password in the request.")
    user = asked.password.user
    password = asked.password.user.password
    with cloud.database.read() as tx:
        who = actions.candidate(tx, user)
    check_password(cloud, identity, who, password)
    assert who.id is not None and who.row is not None
    expires = who.row.password_expires_at
    if expires is not None and expires <= clock.now_us():
        raise errors.Unauthorized(f"The password is expired and needs to be changed for user: {who.id}.")
    if who.hash is not None and identity.passwords.outdated(who.hash):
        old, new, user_id = who.hash, identity.passwords.hash(password), who.id
        cloud.database.write(lambda tx: users.renew(tx, user_id, old, new))
    return Proof(who, ("password",))


def check_password(cloud: Cloud, identity: Identity, who: actions.Candidate, password: str) -> None:
    """Raises Unauthorized, always after the time that a hash takes. Counts wrong ones where the settings say so."""
    try:
        _check_password(cloud, identity, who, password)
    except errors.Unauthorized:
        rules, row = cloud.settings.security, who.row
        locked = row is not None and compliance.locked_out(rules, row)
        why = f"The account is locked for user: {who.id}" if locked else None
        notifications.authenticated(cloud, who.id, notifications.FAILURE, why)
        raise
    notifications.authenticated(cloud, who.id, notifications.SUCCESS)


def _check_password(cloud: Cloud, identity: Identity, who: actions.Candidate, password: str) -> None:
    rules, row = cloud.settings.security, who.row
    right = identity.passwords.verify(password, who.hash)
    if row is None or not who.enabled or compliance.locked_out(rules, row) or compliance.inactive(rules, row):
        raise errors.Unauthorized(actions.REFUSED)
    if not right:
        if rules.lockout_attempts:
            cloud.database.write(lambda tx: compliance.failed(tx, rules, row.id))
        raise errors.Unauthorized(actions.REFUSED)
    if rules.lockout_attempts or rules.inactive_days:

        def work(tx: Tx) -> bool:
            # asked again, because others may have guessed at the same time
            locked = compliance.locked_out(rules, users.find(tx, row.id))
            if not locked:
                compliance.succeeded(tx, row.id)
            return locked

        if cloud.database.write(work):
            raise errors.Unauthorized(actions.REFUSED)


def _token(cloud: Cloud, identity: Identity, auth: Auth) -> Proof:
    """Raises Forbidden for what is not exchanged: a token that was got by delegation, and one for the system where one
    for a project or domain is asked for."""
    given, scope = auth.identity.token, auth.scope
    if given is None:
        raise errors.BadRequest("Expecting to find identity.token.id in the request.")
    try:
        subject = identity.subject(given.id)
    except errors.Unauthorized as wrong:
        # clients tell a token that is no more from a refused log-in by this, as Keystone has it
        raise errors.NotFound(f"Could not find token: {wrong.message}") from wrong
    if subject.trust is not None:
        raise errors.Forbidden("A token that was got by a trust is not exchanged for another: use the trust again.")
    if subject.system and isinstance(scope, Scope) and (scope.project is not None or scope.domain is not None):
        raise errors.Forbidden(
            "Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed."
        )
    if subject.who().delegated:
        raise errors.Forbidden("Using a delegated token to create another token is not allowed.")
    with cloud.database.read() as tx:
        who = actions.by_id(tx, subject.person.id)
    token = subject.token
    return Proof(who, (*token.methods, "token"), token.expires, token.audit_ids[-1])


def _totp(cloud: Cloud, identity: Identity, asked: IdentityPart) -> Proof:
    if asked.totp is None or asked.totp.user.passcode is None:
        raise errors.BadRequest("Expecting to find identity.totp.user.passcode in the request.")
    rules = cloud.settings.security
    with cloud.database.read() as tx:
        who = actions.candidate(tx, asked.totp.user)
        kept = credentials.of_user(tx, who.id, "totp") if who.id is not None else []
    code = asked.totp.user.passcode
    right = [(one.id, step) for one in kept for step in factors.periods(identity.vault.open(one.sealed), code)]
    if who.id is None or who.row is None or not who.enabled or compliance.locked_out(rules, who.row):
        raise errors.Unauthorized(actions.REFUSED)

    def spend(tx: Tx) -> bool:
        return any(credentials.spend(tx, key, period) for key, period in right)

    if not right or not cloud.database.write(spend):
        if rules.lockout_attempts:
            user_id = who.id
            cloud.database.write(lambda tx: compliance.failed(tx, rules, user_id))
        raise errors.Unauthorized(actions.REFUSED)
    return Proof(who, ("totp",))


def _application_credential(cloud: Cloud, identity: Identity, asked: IdentityPart) -> Proof:
    given = asked.application_credential
    if given is None:
        raise errors.BadRequest("Expecting to find identity.application_credential in the request.")
    if given.id is None and (given.name is None or given.user is None):
        raise errors.BadRequest("An application credential is named by its id, or by its name and its user.")
    with cloud.database.read() as tx:
        if given.id is not None:
            row = applications.get(tx, given.id)
        else:
            owner = actions.candidate(tx, given.user or UserRef())
            row = applications.by_name(tx, owner.id, given.name or "") if owner.id is not None else None
        who = actions.by_id(tx, row.user_id) if row is not None else None
    proven = identity.passwords.verify(given.secret, row.secret_hash if row is not None else None)
    if not proven or row is None or who is None or not who.enabled:
        raise errors.Unauthorized(actions.REFUSED)
    if row.expires_at is not None and row.expires_at <= clock.now_us():
        raise errors.Unauthorized("The application credential has expired.")
    return Proof(
        who,
        ("application_credential",),
        expires=row.expires_at,
        application_credential_id=row.id,
        project_id=row.project_id,
    )


def _bind(auth: Auth, target: actions.Target, bound: Proof) -> actions.Target:
    """A token of an application credential is for its project, whatever the user's default is."""
    if isinstance(auth.scope, Scope) and (target.project_id != bound.project_id or target.trust_id is not None):
        raise errors.Unauthorized("Application credentials cannot request a scope.")
    return actions.Target(project_id=bound.project_id)
