"""The bodies of POST /v3/auth/tokens, and the token document that answers it. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nephos.identity.catalog.view import Catalog
from nephos.identity.tokens.factors import Receipt
from nephos.identity.tokens.subject import Person, Subject
from nephos.kernel import clock

_encode = msgspec.json.Encoder().encode
Text = Annotated[str, Meta(max_length=255)]


class DomainRef(msgspec.Struct):
    id: Text | None = None
    name: Text | None = None


class UserRef(msgspec.Struct):
    id: Text | None = None
    name: Text | None = None
    domain: DomainRef | None = None
    password: Annotated[str, Meta(max_length=4096)] | None = None


class PasswordMethod(msgspec.Struct):
    user: UserRef


class TokenMethod(msgspec.Struct):
    id: Annotated[str, Meta(max_length=4096)]


class PasscodeUser(UserRef):
    passcode: Annotated[str, Meta(max_length=64)] | None = None


class TotpMethod(msgspec.Struct):
    user: PasscodeUser


class ApplicationCredentialMethod(msgspec.Struct):
    secret: Annotated[str, Meta(max_length=4096)]
    id: Text | None = None
    name: Text | None = None
    user: UserRef | None = None


class IdentityPart(msgspec.Struct):
    methods: list[Text]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    application_credential: ApplicationCredentialMethod | None = None
    totp: TotpMethod | None = None


class ProjectRef(msgspec.Struct):
    id: Text | None = None
    name: Text | None = None
    domain: DomainRef | None = None


class SystemRef(msgspec.Struct):
    all: bool | None = None


class TrustRef(msgspec.Struct):
    id: Text


class Scope(msgspec.Struct):
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    system: SystemRef | None = None
    unscoped: Any = None
    trust: TrustRef | None = msgspec.field(name="OS-TRUST:trust", default=None)


class Auth(msgspec.Struct):
    identity: IdentityPart
    scope: Scope | str | None = None


class AuthBody(msgspec.Struct):
    auth: Auth


def receipt(given: Receipt, person: Person, required: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What a log-in that is not complete is answered with."""
    return {
        "receipt": {
            "methods": list(given.methods),
            "user": {
                "domain": {"id": person.domain.id, "name": person.domain.name},
                "id": person.id,
                "name": person.name,
            },
            "expires_at": clock.iso(given.expires, micro=True),
            "issued_at": clock.iso(given.issued, micro=True),
        },
        "required_auth_methods": [list(rule) for rule in required],
    }


def document(subject: Subject, catalog: Catalog | None) -> bytes:
    """The token as its JSON document. Without a catalog the member is left off, as it is of an unscoped token."""
    token, person = subject.token, subject.person
    shown: dict[str, Any] = {
        "methods": list(token.methods),
        "user": {
            "domain": {"id": person.domain.id, "name": person.domain.name},
            "id": person.id,
            "name": person.name,
            "password_expires_at": clock.iso(person.password_expires_at, micro=True, zone=""),
        },
        "audit_ids": list(token.audit_ids),
        "expires_at": clock.iso(token.expires, micro=True),
        "issued_at": clock.iso(token.issued, micro=True),
    }
    place, trust = subject.project, subject.trust
    if trust is not None:
        shown["OS-TRUST:trust"] = {
            "id": trust.id,
            "trustor_user": {"id": trust.trustor_id},
            "trustee_user": {"id": trust.trustee_id},
            "impersonation": trust.impersonation,
        }
    if place is not None:
        shown["project"] = {
            "domain": {"id": place.domain.id, "name": place.domain.name},
            "id": place.id,
            "name": place.name,
        }
        shown["is_domain"] = place.is_domain
    elif subject.domain is not None:
        shown["domain"] = {"id": subject.domain.id, "name": subject.domain.name}
    elif subject.system:
        shown["system"] = {"all": True}
    else:
        return _encode({"token": shown})
    application = subject.application
    if application is not None:
        shown["application_credential"] = {
            "id": application.id,
            "name": application.name,
            "restricted": not application.unrestricted,
        }
        if application.shown_rules:
            shown["application_credential"]["access_rules"] = list(application.shown_rules)
    shown["roles"] = [{"id": role.id, "name": role.name} for role in subject.roles]
    if catalog is not None:
        shown["catalog"] = catalog.encoded(person.id, place.id if place is not None else None)
    return _encode({"token": shown})
