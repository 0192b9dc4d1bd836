"""DNS for guests: dnsmasq in a network's namespace knows the network's names and asks this relay for all others.

A namespace has no route to the outside, the host has; so names resolve on a network without a router too, and whatever
way the host itself resolves (a local stub on 127.0.0.53 as well). A plain relay: of datagrams, answers matched by
socket, and of streams, for answers too large for one.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

from nephos.wiring.linux.system import netns
from nephos.wiring.linux.system.reactor import Reactor

log = logging.getLogger(__name__)
RESOLV_CONF = Path("/etc/resolv.conf")
LISTEN = ("127.0.0.1", 53)
TIMEOUT, PENDING = 5.0, 512
STREAM_TIMEOUT, STREAM_CHUNK = 10.0, 16384


class Resolver:
    """Relays in every namespace that it was told to. Queries and streams beyond `PENDING` open ones are dropped."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._sockets: dict[str, tuple[int | None, socket.socket, socket.socket]] = {}
        self._pending: set[socket.socket] = set()
        self._streams: set[_Stream] = set()
        self._servers: tuple[int, list[str]] = (0, [])

    def listen(self, namespace: str) -> None:
        identity = netns.identity(namespace)
        have = self._sockets.get(namespace)
        if have is not None:
            if have[0] == identity:
                return
            self.leave(namespace)
        entrance, listener = netns.inside(namespace, _entrances)
        self._sockets[namespace] = (identity, entrance, listener)
        self._reactor.soon(lambda: self._reactor.watch(entrance, lambda: self._asked(entrance)))
        self._reactor.soon(lambda: self._reactor.watch(listener, lambda: self._connected(listener)))

    def leave(self, namespace: str) -> None:
        have = self._sockets.pop(namespace, None)
        if have is not None:
            _, entrance, listener = have
            self._reactor.soon(lambda: self._reactor.drop(entrance))
            self._reactor.soon(lambda: self._reactor.drop(listener))

    def close(self) -> None:
        for namespace in list(self._sockets):
            self.leave(namespace)
        self._reactor.soon(self._drop_pending)

    def _drop_pending(self) -> None:
        for upstream in list(self._pending):
            self._done(upstream)
        for stream in list(self._streams):
            stream.close()

    def servers(self) -> list[str]:
        """The host's own name servers, read again when the file changed."""
        try:
            changed = RESOLV_CONF.stat().st_mtime_ns
            if changed != self._servers[0]:
                lines = (line.split() for line in RESOLV_CONF.read_text(errors="replace").splitlines())
                found = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
                self._servers = (changed, found)
        except OSError:
            return []
        return self._servers[1]

    def _connected(self, listener: socket.socket) -> None:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        servers = self.servers()
        if not servers or len(self._streams) >= PENDING:
            near.close()
            return
        near.setblocking(False)
        self._streams.add(_Stream(self._reactor, near, servers[0], self._streams.discard))

    def _asked(self, entrance: socket.socket) -> None:
        try:
            query, asker = entrance.recvfrom(65535)
        except OSError:
            return
        servers = self.servers()
        if not servers or len(self._pending) >= PENDING:
            return
        # dnsmasq repeats an unanswered query with the same id: the next server's turn.
        self._ask(entrance, asker, query, servers)

    def _ask(self, entrance: socket.socket, asker: tuple[str, int], query: bytes, servers: list[str]) -> None:
        server = servers[0]
        upstream = socket.socket(
            socket.AF_INET6 if ":" in server else socket.AF_INET,
            socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
        )
        self._pending.add(upstream)

        def answered() -> None:
            try:
                answer = upstream.recv(65535)
            except OSError:
                failed()
                return
            if answer[:2] == query[:2]:
                self._done(upstream)
                try:
                    entrance.sendto(answer, asker)
                except OSError:
                    log.debug("an answer came after its namespace was gone")

        def failed() -> None:
            if self._done(upstream) and servers[1:]:
                self._ask(entrance, asker, query, servers[1:])

        try:
            upstream.connect((server, 53))
            upstream.send(query)
        except OSError:
            failed()
            return
        self._reactor.watch(upstream, answered)
        self._reactor.later(TIMEOUT / max(1, len(servers)), failed)

    def _done(self, upstream: socket.socket) -> bool:
        if upstream not in self._pending:
            return False
        self._pending.discard(upstream)
        self._reactor.drop(upstream)
        return True


class _Stream:
    """A stream from dnsmasq, joined to one to a server; ends when either does, or after `STREAM_TIMEOUT`."""

    def __init__(self, reactor: Reactor, near: socket.socket, server: str, ended: Callable[[_Stream], None]) -> None:
        self._reactor = reactor
        self._ended = ended
        self._open = True
        self._near = near
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._far = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind)
        reactor.later(STREAM_TIMEOUT, self.close)
        try:
            self._far.connect((server, 53))
        except BlockingIOError:
            reactor.watch(self._far, self._joined, write=True)
        except OSError:
            self.close()
        else:
            self._joined()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._reactor.drop(self._near)
            self._reactor.drop(self._far)
            self._ended(self)

    def _joined(self) -> None:
        if self._far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close()
            return
        for source, target in ((self._near, self._far), (self._far, self._near)):
            self._reactor.watch(source, lambda source=source, target=target: self._pass(source, target))  # type: ignore[misc]

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        """A message that the other side's buffer does not take whole ends the stream: DNS messages are 64 KiB at most."""
        try:
            data = source.recv(STREAM_CHUNK)
            if data and target.send(data) == len(data):
                return
        except OSError:
            pass
        self.close()


def _entrances() -> tuple[socket.socket, socket.socket]:
    found = []
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        entrance = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        entrance.bind(LISTEN)
        found.append(entrance)
    found[1].listen(16)
    return found[0], found[1]
