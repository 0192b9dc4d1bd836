"""Several servers, and an agent that is connected to one of them: how the others reach it.

What a host should have and do are rows, which every server writes; the doorbell tells the one that has the agent. A live
question goes the same way: it is a row, the server that has the agent answers into it, and the row goes when it was
read. Rings may be lost, so once a second this server looks by itself: at the revisions of the hosts that it has, and at
the questions to them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select, update

from nephos import errors
from nephos.hosts import actions as hosts
from nephos.hosts import store
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

log = logging.getLogger(__name__)
LOOK_EVERY = 1.0
ANSWER_SECONDS = 12.0
"""A little more than the server that asks the agent gives it."""
GONE_SECONDS = 60
"""A question whose asker died is forgotten after so long."""
_QUESTION, _ANSWER = "ask:", "answer:"
_q = store.question
_open = select(_q).where(_q.c.host_id.in_(bindparam("hosts", expanding=True)), _q.c.answered.is_(False))
_revisions = select(store.host.c.id, store.host.c.revision).where(store.host.c.id.in_(bindparam("hosts", expanding=True)))
_one = select(_q).where(_q.c.id == bindparam("id"))

Ask = Callable[[str, str, str, int | None], Any]


class Relay:
    """`ask` asks an agent that is connected here; `connected` says which are; `changed` is told of a host to ring for."""

    def __init__(self, cloud: Cloud, *, ask: Ask, connected: Callable[[], set[str]], changed: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._ask, self._connected, self._changed = ask, connected, changed
        self._waiting: dict[str, threading.Event] = {}
        self._busy: set[str] = set()
        self._known: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="relay")
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._unlisten: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._loop, name="relay", daemon=True)

    def start(self) -> None:
        self._unlisten = self._cloud.doorbell.listen(self._heard)
        self._thread.start()

    def stop(self) -> None:
        self._unlisten()
        self._stop.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, host_id: str, kind: str, item_id: str, limit: int | None) -> Any:
        """See `Hosts.ask`. Here when the agent is connected here, else by the server that has it."""
        if host_id in self._connected():
            return self._ask(host_id, kind, item_id, limit)
        number = clock.uuid4()
        rung = self._waiting[number] = threading.Event()
        try:
            return self._ask_others(number, rung, host_id, kind, item_id, limit)
        finally:
            del self._waiting[number]
            self._cloud.database.write(lambda tx: tx.execute(delete(_q).where(_q.c.id == number)))

    def _ask_others(
        self, number: str, rung: threading.Event, host_id: str, kind: str, item_id: str, limit: int | None
    ) -> Any:
        def question(tx: Tx) -> None:
            if not hosts.up(hosts.get(tx, host_id), tx.now):
                raise errors.Unavailable("The host's agent is not connected.")
            values = {"id": number, "host_id": host_id, "kind": kind, "item_id": item_id, "limit": limit}
            tx.insert(_q, {**values, "answered": False, "created_at": tx.now})
            tx.after_commit(lambda: self._cloud.doorbell.ring(_QUESTION + host_id))

        self._cloud.database.write(question)
        until = clock.monotonic() + ANSWER_SECONDS
        while clock.monotonic() < until:
            rung.wait(LOOK_EVERY / 2)
            with self._cloud.database.read() as tx:
                row = tx.first(_one, {"id": number})
            if row is not None and row.answered:
                if row.error is not None:
                    raise (errors.Unavailable if row.away else errors.HostFault)(row.error)
                return msgspec.msgpack.decode(row.answer)
        raise errors.Unavailable("The host's agent is connected to none of the servers.")

    def _heard(self, topic: str) -> None:
        if topic.startswith(_QUESTION) and topic.removeprefix(_QUESTION) in self._connected():
            self._bell.set()
        elif topic.startswith(_ANSWER):
            waiting = self._waiting.get(topic.removeprefix(_ANSWER))
            if waiting is not None:
                waiting.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._bell.clear()
            try:
                self._look()
            except errors.Unavailable as wrong:
                log.warning("looking for what other servers did: %s", wrong)
            except Exception:
                log.exception("looking for what other servers did")
            self._bell.wait(LOOK_EVERY)

    def _look(self) -> None:
        here = sorted(self._connected())
        if not here:
            self._known.clear()
            return
        with self._cloud.database.read() as tx:
            revisions = {row.id: row.revision for row in tx.all(_revisions, {"hosts": here})}
            questions = tx.all(_open, {"hosts": here})
        for host_id, revision in revisions.items():
            if self._known.get(host_id, revision) != revision:
                self._changed(host_id)
        self._known = revisions
        for row in questions:
            if row.id not in self._busy:
                self._busy.add(row.id)
                self._pool.submit(self._answer, row)

    def _answer(self, row: Any) -> None:
        values: dict[str, Any] = {"answered": True}
        try:
            values["answer"] = msgspec.msgpack.encode(self._ask(row.host_id, row.kind, row.item_id, row.limit))
        except errors.NephosError as wrong:
            values |= {"error": wrong.message, "away": isinstance(wrong, errors.Unavailable)}
        except Exception as wrong:
            log.exception("a question to host %s", row.host_id)
            values |= {"error": f"{type(wrong).__name__}: {wrong}"}

        def keep(tx: Tx) -> None:
            tx.execute(update(_q).where(_q.c.id == row.id).values(**values))
            tx.execute(delete(_q).where(_q.c.created_at < tx.now - GONE_SECONDS * 1_000_000))
            tx.after_commit(lambda: self._cloud.doorbell.ring(_ANSWER + row.id))

        try:
            self._cloud.database.write(keep)
        except Exception:
            log.exception("the answer of host %s", row.host_id)
        finally:
            self._busy.discard(row.id)
