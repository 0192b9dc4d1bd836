"""Passwords are kept as strongly as Keystone keeps them, and those that a Keystone kept still open the door."""

from __future__ import annotations

import threading
import time

import pytest

from nephos import errors
from nephos.kernel.auth import passwords as module
from nephos.kernel.auth.passwords import Passwords

CHEAP = Passwords(rounds=4)
WORD, LONG = "correct horse ☃", "ü" * 100

#: Made by Keystone 30's own hashers.
OF_KEYSTONE = [
    (WORD, "$2b$04$LIoMmEyW9gwLM85B2Lm1W.elTfm3./ma9Bzus2uaYPlXrPJd/hOCO"),
    (LONG, "$2b$04$IJMPFHGytGRoQP4pqI4mHevMV3bkDuZgEJ3.MuZLaH2JTYfGjgIBW"),
    (WORD, "$bcrypt-sha256$v=2,t=2b,r=10$q/jq2bK.ZzmjkRdjPlFzcO$RmdZAA0SsUfCwkr8TOBOng0RSAv5b8m"),
    (LONG, "$bcrypt-sha256$v=2,t=2b,r=10$10MuYtFnqUEy2Ncfxp3n7u$0wfCjfgVuGzctoUPlNFLuae/bbeFzHW"),
    (WORD, "$scrypt$ln=10,r=8,p=1$qQ8WooWqGYXduCihtiJ3ig$lQfiiiqPlMAgevVQ/lkBc6rtjrTqKBj2oV6h0TcoGpI"),
    (WORD, "$scrypt$ln=16,r=8,p=1$KDRX2xZmT9GxfgdBR5/erw$m+OQSqyfPFUqJyn99wZfCjhM9PeCrgEbuDNVrMvHA8U"),
    (
        WORD,
        "$pbkdf2-sha512$1000$xtkVpA4Kk2cEc3YBInrVgg$+N+MtEbBAP5MGKdHWip+XhzRGacYeNPFs6KuEvaWXFwgroSgUzs8dDjBeTg6ZGreav"
        "X6EE0hXNuF3dOnzoWUnw",
    ),
]


def test_the_default_is_as_strong_as_keystones() -> None:
    hashed = Passwords().hash(WORD)
    assert hashed.startswith("$2b$12$")
    assert len(hashed) == 60
    assert Passwords().verify(WORD, hashed)


def test_each_hash_has_its_own_salt() -> None:
    assert len({CHEAP.hash(WORD) for _ in range(20)}) == 20


@pytest.mark.parametrize("password", [WORD, "", " ", "пароль", "a" * 72, LONG, "a" * 5000])
def test_hash_and_verify(password: str) -> None:
    hashed = CHEAP.hash(password)
    assert CHEAP.verify(password, hashed)
    assert not CHEAP.verify("x" + password, hashed)


def test_only_72_bytes_count() -> None:
    hashed = CHEAP.hash("a" * 72 + "b")
    assert CHEAP.verify("a" * 72 + "c", hashed)
    assert not CHEAP.verify("a" * 71 + "c", hashed)


@pytest.mark.parametrize(("password", "hashed"), OF_KEYSTONE)
def test_what_keystone_wrote_is_verified(password: str, hashed: str) -> None:
    assert CHEAP.verify(password, hashed)
    assert not CHEAP.verify(password[:-1], hashed) or len(password.encode()) > 73
    assert not CHEAP.verify("", hashed)


@pytest.mark.parametrize(
    "hashed",
    [
        "", "x", "$", "$$", "$2b$", "$2b$04$short", "$2b$99$" + "a" * 53, "$1$md5$x", "$7$x$y$z",
        "$scrypt$ln=16$x$y", "$scrypt$ln=16,r=8,p=1$$", "$scrypt$ln=99999999999,r=8,p=1$qQ8WooWqGYXduCihtiJ3ig$AAAA",
        "$scrypt$ln=10,r=8,p=1$qQ8WooWqGYXduCihtiJ3ig$", "$scrypt$ln=10,r=8,p=1$qQ8WooWqGYXduCihtiJ3ig$!!!!",
        "$pbkdf2-sha512$1$AAAA$", "$pbkdf2-sha512$0$AAAA$AAAA", "$bcrypt-sha256$v=1,t=2b,r=4$aa$bb",
        "$bcrypt-sha256$x$aa$bb", "ключ", "$2b$04$ключ",
    ],
)  # fmt: skip
def test_a_hash_that_cannot_be_read_verifies_nothing(hashed: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not CHEAP.verify("", hashed)
    assert not CHEAP.verify(WORD, hashed)
    assert "cannot be read" in caplog.text
    assert "AAAA" not in caplog.text


def test_what_cannot_be_a_password() -> None:
    for bad, words in (("a\0b", "null character"), ("\ud800", "not valid Unicode")):
        with pytest.raises(errors.BadRequest, match=words):
            CHEAP.hash(bad)
        assert not CHEAP.verify(bad, CHEAP.hash("a"))
    with pytest.raises(errors.SettingsError, match="4 to 31, not 3"):
        Passwords(rounds=3)


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    passwords = Passwords(rounds=9)
    hashed = passwords.hash(WORD)

    def seconds(stored: str | None) -> float:
        best = 9.0
        for _ in range(5):
            start = time.thread_time()
            assert not passwords.verify("wrong", stored)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(None) == pytest.approx(seconds(hashed), rel=0.5)


def test_outdated() -> None:
    assert not CHEAP.outdated(CHEAP.hash(WORD))
    assert Passwords(rounds=5).outdated(CHEAP.hash(WORD))
    assert not CHEAP.outdated(Passwords(rounds=5).hash(WORD))
    for _, hashed in OF_KEYSTONE[2:]:
        assert CHEAP.outdated(hashed)


def test_only_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(rounds=4, at_once=2)
    running, most, gate = [0], [0], threading.Lock()
    inside = module._verify

    def slow(password: str, hashed: str) -> bool:
        with gate:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with gate:
            running[0] -= 1
        return inside(password, hashed)

    monkeypatch.setattr(module, "_verify", slow)
    hashed = passwords.hash(WORD)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(passwords.verify(WORD, hashed))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert most[0] == 2


def test_a_full_queue_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)
    passwords = Passwords(rounds=4, at_once=1)
    hashed = passwords.hash(WORD)
    with passwords._slot(), pytest.raises(errors.Unavailable, match="Too many log-ins"):
        passwords.verify(WORD, hashed)
    assert passwords.verify(WORD, hashed)


def test_a_flood_leaves_threads_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not find a place in the queue is told so at once, and holds no thread."""
    passwords = Passwords(rounds=4, at_once=2)
    hashed, go = passwords.hash(WORD), threading.Event()
    inside = module._verify

    def slow(password: str, hashed: str) -> bool:
        go.wait(10)
        return inside(password, hashed)

    monkeypatch.setattr(module, "_verify", slow)
    answers: list[bool | errors.Unavailable] = []

    def ask() -> None:
        try:
            answers.append(passwords.verify(WORD, hashed))
        except errors.Unavailable as wrong:
            answers.append(wrong)

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(answers) < 64 - 2 - module.MOST_WAITING and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = list(answers)
    assert len(refused) == 64 - 2 - module.MOST_WAITING
    assert all(isinstance(one, errors.Unavailable) and one.retry_after == 2 for one in refused)
    go.set()
    for thread in threads:
        thread.join()
    assert answers.count(True) == 2 + module.MOST_WAITING
    assert passwords.verify(WORD, hashed), "and the queue is empty again"
