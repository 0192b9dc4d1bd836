"""A short run of the fuzzer, the same every time; `make soak` has the long one."""

from __future__ import annotations

import logging

import pytest

from nephos import errors
from nephos.kernel.auth.passwords import Passwords
from tests.api import fuzz
from tests.api.world import SERVICES, World


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_breaks(world: World, service: str) -> None:
    found = fuzz.run(world, SERVICES[service], examples=1, number=1, most=40)
    assert found.asked >= min(50, len(SERVICES[service].routes))
    assert not found.wrong, "\n".join(f"{name}: {why}" for name, why in found.wrong.items())


@pytest.mark.parametrize("planted", ("a secret in the log", "a secret in a fault", "a crash"))
def test_it_finds_what_is_planted(world: World, planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(self: Passwords, password: str) -> str:
        if planted == "a crash":
            raise RuntimeError("planted")
        if planted == "a secret in a fault":
            raise errors.BadRequest(f"No good: {password}")
        logging.getLogger("nephos.identity").warning("hashing %s", password)
        return "$2b$04$"

    monkeypatch.setattr(Passwords, "hash", hashed)
    identity = SERVICES["identity"]
    users = identity._replace(routes=[route for route in identity.routes if route.path == "/v3/users"])
    found = fuzz.run(world, users, examples=6, number=1)
    (name,) = found.wrong
    assert name == f"POST identity /v3/users: {'an answer' if planted == 'a crash' else 'tells a secret that was sent'}"
