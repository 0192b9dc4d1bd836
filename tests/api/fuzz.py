"""A fuzzer that reads the API's own schema (schemathesis), set upon every operation of a service.

Requests that fit the schema and requests that do not, about things that are there, by somebody who may. The bars: no 500,
no answer that takes longer than five seconds, every fault in the service's own words, and no secret in a fault or a log,
be it of the cloud's own or one that the fuzzer sent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from sqlalchemy import select

from nephos.identity.application_credentials.store import application_credential
from nephos.identity.users.store import user
from nephos.kernel import clock
from nephos.kernel.http.routes import Route, Service
from tests.api.dry import Kept, taken_back
from tests.api.openapi import document
from tests.api.test_bad_input import Asker, complaint
from tests.api.world import World, name_of
from tests.harness import PASSWORDS

SLOWEST = 5.0
"""Seconds."""
MARK = "hunter2"
"""Part of every secret that the fuzzer sends."""
_SECRETS = ("password", "original_password", "adminPass", "secret", "user_data", "passcode")
_SLOW = ("GET nephos-operator /ports/{port}/trace",)
"""Waits for packets for as long as it says."""


class Found(NamedTuple):
    """How many requests were sent and how many of them done; what went wrong, by route."""

    asked: int
    done: int
    wrong: dict[str, str]


class Watch(logging.Handler):
    """Every line that any part of the server logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def _watched() -> Iterator[Watch]:
    watch, root = Watch(), logging.getLogger("nephos")
    before = root.level
    root.addHandler(watch)
    root.setLevel(logging.INFO)
    try:
        yield watch
    finally:
        root.removeHandler(watch)
        root.setLevel(before)


def secrets(world: World) -> dict[str, str]:
    """The secrets of the cloud itself, by what they are."""
    found = {f"{name}'s password": word for name, word in PASSWORDS.items()}
    found |= {f"{name}'s password": f"{name}-secret" for name in world.users}
    found |= {f"{name}'s token": client.token for name, client in world.clients.items() if client.token}
    with world.cloud.cloud.database.read() as tx:
        for table, column in (
            (user, user.c.password_hash),
            (application_credential, application_credential.c.secret_hash),
        ):
            for row in tx.all(select(table.c.id, column.label("hash")).where(column.is_not(None))):
                found[f"the hash of {row.id}"] = row.hash
    return found


def run(
    world: World,
    service: Service,
    *,
    examples: int,
    number: int,
    most: int | None = None,
    until: Callable[[], bool] = lambda: False,
) -> Found:
    """So many requests of each kind to each operation; `number` is the seed. With `most`, to so many operations all over
    the service. Ends early when `until` says so.
    """
    with taken_back(world.cloud.cloud.database):
        documented = document(world, service)
    operations = [each.ok() for each in schemathesis.openapi.from_dict(documented).get_all_operations()]
    if most is not None:
        operations = operations[:: -(-len(operations) // most)]
    first: dict[str, Route] = {}
    for route in world.thought_of(service):
        first.setdefault(name_of(service, route), route)
    private, done = secrets(world), 0
    with _watched() as watch, taken_back(world.cloud.cloud.database) as kept:
        asks = Asker(world, service, kept)
        for operation in operations:
            if until():
                break
            raw = operation.definition.raw
            one = _One(asks, first[raw["operationId"]], raw["x-headers"], private, watch, kept)
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                _draw(operation, mode, examples, number, one)
            done += one.done
    return Found(asks.asked, done, asks.wrong)


def _draw(operation: Any, mode: Any, examples: int, number: int, one: _One) -> None:
    quiet = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @quiet
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        one.ask(case)

    try:
        ask()
    except schemathesis.errors.InvalidSchema:
        raise
    except Exception as wrong:
        # An operation without a parameter cannot be asked wrongly.
        if type(wrong).__name__ not in ("SkipTest", "Skipped", "Unsatisfiable"):
            raise


class _One:
    """One operation under fire."""

    def __init__(
        self, asks: Asker, route: Route, headers: dict[str, str], private: dict[str, str], watch: Watch, kept: Kept
    ) -> None:
        self.asks, self.route, self.headers, self.private, self.watch, self.kept = (
            asks,
            route,
            headers,
            private,
            watch,
            kept,
        )
        self.client, self.done = asks.client(route), 0
        self.slowest = float("inf") if name_of(asks.service, route) in _SLOW else SLOWEST

    def ask(self, case: Any) -> None:
        url, body = _url(case), _body(case)
        self.kept.changes = 0
        self.watch.lines.clear()
        self.asks.asked += 1
        began = clock.monotonic()
        reply = self.client.request(self.route.method, url, body, self.headers)
        took = clock.monotonic() - began
        shown = f"{url} {body!r}"[:600]
        why = complaint(self.asks.service, self.route, reply, self.kept)
        if why is not None:
            self.asks.blame(self.route, "an answer", f"{why}\n    {shown}")
        if took > self.slowest:
            self.asks.blame(self.route, "slow", f"{took:.1f} s\n    {shown}")
        told = "\n".join(self.watch.lines)
        if reply.status < 400:
            self.done += 1
        else:
            told += reply.body.decode(errors="replace")
        # What was in the URL is in the access log, as with every server: a secret does not belong there.
        told = told.replace(url, "")
        for what, secret in (("a secret that was sent", MARK), *self.private.items()):
            if secret in told and secret not in url:
                self.asks.blame(self.route, f"tells {what}", f"{told[:600]}\n    {shown}")


def _url(case: Any) -> str:
    path = case.path
    for name, value in (case.path_parameters or {}).items():
        path = path.replace(f"{{{name}}}", quote(_plain(value), safe=""))
    query = urlencode({key: _plain(value) for key, value in (case.query or {}).items()}, errors="replace")
    return f"{path}?{query}" if query else path


def _plain(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def _body(case: Any) -> bytes | None:
    if isinstance(case.body, type(schemathesis.core.NOT_SET)):
        return None
    return json.dumps(_marked(case.body), default=str).encode(errors="replace")


def _marked(value: Any) -> Any:
    """Secrets among what is sent are made recognisable."""
    if isinstance(value, dict):
        return {
            str(key): MARK + each if key in _SECRETS and isinstance(each, str) else _marked(each)
            for key, each in value.items()
        }
    return [_marked(each) for each in value] if isinstance(value, list) else value
