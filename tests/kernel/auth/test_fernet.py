"""Tokens are small, prove themselves, expire, and outlive a rotation of the keys."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth.fernet import METHODS, Keys, Token, Tokens, new_audit_id

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


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys")
    assert keys.initialise()
    return keys


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
def test_a_token_says_what_was_put_in(keys: Keys, scope: dict[str, object]) -> None:
    tokens = Tokens(keys)
    token = make(**scope)
    text = tokens.encode(token)
    assert tokens.decode(text) == token
    assert len(text) < 255
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_longest_of_the_usual_kind_fits(keys: Keys) -> None:
    token = make(
        methods=METHODS,
        project_id=PROJECT,
        application_credential_id=CREDENTIAL,
        audit_ids=(new_audit_id(), new_audit_id()),
    )
    assert len(Tokens(keys).encode(token)) < 255


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_id_survives(tmp_path_factory: pytest.TempPathFactory, user_id: str, audit_id: str) -> None:
    keys = Keys(tmp_path_factory.getbasetemp() / "any-id")
    keys.initialise()
    tokens = Tokens(keys)
    token = make(user_id=user_id, audit_ids=(audit_id,))
    assert tokens.decode(tokens.encode(token)) == token


def test_one_scope_only(keys: Keys) -> None:
    with pytest.raises(ValueError, match="one scope"):
        Tokens(keys).encode(make(project_id=PROJECT, system="all"))


def test_an_expired_token_is_refused_unless_asked(keys: Keys, time: Time) -> None:
    tokens = Tokens(keys)
    token = make()
    text = tokens.encode(token)
    time.move(3599.9)
    assert tokens.decode(text) == token
    time.move(0.1)
    with pytest.raises(errors.Unauthorized, match="has expired"):
        tokens.decode(text)
    assert tokens.decode(text, allow_expired=True) == token


def test_every_changed_character_is_noticed(keys: Keys) -> None:
    tokens = Tokens(keys)
    text = tokens.encode(make(project_id=PROJECT))
    for place in range(len(text) - 1):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(errors.Unauthorized):
            tokens.decode(changed)
        with pytest.raises(errors.Unauthorized):
            tokens.decode(text[:place])


@pytest.mark.parametrize("text", ["", "x", "gAAAA", "=" * 8, "é" * 8, "a" * 5000, "\0", "gAAAAA" + "A" * 200])
def test_scrap_is_refused(keys: Keys, text: str) -> None:
    with pytest.raises(errors.Unauthorized, match="is not valid"):
        Tokens(keys).decode(text)


def test_a_sealed_payload_of_another_shape_is_refused(keys: Keys) -> None:
    (primary, *_) = keys.load()
    tokens = Tokens(keys)
    for payload in (b"", b"\xc1", b"\x01", b"\x90", b"\x9a\x02" + b"\xc0" * 9, b"\x9a\x01" + b"\xc0" * 9):
        with pytest.raises(errors.Unauthorized):
            tokens.decode(primary.encrypt(payload).decode())


def test_a_token_of_other_keys_is_refused(keys: Keys, tmp_path: Path) -> None:
    others = Keys(tmp_path / "others")
    others.initialise()
    with pytest.raises(errors.Unauthorized):
        Tokens(keys).decode(Tokens(others).encode(make()))


def numbers(keys: Keys) -> list[int]:
    return sorted(int(entry.name) for entry in keys.directory.iterdir())


def test_the_directory_is_laid_out_as_keystone_does(keys: Keys) -> None:
    assert numbers(keys) == [0, 1]
    assert stat.S_IMODE(keys.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in keys.directory.iterdir()} == {0o600}
    assert not keys.initialise(), "a second time changes nothing"
    staged = (keys.directory / "0").read_bytes()
    assert keys.rotate() == 2
    assert numbers(keys) == [0, 1, 2]
    assert (keys.directory / "2").read_bytes() == staged, "the staged key is the new primary"
    assert (keys.directory / "0").read_bytes() != staged
    assert keys.rotate() == 3
    assert numbers(keys) == [0, 2, 3], "the oldest goes"


def test_tokens_outlive_rotations_until_their_key_is_gone(keys: Keys, time: Time) -> None:
    signer, verifier = Tokens(keys), Tokens(keys)
    first = signer.encode(make())
    keys.rotate()
    assert verifier.decode(first)
    fresh = Tokens(keys).encode(make())
    assert verifier.decode(fresh), "the staged key was known before it signed"
    time.move(1.1)
    second = signer.encode(make())
    keys.rotate()
    time.move(1.1)
    assert verifier.decode(second)
    with pytest.raises(errors.Unauthorized):
        verifier.decode(first)


def test_a_running_server_signs_with_the_new_primary(keys: Keys, time: Time) -> None:
    tokens = Tokens(keys)
    keys.rotate()
    time.move(1.1)
    text = tokens.encode(make())
    (primary, *_) = keys.load()
    assert primary.decrypt(text + "=" * (-len(text) % 4))


def test_a_rotation_that_was_cut_short_is_completed(keys: Keys) -> None:
    (keys.directory / "0").rename(keys.directory / "2")
    (keys.directory / "0.tmp").write_bytes(b"half")
    assert len(keys.load()) == 2
    assert not keys.initialise()
    assert keys.rotate() == 3
    assert numbers(keys) == [0, 2, 3]
    Tokens(keys)


def test_what_is_wrong_with_keys_is_named(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(errors.SettingsError, match=f"{tmp_path}/none: cannot be read: No such file"):
        Tokens(Keys(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.SettingsError, match="empty: holds no keys"):
        Tokens(Keys(tmp_path / "empty"))
    (keys.directory / "1").write_bytes(b"short")
    with pytest.raises(errors.SettingsError, match=f"{keys.directory}/1: is not a key"):
        Tokens(keys)
    with pytest.raises(errors.SettingsError, match="at least 2 active keys"):
        Keys(tmp_path, max_active=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.SettingsError, match="the key directory cannot be made"):
        Keys(tmp_path / "file" / "keys").initialise()


def test_a_key_that_others_may_open_is_named(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    (keys.directory / "1").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Tokens(keys)
    assert f"{keys.directory}/1: others than its owner may open this key (mode 0644)" in caplog.text


def test_a_directory_that_breaks_later_stops_nobody(keys: Keys, time: Time, caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(keys)
    text = tokens.encode(make())
    for key in list(keys.directory.iterdir()):
        key.unlink()
    time.move(1.1)
    assert tokens.decode(text)
    assert "the keys in memory stay in use" in caplog.text
    keys.initialise()
    time.move(1.1)
    with pytest.raises(errors.Unauthorized):
        tokens.decode(text)
