"""The agent's one connection: it dials the server, proves its hosts, pulls, reports and answers.

Everything here survives a server that is away: reports stay in the outbox until the ledger has them, and after a
reconnect every host pulls everything.
"""

from __future__ import annotations

import itertools
import logging
import queue
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from nephos import errors
from nephos.agent.trust import Trust
from nephos.hosts import wire
from nephos.kernel import clock
from nephos.kernel.tls import contexts
from nephos.kernel.tls.authority import SERVER_NAME

log = logging.getLogger(__name__)
T = TypeVar("T")
PULL_EVERY = 10.0
"""Seconds after which an agent looks by itself: the safety net under a lost bell."""
DIGEST_EVERY = 60.0
MOST_IN_A_REPORT = 256
MOST_SIGHTINGS = 65_536
"""While the server is away older sightings make room for newer ones; results are never given up."""
SLOWEST_DIAL = 2.0


class Dial:
    """Where the servers are, separated by commas: wss://HOST:PORT, ws://HOST:PORT or a Unix socket's path.

    The first one is dialled until it fails, then the next. `trust` is for wss.
    """

    def __init__(self, targets: str, trust: Trust | None = None) -> None:
        self._targets = deque(targets.split(","))
        self.trust = trust

    @property
    def target(self) -> str:
        """The one that is dialled now."""
        return self._targets[0]

    def turn(self) -> None:
        """To the next one: this one does not answer."""
        self._targets.rotate(-1)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.target)
        return parts.hostname or "", parts.port or 0

    def __call__(self) -> ClientConnection:
        """As an agent, to the one that is dialled now."""
        return self.to(self.target, "/agent")

    def to(self, target: str, path: str) -> ClientConnection:
        """One more connection, to this server; another machine's socket stands for the one that is dialled now."""
        if target.startswith("/") != self.target.startswith("/"):
            target = self.target
        options: dict[str, Any] = {"compression": None, "max_size": 256 << 20, "open_timeout": 10, "proxy": None}
        if self.trust is not None:
            options |= {"ssl": self.trust.context(), "server_hostname": SERVER_NAME}
        if target.startswith("/"):
            local: ClientConnection = unix_connect(target, "ws://nephos" + path, **options)
            return local
        remote: ClientConnection = connect(target.rstrip("/") + path, **options)
        return remote

    def explain(self, wrong: Exception) -> str:
        """Why it cannot be reached, in words that name a certificate that is at fault."""
        if self.trust is None:
            return str(wrong)
        return self.trust.explain(wrong, self.address, contexts.presented)


class Connection:
    """`hello` signs a challenge; `changes`, `asked` and `digests` are the agent's own."""

    def __init__(
        self,
        dial: Dial,
        *,
        hello: Callable[[wire.Challenge], wire.Hello],
        changes: Callable[[Sequence[wire.HostState]], None],
        asked: Callable[[wire.Ask], Any],
        digests: Callable[[], dict[str, bytes]],
        connected: Callable[[], None],
    ) -> None:
        self._dial = dial
        self._hello, self._changes, self._asked = hello, changes, asked
        self._digests, self._connected = digests, connected
        self._results: deque[wire.Result] = deque()
        self._seen: deque[wire.Seen] = deque(maxlen=MOST_SIGHTINGS)
        self._numbers = itertools.count(1)
        self._bells: queue.SimpleQueue[tuple[str, ...] | None] = queue.SimpleQueue()
        self._outgoing = threading.Event()
        self._acknowledged = threading.Event()
        self._report: wire.Report | None = None
        self._socket: ClientConnection | None = None
        self._names: tuple[str, ...] = ()
        self._since: dict[str, int] = {}
        self._stale: set[str] = set()
        self._pulls: dict[int, queue.SimpleQueue[wire.Changes | None]] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True)
            for loop in (self._dial_loop, self._pull_loop, self._report_loop)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._outgoing.set()
        self._bells.put(None)
        socket = self._socket
        if socket is not None:
            socket.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)

    def result(self, result: wire.Result) -> None:
        """Report the end of a task; kept until the ledger has it."""
        self._results.append(result)
        self._outgoing.set()

    def seen(self, seen: wire.Seen) -> None:
        """Report a sighting; kept until the ledger has it."""
        self._seen.append(seen)
        self._outgoing.set()

    # --- dialling and listening ------------------------------------------------------------------------------

    def _dial_loop(self) -> None:
        pause = 0.05
        while not self._stop.is_set():
            began = clock.monotonic()
            try:
                with self._dial() as socket:
                    self._greet(socket)
                    self._listen(socket)
            except Exception as wrong:
                log.log(_how_bad(wrong), "the connection to %s ended: %s", self._dial.target, self._dial.explain(wrong))
                self._dial.turn()
            finally:
                self._socket = None
                for waiting in list(self._pulls.values()):
                    waiting.put(None)
                self._acknowledged.set()
            if clock.monotonic() - began > SLOWEST_DIAL:
                pause = 0.05
            self._stop.wait(pause)
            pause = min(pause * 2, SLOWEST_DIAL)

    def _greet(self, socket: ClientConnection) -> None:
        challenge = wire.decode(socket.recv(10))
        if not isinstance(challenge, wire.Challenge):
            raise ValueError("the server did not challenge")
        socket.send(wire.encode(self._hello(challenge)))
        welcome = wire.decode(socket.recv(10))
        if not isinstance(welcome, wire.Welcome):
            raise ValueError("the server did not welcome")
        self._names = tuple(welcome.hosts)
        self._stale.update(self._names)
        self._socket = socket
        try:
            self._connected()
        except Exception:
            log.exception("telling how the guests are")
        self._bells.put(self._names)
        self._outgoing.set()

    def _listen(self, socket: ClientConnection) -> None:
        while True:
            try:
                message = wire.decode(socket.recv())
            except ConnectionClosed:
                return
            if isinstance(message, wire.Bell):
                self._bells.put(message.hosts)
            elif isinstance(message, wire.Changes):
                waiting = self._pulls.pop(message.number, None)
                if waiting is not None:
                    waiting.put(message)
            elif isinstance(message, wire.Ack):
                self._acknowledge(message)
            elif isinstance(message, wire.Renewed):
                self._renewed(message)
            elif isinstance(message, wire.Ask):
                threading.Thread(target=self._answer, args=(socket, message), daemon=True).start()

    def _answer(self, socket: ClientConnection, ask: wire.Ask) -> None:
        try:
            answer = wire.Answer(ask.number, self._asked(ask))
        except errors.NephosError as wrong:
            answer = wire.Answer(ask.number, None, wrong.message)
        except Exception as wrong:
            log.exception("asked for %s", ask.kind)
            answer = wire.Answer(ask.number, None, f"{type(wrong).__name__}: {wrong}")
        self._send(socket, answer)

    def _send(self, socket: ClientConnection | None, message: wire.Message) -> bool:
        if socket is None:
            return False
        try:
            socket.send(wire.encode(message))
        except (ConnectionClosed, OSError):
            return False
        return True

    # --- pulling ---------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Ask for a new certificate in good time: the connection that is open does not need one, the next one does."""
        trust = self._dial.trust
        if trust is not None and trust.due and self._names:
            self._send(self._socket, wire.Renew(self._names[0]))

    def _renewed(self, message: wire.Renewed) -> None:
        try:
            if self._dial.trust is not None and message.certificate:
                before = self._dial.trust.standing
                self._dial.trust.take(message.certificate, message.authorities)
                log.info("the certificate of host %s is renewed", message.host)
                if self._dial.trust.standing != before and self._socket is not None:
                    self._socket.close()  # the next connection tells the server
        except errors.SettingsError as wrong:
            log.error("the certificate of host %s is not renewed: %s", message.host, wrong.message)

    def _pull_loop(self) -> None:
        """Ask for the hosts that a bell named, and now and then for all: a bell may be lost while others ring."""
        all_at = clock.monotonic() + PULL_EVERY
        while not self._stop.is_set():
            names: set[str] = set()
            try:
                names.update(self._bells.get(timeout=max(0.0, all_at - clock.monotonic())) or ())
                while True:
                    names.update(self._bells.get_nowait() or ())
            except queue.Empty:
                pass
            if clock.monotonic() >= all_at:
                names.update(self._names)
                all_at = clock.monotonic() + PULL_EVERY
                self._renew()
            if names and self._socket is not None and not self._stop.is_set():
                try:
                    self._pull(names)
                except Exception:
                    log.exception("taking changes")
                    self._bells.put(tuple(names))
                    self._stop.wait(1)

    def _pull(self, names: set[str]) -> None:
        number = next(self._numbers)
        waiting: queue.SimpleQueue[wire.Changes | None] = queue.SimpleQueue()
        self._pulls[number] = waiting
        everything = names & self._stale
        since = {name: 0 if name in everything else self._since.get(name, 0) for name in names}
        try:
            if not self._send(self._socket, wire.Pull(number, since)):
                return
            changes = waiting.get(timeout=60)
        except queue.Empty:
            return
        finally:
            self._pulls.pop(number, None)
        if changes is not None:
            self._changes(changes.states)
            for state in changes.states:
                self._since[state.host] = state.revision
                if state.full:
                    self._stale.discard(state.host)

    # --- reporting -------------------------------------------------------------------------------------------

    def _report_loop(self) -> None:
        """One report at a time: while the server writes it, what comes next gathers into the following one."""
        digest_at = clock.monotonic() + DIGEST_EVERY
        while not self._stop.is_set():
            self._outgoing.wait(DIGEST_EVERY)
            self._outgoing.clear()
            if self._socket is None:
                self._stop.wait(0.05)
                if self._results or self._seen or self._report:
                    self._outgoing.set()
                continue
            digests: dict[str, bytes] = {}
            if clock.monotonic() >= digest_at:
                digests, digest_at = self._digests(), clock.monotonic() + DIGEST_EVERY
            if self._report is None:
                if not self._results and not self._seen and not digests:
                    continue
                self._report = wire.Report(next(self._numbers), _take(self._results), _take(self._seen), digests)
            self._acknowledged.clear()
            if self._send(self._socket, self._report):
                self._acknowledged.wait(30)
            if self._results or self._seen or self._report is not None:
                self._outgoing.set()

    def _acknowledge(self, ack: wire.Ack) -> None:
        if self._report is not None and self._report.number == ack.number:
            self._report = None
        if ack.stale:
            self._stale.update(ack.stale)
            self._bells.put(ack.stale)
        self._acknowledged.set()


def _how_bad(wrong: Exception) -> int:
    """A server that is away is ordinary; one that talks nonsense, refuses, or is not who it should be, is not."""
    away = isinstance(wrong, OSError | TimeoutError) and not isinstance(wrong, ssl.SSLError)
    return logging.INFO if away else logging.ERROR


def _take(source: deque[T]) -> tuple[T, ...]:
    taken: list[T] = []
    while source and len(taken) < MOST_IN_A_REPORT:
        taken.append(source.popleft())
    return tuple(taken)
