"""POST, GET, HEAD and DELETE /v3/auth/tokens, and what the asker's own token may be scoped to."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.identity import part
from nephos.identity.tokens import actions, factors, login, wire
from nephos.identity.tokens.subject import Subject, person
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def create(call: Call) -> Reply:
    """Log in. 201 with the token in X-Subject-Token; 401 with a receipt when more proofs are needed.

    Raises Unauthorized, BadRequest.
    """
    body = call.body(wire.AuthBody)
    identity = part.of(call.cloud)
    try:
        text, subject = login.log_in(call.cloud, identity, body.auth, call.header(factors.HEADER))
    except factors.More as more:
        with call.cloud.database.read() as tx:
            who = person(tx, more.receipt.user_id)
        headers = {factors.HEADER: identity.receipts.seal(more.receipt)}
        return Reply(wire.receipt(more.receipt, who, more.required), 401, headers)
    with_catalog = "nocatalog" not in call.query
    with call.cloud.database.read() as tx:
        catalog = identity.catalog(tx) if with_catalog else None
    return Reply(wire.document(subject, catalog), headers={"X-Subject-Token": text, "Vary": "X-Auth-Token"})


def show(call: Call) -> Reply:
    """Validate a token. 404 for one that is not valid, as Keystone has it."""
    identity = part.of(call.cloud)
    text = call.header("X-Subject-Token") or ""
    subject = _subject(call, text)
    _permit(call, subject)
    headers = {"X-Subject-Token": text, "Vary": "X-Auth-Token"}
    with_catalog = "nocatalog" not in call.query
    now = identity.epoch.now()
    key = text if with_catalog else "-" + text
    kept = identity.bodies.get(key)
    if kept is not None and kept[0] == now:
        return Reply(kept[1], headers=headers)
    with call.cloud.database.read() as tx:
        now = identity.epoch.at(tx)
        catalog = identity.catalog(tx) if with_catalog else None
    body = wire.document(subject, catalog)
    identity.bodies.keep(key, (now, body))
    return Reply(body, headers=headers)


def check(call: Call) -> Reply:
    """The same without the document."""
    text = call.header("X-Subject-Token") or ""
    _permit(call, _subject(call, text))
    return Reply(None, headers={"X-Subject-Token": text, "Vary": "X-Auth-Token"})


def revoke(call: Call) -> Reply:
    """Make a token count no more. `?cascade=false` leaves those that were got with it."""
    subject = _subject(call, call.header("X-Subject-Token") or "")
    _permit(call, subject)
    chain = call.query.boolean("cascade", default=True) is not False
    part.change(call.cloud, lambda tx: actions.revoke(tx, subject.token, chain=chain))
    return Reply()


def _subject(call: Call, text: str) -> Subject:
    allow_expired = call.query.boolean("allow_expired", default=False) is True
    try:
        if not text:
            raise errors.Unauthorized("X-Subject-Token holds no token.")
        return part.of(call.cloud).subject(text, allow_expired=allow_expired)
    except errors.Unauthorized as wrong:
        raise errors.NotFound(f"Could not find token: {wrong.message}") from wrong


def _permit(call: Call, subject: Subject) -> None:
    target: dict[str, Any] = {
        "target.token.user_id": subject.person.id,
        "target.token.user.domain.id": subject.person.domain.id,
    }
    call.permit(target)


ROUTES = (
    Route("POST", "/v3/auth/tokens", create, None, 201),
    Route("GET", "/v3/auth/tokens", show, "identity:validate_token", target="later"),
    Route("HEAD", "/v3/auth/tokens", check, "identity:check_token", target="later"),
    Route("DELETE", "/v3/auth/tokens", revoke, "identity:revoke_token", 204, target="later"),
)
