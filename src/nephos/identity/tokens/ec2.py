"""POST /v3/ec2tokens and /v3/s3tokens: a token for who signed a request with an EC2 credential.

Services that speak AWS' APIs ask on behalf of their clients, so only they and admins may (OSSA-2025-002). Source:
Keystone's EC2 and S3 extensions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row

from nephos import errors
from nephos.identity import part
from nephos.identity.credentials import actions as credentials
from nephos.identity.credentials.signatures import Signed, check_ec2, check_s3
from nephos.identity.tokens import wire
from nephos.identity.tokens.subject import Subject, resolve
from nephos.identity.trusts import actions as trusts
from nephos.kernel import clock
from nephos.kernel.auth.token import Token, new_audit_id
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

SIGNATURE_SECONDS = 900
"""How long after its own date a signed request is taken; Keystone's default."""

METHOD = "ec2credential"
MICRO = 1_000_000


class Body(msgspec.Struct):
    """The three names that clients know it by."""

    credentials: Signed | None = None
    credential: Signed | None = None
    ec2_credentials: Signed | None = msgspec.field(name="ec2Credentials", default=None)


def create_ec2(call: Call) -> Reply:
    call.permit({})
    text, subject = _exchange(call, check_ec2)
    return Reply(_document(call, subject), headers={"X-Subject-Token": text})


def create_s3(call: Call) -> Reply:
    """Without the token itself, as Keystone has it: it says whose request it was."""
    call.permit({})
    return Reply(_document(call, _exchange(call, check_s3)[1]))


def _document(call: Call, subject: Subject) -> bytes:
    with call.cloud.database.read() as tx:
        catalog = part.of(call.cloud).catalog(tx) if "nocatalog" not in call.query else None
    return wire.document(subject, catalog)


def _exchange(call: Call, check: Callable[[Signed, str], None]) -> tuple[str, Subject]:
    """Raises Unauthorized for what is signed wrongly or too old, NotFound for a key that there is not."""
    identity, body = part.of(call.cloud), call.body(Body)
    given = body.credentials or body.credential or body.ec2_credentials
    if given is None or given.access is None:
        raise errors.Unauthorized("EC2 Signature not supplied")
    with call.cloud.database.read() as tx:
        row = credentials.by_access_key(tx, given.access)
    if row is None:
        raise errors.NotFound("EC2 access key not found.")
    keys = _keys(identity.vault.open(row.sealed))
    check(given, str(keys["secret"]))
    _fresh(given)
    with call.cloud.database.read() as tx:
        token = _token(tx, row, keys, call.cloud.settings.tokens.lifetime * MICRO)
        subject = resolve(tx, identity.graph(tx), token)
    return identity.tokens.encode(token), subject


def _keys(blob: str) -> dict[str, Any]:
    try:
        keys = msgspec.json.decode(blob)
    except msgspec.DecodeError:
        keys = None
    if not isinstance(keys, dict) or not isinstance(keys.get("secret"), str):
        raise errors.Unauthorized("The EC2 credential holds no secret.")
    return keys


def _fresh(given: Signed) -> None:
    """A signature without a date is taken: its signer left it off."""
    said = given.timestamp()
    if said is None:
        return
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        raise errors.Unauthorized("Credential timestamp is invalid.") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if datetime.fromtimestamp(clock.now(), UTC) > moment + timedelta(seconds=SIGNATURE_SECONDS):
        raise errors.Unauthorized("Credential is expired")


def _token(tx: Tx, row: Row[Any], keys: dict[str, Any], lifetime: int) -> Token:
    """As wide as the credential: that of a trust or of an application credential is no wider than those."""
    user_id, trust_id, application = row.user_id, keys.get("trust_id"), keys.get("app_cred_id")
    now = clock.now_us()
    expires = now + lifetime
    if trust_id is not None:
        trust = trusts.get(tx, str(trust_id))
        if trust is None:
            raise errors.Unauthorized("The trust of this EC2 credential does not hold any more.")
        user_id = trust.trustee_user_id
        expires = min(expires, trust.expires_at or expires)
    return Token(
        user_id=user_id,
        methods=(METHOD,),
        issued=now,
        expires=expires,
        audit_ids=(new_audit_id(),),
        project_id=row.project_id,
        trust_id=str(trust_id) if trust_id is not None else None,
        application_credential_id=str(application) if application is not None else None,
    )


ROUTES = (
    Route("POST", "/v3/ec2tokens", create_ec2, "identity:ec2tokens_validate", target="later"),
    Route("POST", "/v3/s3tokens", create_s3, "identity:s3tokens_validate", target="later"),
)
