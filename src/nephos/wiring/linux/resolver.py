"""DNS for guests: dnsmasq in a network's namespace knows the network's names and asks this relay for all others.

A namespace has no route to the outside, the host has; so names resolve on a network without a router too, and whatever
way the host itself resolves (a local stub on 127.0.0.53 as well). Plain relay of datagrams, answers matched by socket.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from nephos.wiring.linux import netns
from nephos.wiring.linux.reactor import Reactor

log = logging.getLogger(__name__)
RESOLV_CONF = Path("/etc/resolv.conf")
LISTEN = ("127.0.0.1", 53)
TIMEOUT, PENDING = 5.0, 512


class Resolver:
    """Relays in every namespace that it was told to. Queries beyond `PENDING` unanswered ones are dropped."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._sockets: dict[str, tuple[int | None, socket.socket]] = {}
        self._pending: set[socket.socket] = set()
        self._servers: tuple[int, list[str]] = (0, [])

    def listen(self, namespace: str) -> None:
        identity = netns.identity(namespace)
        have = self._sockets.get(namespace)
        if have is not None:
            if have[0] == identity:
                return
            self.leave(namespace)
        entrance = netns.inside(namespace, _entrance)
        self._sockets[namespace] = (identity, entrance)
        self._reactor.soon(lambda: self._reactor.watch(entrance, lambda: self._asked(entrance)))

    def leave(self, namespace: str) -> None:
        have = self._sockets.pop(namespace, None)
        if have is not None:
            entrance = have[1]
            self._reactor.soon(lambda: self._reactor.drop(entrance))

    def close(self) -> None:
        for namespace in list(self._sockets):
            self.leave(namespace)
        self._reactor.soon(self._drop_pending)

    def _drop_pending(self) -> None:
        for upstream in list(self._pending):
            self._done(upstream)

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


def _entrance() -> socket.socket:
    entrance = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    entrance.bind(LISTEN)
    return entrance
