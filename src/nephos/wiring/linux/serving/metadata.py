"""The metadata service's front door: http://169.254.169.254 and http://[fe80::a9fe:a9fe%interface] inside each network's
namespace.

Who asks is told by the tap that the packet entered, never by an address the guest chose: the host's bridge rewrites the
request's source MAC to one that carries the port's index, the namespace's ruleset copies it into the packet's mark, and
`tcp_fwmark_accept` makes the accepted socket inherit it. Answers carry the mark back into the destination MAC, which is
pinned to the very tap. So a guest that borrows another's address, with port security off, still asks as itself.
"""

from __future__ import annotations

import logging
import re
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from nephos.wiring.linux.system import names, netns
from nephos.wiring.linux.system.names import METADATA, METADATA6
from nephos.wiring.linux.system.nft import DROP, Table, field, jump, mangle, masked, match, meta
from nephos.wiring.linux.system.reactor import Reactor

log = logging.getLogger(__name__)
LARGEST_REQUEST, DEADLINE = 8192, 15.0
CONNECTIONS, CONNECTIONS_OF_ONE = 256, 16
_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r?(?=\n|\Z)", re.IGNORECASE)

Answer = Callable[[int, str], bytes | None]
"""(port index, path) → the body, None when there is none."""
Take = Callable[[int, str, bytes], int]
"""(port index, path, what is posted) → the HTTP status; may wait."""


def tables(device: str) -> list[Table]:
    """The ruleset of a network's namespace: index MAC → mark on the way in, mark → index MAC on the way out.

    Bit by bit, because nftables copies no part of a MAC into a mark; so the text is the same for every port.
    """
    source, target, mark = field("ether", "saddr"), field("ether", "daddr"), meta("mark")
    versions = (("ip", METADATA), ("ip6", METADATA6))
    asked = [[match(field(ip, "daddr"), address), match(field("tcp", "dport"), 80)] for ip, address in versions]
    coming = Table("inet", "nephos")
    coming.hook("prerouting", "prerouting", -300)
    coming.hook("input", "input", 0)
    coming.chain("index")
    known = match(masked(source, names.INDEX_MAC_MASK), names.INDEX_MAC_PREFIX)
    for question in asked:
        coming.rule("prerouting", *question, known, jump("index"))
    going = Table("netdev", "nephos")
    going.hook("egress", "egress", 0, device=device)
    going.chain("index")
    for ip, address in versions:
        answered = [match(field(ip, "saddr"), address), match(field("tcp", "sport"), 80), match(mark, 0, "!=")]
        going.rule("egress", *answered, mangle(target, names.INDEX_MAC_PREFIX), jump("index"))
    for bit in range(16):
        octets = f"00:00:00:00:{1 << bit >> 8:02x}:{1 << bit & 255:02x}"
        coming.rule("index", match(masked(source, octets), octets), mangle(mark, {"|": [mark, 1 << bit]}))
        going.rule("index", match(masked(mark, 1 << bit), 1 << bit), mangle(target, {"|": [target, octets]}))
    for question in asked:
        coming.rule("input", *question, match(mark, 0), DROP)
    return [coming, going]


class MetadataServer:
    """Serves all namespaces from the reactor; only the lookups run in a few threads of their own, and what is posted, which
    waits for the server, in others."""

    def __init__(self, reactor: Reactor, answer: Answer, take: Take) -> None:
        self._reactor = reactor
        self._answer, self._take = answer, take
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="metadata")
        self._slow = ThreadPoolExecutor(2, thread_name_prefix="metadata-post")
        self._listeners: dict[str, tuple[int | None, tuple[socket.socket, ...]]] = {}
        self._open: Counter[int] = Counter()

    def listen(self, namespace: str) -> None:
        """Answer in this namespace; nothing when it does already."""
        identity = netns.identity(namespace)
        have = self._listeners.get(namespace)
        if have is not None:
            if have[0] == identity:
                return
            self.leave(namespace)
        listeners = netns.inside(namespace, _listeners)
        self._listeners[namespace] = (identity, listeners)
        self._reactor.soon(lambda: self._watch(listeners))

    def leave(self, namespace: str) -> None:
        have = self._listeners.pop(namespace, None)
        if have is not None:
            listeners = have[1]
            self._reactor.soon(lambda: self._drop(listeners))

    def _watch(self, listeners: tuple[socket.socket, ...]) -> None:
        for listener in listeners:
            self._reactor.watch(listener, lambda listener=listener: self._accept(listener))  # type: ignore[misc]

    def _drop(self, listeners: tuple[socket.socket, ...]) -> None:
        for listener in listeners:
            self._reactor.drop(listener)

    def close(self) -> None:
        for namespace in list(self._listeners):
            self.leave(namespace)
        for pool in (self._pool, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        index = connection.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)
        if not index or self._open[index] >= CONNECTIONS_OF_ONE or self._open.total() >= CONNECTIONS:
            connection.close()
            return
        self._open[index] += 1
        _Exchange(self._reactor, connection, index, self._ask, self._ended)

    def _ended(self, index: int) -> None:
        self._open[index] -= 1
        if not self._open[index]:
            del self._open[index]

    def _ask(self, index: int, path: str, posted: bytes | None, done: Callable[[int, bytes], None]) -> None:
        def work() -> None:
            try:
                if posted is None:
                    body = self._answer(index, path)
                    status, text = (404, _words(404)) if body is None else (200, body)
                else:
                    status = self._take(index, path, posted)
                    text = b"" if status == 200 else _words(status)
            except Exception:
                log.exception("metadata %s for port index %d failed", path, index)
                status, text = 500, _words(500)
            self._reactor.soon(lambda: done(status, text))

        (self._pool if posted is None else self._slow).submit(work)


def _words(status: int) -> bytes:
    return f"{status} {HTTPStatus(status).phrase}\n".encode()


def _listeners() -> tuple[socket.socket, ...]:
    """One for each IP version. That of IPv6 listens at every address, because one on the link is bound to a device, which
    may be made anew; whom no mark names is turned away."""
    found = []
    for family, address in ((socket.AF_INET, METADATA), (socket.AF_INET6, "::")):
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, 80))
        listener.listen(128)
        listener.setblocking(False)
        found.append(listener)
    return tuple(found)


class _Exchange:
    """One request and its answer on one connection, bounded in size and time."""

    def __init__(
        self,
        reactor: Reactor,
        connection: socket.socket,
        index: int,
        ask: Callable[[int, str, bytes | None, Callable[[int, bytes], None]], None],
        ended: Callable[[int], None],
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._index = index
        self._ask = ask
        self._ended = ended
        self._closed = False
        self._request = b""
        self._rest = memoryview(b"")
        self._head_only = False
        reactor.watch(connection, self._readable)
        reactor.later(DEADLINE, self._close)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reactor.forget(self._connection)
            self._connection.close()
            self._ended(self._index)

    def _readable(self) -> None:
        try:
            part = self._connection.recv(LARGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._request += part
        if not part:
            self._close()
        elif end := _END.search(self._request):
            self._serve(self._request[: end.start()], self._request[end.end() :])
        elif len(self._request) > LARGEST_REQUEST:
            self._refuse(431)

    def _serve(self, head: bytes, body: bytes) -> None:
        words = head.split(b"\n", 1)[0].split()
        if len(words) != 3 or not words[1].startswith(b"/"):
            self._refuse(400)
        elif words[0] not in (b"GET", b"HEAD", b"POST"):
            self._refuse(405)
        else:
            posted = None
            if words[0] == b"POST":
                length = _LENGTH.search(head)
                if length is None:
                    self._refuse(411)
                    return
                size = int(length[1])
                if size > LARGEST_REQUEST:
                    self._refuse(413)
                    return
                if len(body) < size:
                    return
                posted = body[:size]
            self._reactor.forget(self._connection)
            self._head_only = words[0] == b"HEAD"
            path = words[1].split(b"?", 1)[0].decode("latin-1")
            self._ask(self._index, path, posted, self._reply)

    def _refuse(self, status: int) -> None:
        self._reactor.forget(self._connection)
        self._reply(status, _words(status))

    def _reply(self, status: int, body: bytes) -> None:
        if self._closed:
            return
        kind = "application/json" if body[:1] in (b"{", b"[") else "text/plain; charset=UTF-8"
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        self._rest = memoryview(head if self._head_only else head + body)
        self._writable()

    def _writable(self) -> None:
        try:
            self._rest = self._rest[self._connection.send(self._rest) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if self._rest:
            self._reactor.watch(self._connection, self._writable, write=True)
            return
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        self._reactor.watch(self._connection, self._drain)

    def _drain(self) -> None:
        """Wait for the guest to close, so that unread input does not turn the answer into a reset."""
        try:
            if self._connection.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close()
