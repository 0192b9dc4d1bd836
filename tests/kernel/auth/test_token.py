"""Tokens prove themselves, expire, and outlive a rotation of the keys, in both forms."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import NamedTuple

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth import fernet, jws
from nephos.kernel.auth.token import FERNET, JWS, METHODS, Form, Token, Tokens, new_audit_id

USER, PROJECT, CREDENTIAL = "8f3c" * 8, "0a1b" * 8, "77de" * 8
HOUR = 3600 * 1_000_000


class Time:
    """A clock that a test moves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.us = 1_900_000_000_123_456
        patch.setattr(clock, "now_us", lambda: self.us)
        patch.setattr(clock, "monotonic", lambda: self.us / 1e6)

    def move(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


class Kind(NamedTuple):
    name: str
    new_key: Callable[[], bytes]
    build: Callable[[list[bytes]], Form]

    def tokens(self, *keys: bytes) -> Tokens:
        return Tokens({self.name: self.build(list(keys))}, self.name)


KINDS = (Kind(FERNET, fernet.new_key, fernet.FernetTokens), Kind(JWS, jws.new_key, jws.JwsTokens))


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


def make(**fields: object) -> Token:
    now = clock.now_us()
    values: dict[str, object] = {
        "user_id": USER,
        "methods": ("password",),
        "issued": now,
        "expires": now + HOUR,
        "audit_ids": (new_audit_id(),),
        **fields,
    }
    return Token(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"project_id": PROJECT},
        {"domain_id": "default"},
        {"system": "all"},
        {"project_id": PROJECT, "trust_id": "ab" * 16},
        {"project_id": PROJECT, "application_credential_id": CREDENTIAL, "methods": ("application_credential",)},
        {"project_id": "проект", "user_id": "ldap-" + "f" * 59},
        {"audit_ids": (new_audit_id(), new_audit_id()), "methods": ("password", "token"), "project_id": PROJECT},
        {"audit_ids": ("not base64!", "abc", ""), "user_id": "ABCD", "methods": ()},
    ],
)
def test_a_token_says_what_was_put_in(kind: Kind, scope: dict[str, object]) -> None:
    tokens = kind.tokens(kind.new_key())
    token = make(**scope)
    text = tokens.encode(token)
    assert tokens.decode(text) == token
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_the_longest_of_the_usual_kind_fits(kind: Kind) -> None:
    token = make(
        methods=METHODS,
        project_id=PROJECT,
        application_credential_id=CREDENTIAL,
        audit_ids=(new_audit_id(), new_audit_id()),
    )
    tokens = kind.tokens(kind.new_key())
    text = tokens.encode(token)
    assert len(text) < (255 if kind.name == FERNET else 1024)
    assert tokens.decode(text) == token


ANY_KEY = fernet.new_key(), jws.new_key()


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 2**52))
def test_any_id_survives(user_id: str, audit_id: str, issued: int) -> None:
    for kind, key in zip(KINDS, ANY_KEY, strict=True):
        token = make(user_id=user_id, audit_ids=(audit_id,), issued=issued)
        tokens = kind.tokens(key)
        assert tokens.decode(tokens.encode(token)) == token


def test_one_scope_only(kind: Kind) -> None:
    with pytest.raises(ValueError, match="one scope"):
        kind.tokens(kind.new_key()).encode(make(project_id=PROJECT, system="all"))


def test_an_expired_token_is_refused_but_for_a_window(kind: Kind, time: Time) -> None:
    tokens = kind.tokens(kind.new_key())
    token = make()
    text = tokens.encode(token)
    time.move(3599.9)
    assert tokens.decode(text) == token
    time.move(0.1)
    with pytest.raises(errors.Unauthorized, match="has expired"):
        tokens.decode(text)
    assert tokens.decode(text, window=60_000_000) == token
    time.move(60)
    with pytest.raises(errors.Unauthorized, match="has expired"):
        tokens.decode(text, window=60_000_000)


def test_every_changed_character_is_noticed(kind: Kind) -> None:
    tokens = kind.tokens(kind.new_key())
    text = tokens.encode(make(project_id=PROJECT))
    # the last character of a base64 text may hold bits that mean nothing
    for place in range(len(text) - 1):
        if text[place] == ".":
            continue
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(errors.Unauthorized):
            tokens.decode(changed)
    for place in range(0, len(text) - 1, 7):
        with pytest.raises(errors.Unauthorized):
            tokens.decode(text[:place])


SCRAP = [
    "",
    "x",
    "gAAAA",
    "=" * 8,
    "é" * 8,
    "a" * 5000,
    "\0",
    "gAAAAA" + "A" * 200,
    ".",
    "..",
    "a.b.c",
    "é.é.é",
    "e30.e30.",
]


@pytest.mark.parametrize("text", SCRAP)
def test_scrap_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(errors.Unauthorized, match="is not valid"):
        kind.tokens(kind.new_key()).decode(text)


def test_a_sealed_payload_of_another_shape_is_refused() -> None:
    key = fernet.new_key()
    for payload in (b"", b"\xc1", b"\x01", b"\x90", b"\x9a\x02" + b"\xc0" * 9, b"\x9a\x01" + b"\xc0" * 9):
        with pytest.raises(errors.Unauthorized):
            KINDS[0].tokens(key).decode(fernet.crypt([key]).encrypt(payload).decode())


def test_signed_claims_of_another_shape_are_refused() -> None:
    key = jws.new_key()
    tokens = KINDS[1].tokens(key)
    good = tokens.encode(make())
    name = jwt.get_unverified_header(good)["kid"]
    claims = jwt.decode(good, options={"verify_signature": False})
    for change in ({"sub": 7}, {"exp": "soon"}, {"openstack_methods": None}, {"openstack_audit_ids": [1]}):
        with pytest.raises(errors.Unauthorized):
            tokens.decode(jwt.encode({**claims, **change}, key, algorithm="ES256", headers={"kid": name}))


def test_another_algorithm_is_refused() -> None:
    """The classic attacks on signed tokens: none at all, and an HMAC with the public key as its secret."""
    key = jws.new_key()
    tokens = KINDS[1].tokens(key)
    head, claims, _ = tokens.encode(make()).split(".")
    kid = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
    for algorithm, signature in (("none", ""), ("HS256", "AAAA"), ("ES384", "AAAA")):
        forged = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT", "kid": kid}).encode()).decode()
        with pytest.raises(errors.Unauthorized):
            tokens.decode(f"{forged.rstrip('=')}.{claims}.{signature}")


def test_a_jws_is_as_the_rfc_and_keystone_have_it() -> None:
    text = KINDS[1].tokens(jws.new_key()).encode(make(project_id=PROJECT, methods=("password", "token")))
    assert jwt.get_unverified_header(text)["alg"] == "ES256"
    claims = jwt.decode(text, options={"verify_signature": False, "verify_exp": False})
    assert claims["sub"] == USER and claims["openstack_project_id"] == PROJECT
    assert claims["openstack_methods"] == ["password", "token"]
    assert claims["exp"] - claims["iat"] == pytest.approx(3600)
    assert "openstack_domain_id" not in claims


def test_a_token_of_other_keys_is_refused(kind: Kind) -> None:
    with pytest.raises(errors.Unauthorized):
        kind.tokens(kind.new_key()).decode(kind.tokens(kind.new_key()).encode(make()))


def test_a_key_that_only_verifies(kind: Kind) -> None:
    old, new = kind.new_key(), kind.new_key()
    text = kind.tokens(old).encode(make())
    assert kind.tokens(new, old).decode(text)
    with pytest.raises(errors.Unauthorized):
        kind.tokens(old).decode(kind.tokens(new, old).encode(make()))


def test_both_forms_count_while_a_cloud_changes_over() -> None:
    before, after = (kind.build([kind.new_key()]) for kind in KINDS)
    both = Tokens({FERNET: before, JWS: after}, JWS)
    old, new = Tokens({FERNET: before}, FERNET).encode(make()), both.encode(make())
    assert "." not in old and new.count(".") == 2
    assert both.decode(old) and both.decode(new)
    with pytest.raises(errors.Unauthorized):
        Tokens({FERNET: before}, FERNET).decode(new)


def test_what_is_no_key(kind: Kind) -> None:
    for keys in ([], [b"short"], [b"A" * 44 + b"x"], ["ключ".encode()]):
        with pytest.raises(ValueError):
            kind.build(keys)
    with pytest.raises(errors.SettingsError, match="no keys for tokens of the form 'jws'"):
        Tokens({}, JWS)
