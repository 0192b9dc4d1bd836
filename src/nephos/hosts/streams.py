"""The streams listener: agents (and, later, consoles) over websockets; image bytes for agents by ranges.

It is the only asyncio in the product and runs in a thread of its own. Everything that touches the ledger goes to a
small pool. It listens on a TCP port and on a Unix socket, which a local agent reaches from any network namespace.

With TLS the port asks for a host's certificate where only agents have business. It keeps strangers from saying a word;
who an agent is, it proves by signing a challenge with the key that the ledger knows, on either way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import itertools
import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import websockets
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from nephos import errors
from nephos.hosts import desired, enrolment, reports, wire
from nephos.hosts.actions import UP_SECONDS
from nephos.hosts.guest import Piece
from nephos.hosts.relay import Relay
from nephos.hosts.tunnels import Tunnels
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.tls.contexts import Listening, peer_key
from nephos.kernel.tls.keeper import Keeper

log = logging.getLogger(__name__)
ALIVE_EVERY = 10.0
HEARD_SECONDS = 25.0
"""An agent asks by itself every ten seconds. One that was not heard of for longer does not count as alive any more,
although its connection may look open: its machine lost its power, or the network."""
ASK_SECONDS = 10.0
MOST_BYTES = 8 << 20
"""The longest range that is answered at once."""

_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")

OpenImage = Callable[[str], tuple[Path, int]]
"""An image link → file and size. Raises NephosError for a link that is wrong or too old."""
OpenTunnel = Callable[[str], None]
"""Raises NephosError for a link that opens no way from a host to another."""
OpenDisks = Callable[[str], tuple[str, str]]
"""A link to a guest that moves → the id of the host that has it set aside, and its own. Raises NephosError as above."""


class Connection:
    """One agent: the hosts that it proved to speak for."""

    def __init__(self, socket: ServerConnection, ids: dict[str, str]) -> None:
        self.socket = socket
        self.ids = ids
        self.names = {host_id: name for name, host_id in ids.items()}
        self.rung: deque[str] = deque()
        self.answers: dict[int, asyncio.Future[wire.Answer]] = {}
        self.pulled: dict[str, int] = {}
        self.trusts: dict[str, tuple[str, ...]] = {}
        self.heard = clock.monotonic()

    async def send(self, message: wire.Message) -> None:
        await self.socket.send(wire.encode(message))


class Streams:
    """Start it with `start`, end it with `stop`; `ask` is what `Hosts.asker` becomes."""

    def __init__(
        self,
        cloud: Cloud,
        *,
        host: str,
        port: int,
        socket: Path,
        open_image: OpenImage,
        open_disks: OpenDisks,
        open_tunnel: OpenTunnel,
        keeper: Keeper | None = None,
    ) -> None:
        """With a `keeper` of certificates the port speaks TLS."""
        self._cloud = cloud
        self._keeper = keeper
        self._address = (host, port)
        self._socket = socket
        self._open_image = open_image
        self._open_disks = open_disks
        self._open_tunnel = open_tunnel
        self._tunnels = Tunnels()
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(6, thread_name_prefix="streams")
        self._by_host: dict[str, Connection] = {}
        self._numbers = itertools.count(1)
        self._servers: list[Server] = []
        self._ready = threading.Event()
        self._wrong: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._flushing = False
        self._stopping = asyncio.Event()
        self._unlisten: Callable[[], None] = lambda: None
        self._relay = (
            None
            if cloud.database.embedded
            else Relay(cloud, ask=self.ask, connected=self.connected, changed=self._heard)
        )

    def start(self) -> None:
        """Returns when both sockets listen. Raises SettingsError when the port is taken."""
        self._thread.start()
        self._ready.wait()
        if self._wrong is not None:
            raise errors.SettingsError(f"The streams listener cannot start: {self._wrong}")
        self._cloud.hosts.asker = self._relay.ask if self._relay else self.ask
        self._cloud.hosts.connected = self.connected
        self._unlisten = self._cloud.doorbell.listen(self._heard)
        if self._relay is not None:
            self._relay.start()

    def stop(self) -> None:
        """Close every connection; the agents dial again and again until a server is there."""
        self._unlisten()
        if self._relay is not None:
            self._relay.stop()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def connected(self) -> set[str]:
        """Ids of the hosts whose agent is connected to this server."""
        return set(self._by_host)

    def ask(self, host_id: str, kind: str, item_id: str, limit: int | None) -> Any:
        """See `Hosts.ask`."""
        if host_id not in self._by_host or self._loop.is_closed():
            raise errors.Unavailable("The host's agent is not connected.")
        future = asyncio.run_coroutine_threadsafe(self._ask(host_id, kind, item_id, limit), self._loop)
        try:
            answer = future.result(ASK_SECONDS)
        except TimeoutError as late:
            future.cancel()
            raise errors.Unavailable(f"The host's agent did not answer within {ASK_SECONDS:g} seconds.") from late
        if answer.error is not None:
            raise errors.HostFault(answer.error)
        return answer.value

    # --- the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._listen())
        except Exception as wrong:
            self._wrong = wrong
        self._ready.set()
        if self._wrong is None:
            keeping = self._loop.create_task(self._keep_alive())
            self._loop.run_until_complete(self._stopping.wait())
            keeping.cancel()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _listen(self) -> None:
        options: dict[str, Any] = {
            "process_request": self._process,
            "max_size": 64 << 20,
            "compression": None,
            "ping_interval": 20,
            "ping_timeout": 40,
        }
        tls = None
        if self._keeper is not None:
            tls = Listening(self._keeper)
            self._keeper.on_change(lambda: self._in_loop(lambda: self._trust(tls)))
        context = tls.context if tls else None
        self._servers.append(await serve(self._serve, *self._address, ssl=context, **options))
        self._socket.unlink(missing_ok=True)
        self._servers.append(await unix_serve(self._serve, str(self._socket), **options))
        self._socket.chmod(0o600)

    def _in_loop(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for server in self._servers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 2)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _process(self, socket: ServerConnection, request: Request) -> Response | None:
        if getattr(request, "method", "GET") != "GET":
            return _response(405, b"Only GET is served here.\n", {"Allow": "GET"})
        path = request.path.partition("?")[0]
        if path in ("/join", "/ca.pem") and self._keeper is not None:
            return None if path == "/join" else _response(200, self._keeper.authority.pem.read_bytes())
        connection = socket.transport.get_extra_info("ssl_object")
        if (
            connection is not None
            and peer_key(connection) is None
            and (path == "/agent" or path.startswith(("/images/", "/disks/", "/tunnels/")))
        ):
            return _response(401, b"An agent presents the certificate that its host got when it joined.\n")
        if path == "/agent":
            return None
        if path.startswith("/tunnels/"):
            return await self._may_tunnel(path.split("/")[2])
        if path.startswith("/images/"):
            answer: Response = await self._in_pool(
                self._image, path.removeprefix("/images/"), request.headers.get("Range", "")
            )
            return answer
        if path.startswith("/disks/"):
            return await self._disks(path.removeprefix("/disks/"), request.headers.get("Range", ""))
        return _response(404, b"There is nothing here.\n")

    async def _may_tunnel(self, link: str) -> Response | None:
        try:
            await self._in_pool(self._open_tunnel, link)
        except errors.NephosError as wrong:
            return _response(wrong.status if wrong.status < 500 else 503, (wrong.message + "\n").encode())
        return None

    async def _disks(self, path: str, wanted: str) -> Response:
        """The parts of a guest that moves, or one piece of one (`LINK/NAME`): asked of the host that has them. Nothing of it
        is kept here, and no thread waits for the host."""
        link, _, name = path.partition("/")
        range_ = _RANGE.fullmatch(wanted)
        if range_ is None or not range_[2]:
            return _response(416, b"A range is asked for.\n")
        try:
            host_id, guest_id = await self._in_pool(self._open_disks, link)
            if name:
                first, last = int(range_[1]), int(range_[2])
                piece = Piece(guest=guest_id, name=name, offset=first, length=min(last - first + 1, MOST_BYTES))
                value = await self._ask_any(host_id, "piece", msgspec.json.encode(piece).decode())
            else:
                value = await self._ask_any(host_id, "parts", guest_id)
        except errors.NephosError as wrong:
            status = 503 if isinstance(wrong, errors.Unavailable) else min(wrong.status, 500)
            return _response(status, (wrong.message + "\n").encode())
        return _response(206, bytes(value))

    async def _ask_any(self, host_id: str, kind: str, item_id: str) -> Any:
        """As `ask`, from within the loop, of a host whose agent is connected here or to another server."""
        if host_id not in self._by_host and self._relay is not None:
            return await self._in_pool(self._relay.ask, host_id, kind, item_id, None)
        try:
            answer = await asyncio.wait_for(self._ask(host_id, kind, item_id, None), ASK_SECONDS)
        except TimeoutError as late:
            raise errors.Unavailable(f"The host's agent did not answer within {ASK_SECONDS:g} seconds.") from late
        if answer.error is not None:
            raise errors.HostFault(answer.error)
        return answer.value

    def _image(self, link: str, wanted: str) -> Response:
        """One range of an image; one that is too long is cut, and without a Range header it is the image's begin."""
        try:
            path, size = self._open_image(link)
        except errors.NephosError as wrong:
            return _response(wrong.status if wrong.status < 500 else 503, (wrong.message + "\n").encode())
        range_ = _RANGE.fullmatch(wanted or "bytes=0-")
        first = int(range_[1]) if range_ else size
        last = min(int(range_[2] or size) if range_ else size, first + MOST_BYTES - 1, size - 1)
        if last < first:
            return _response(416, b"", {"Content-Range": f"bytes */{size}"})
        try:
            with path.open("rb") as file:
                file.seek(first)
                body = file.read(last - first + 1)
        except OSError as wrong:
            log.error("image bytes: %s", wrong)
            return _response(503, b"The image's bytes cannot be read.\n")
        return _response(206, body, {"Content-Range": f"bytes {first}-{last}/{size}"})

    async def _in_pool(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._pool, call, *arguments)

    async def _serve(self, socket: ServerConnection) -> None:
        path = socket.request.path.partition("?")[0] if socket.request is not None else ""
        if path == "/join":
            await self._join(socket)
            return
        if path.startswith("/tunnels/"):
            link, role, rest = (*path.split("/")[2:], "", "")[:3]
            await self._tunnels.serve(socket, link, role, rest)
            return
        try:
            connection = await self._greet(socket)
        except (websockets.ConnectionClosed, errors.NephosError, TimeoutError, ValueError) as wrong:
            log.warning("an agent was refused: %s", wrong)
            await socket.close(1008, _reason(wrong))
            return
        log.info("agent connected for %s", ", ".join(sorted(connection.ids))[:200])
        for host_id in connection.ids.values():
            self._by_host[host_id] = connection
        try:
            async for raw in socket:
                connection.heard = clock.monotonic()
                await self._message(connection, wire.decode(raw))
        except websockets.ConnectionClosed:
            pass
        except (errors.NephosError, ValueError) as wrong:
            log.warning("the connection of an agent is closed: %s", wrong)
            await socket.close(1011, _reason(wrong))
        finally:
            for host_id in connection.ids.values():
                if self._by_host.get(host_id) is connection:
                    del self._by_host[host_id]
            for waiting in connection.answers.values():
                if not waiting.done():
                    waiting.set_exception(errors.Unavailable("The host's agent went away before it answered."))
            log.info("agent gone for %s", ", ".join(sorted(connection.ids))[:200])

    async def _greet(self, socket: ServerConnection) -> Connection:
        nonce = clock.token_bytes(32)
        await socket.send(wire.encode(wire.Challenge(nonce, self._cloud.settings.cloud_id)))
        hello = wire.decode(await asyncio.wait_for(socket.recv(), 10))
        if not isinstance(hello, wire.Hello):
            raise errors.Unauthorized("An agent says hello first.")
        certified = peer_key(socket.transport.get_extra_info("ssl_object"))
        ids = await self._in_pool(reports.prove, self._cloud, nonce, hello, certified)
        await self._in_pool(reports.arrive, self._cloud, hello, ids)
        connection = Connection(socket, ids)
        connection.trusts = {host.name: host.trusts for host in hello.hosts if host.trusts}
        await connection.send(wire.Welcome(ids))
        await self._entrust(connection)
        return connection

    async def _entrust(self, connection: Connection) -> None:
        """Tell hosts that trust others than they should, or are certified by another than they should be."""
        for name, trusts in connection.trusts.items():
            if self._keeper is not None and trusts != self._keeper.standing:
                await self._renew(connection, name)
                return  # an agent has one key and one certificate, whatever hosts it speaks for

    async def _renew(self, connection: Connection, name: str) -> None:
        authority = self._keeper.authority if self._keeper is not None else None
        certificate = await self._in_pool(enrolment.renew, self._cloud, authority, connection.ids[name])
        await connection.send(wire.Renewed(name, certificate, authority.trusted if authority is not None else b""))

    def _trust(self, tls: Listening) -> None:
        """The certificates or the authorities are others than before."""
        tls.renew()
        for connection in set(self._by_host.values()):
            self._loop.create_task(self._tell(connection))

    async def _tell(self, connection: Connection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await self._entrust(connection)

    async def _join(self, socket: ServerConnection) -> None:
        """Enrol one host that was invited, and give it its certificate."""
        assert self._keeper is not None
        try:
            asked = wire.decode(await asyncio.wait_for(socket.recv(), 10))
            if not isinstance(asked, wire.Join):
                raise errors.Unauthorized("Who joins says so first.")
            certificate = await self._in_pool(enrolment.join, self._cloud, self._keeper.authority, asked)
            settings = self._cloud.settings
            await socket.send(wire.encode(wire.Joined(settings.cloud_id, settings.region, certificate)))
        except (websockets.ConnectionClosed, errors.NephosError, TimeoutError, ValueError) as wrong:
            log.warning("a host may not join: %s", wrong)
            await socket.close(1008, _reason(wrong))
            return
        log.info("host %s joined", asked.name)

    async def _message(self, connection: Connection, message: wire.Message) -> None:
        if isinstance(message, wire.Pull):
            states = await self._in_pool(self._pull, connection, message)
            await connection.send(wire.Changes(message.number, states))
        elif isinstance(message, wire.Report):
            stale = await self._in_pool(self._report, connection, message)
            await connection.send(wire.Ack(message.number, stale))
        elif isinstance(message, wire.Renew) and message.host in connection.ids:
            await self._renew(connection, message.host)
        elif isinstance(message, wire.Answer):
            waiting = connection.answers.pop(message.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    def _pull(self, connection: Connection, pull: wire.Pull) -> tuple[wire.HostState, ...]:
        for name, since in pull.since.items():
            if name in connection.ids:
                connection.pulled[connection.ids[name]] = since
        with self._cloud.database.read() as tx:
            return tuple(
                desired.changes(tx, self._cloud.hosts, name, connection.ids[name], since)
                for name, since in pull.since.items()
                if name in connection.ids
            )

    def _report(self, connection: Connection, report: wire.Report) -> tuple[str, ...]:
        reports.take(self._cloud, report, connection.ids)
        stale: list[str] = []
        if report.digests:
            with self._cloud.database.read() as tx:
                for name, seen in report.digests.items():
                    if (
                        name in connection.ids
                        and desired.digest_of(tx, self._cloud.hosts, connection.ids[name]) != seen
                    ):
                        stale.append(name)
        return tuple(stale)

    async def _ask(self, host_id: str, kind: str, item_id: str, limit: int | None) -> wire.Answer:
        connection = self._by_host.get(host_id)
        if connection is None:
            raise errors.Unavailable("The host's agent is not connected.")
        number = next(self._numbers)
        waiting = connection.answers[number] = self._loop.create_future()
        try:
            await connection.send(wire.Ask(number, connection.names[host_id], kind, item_id, limit))
            answer: wire.Answer = await waiting
        except websockets.ConnectionClosed as gone:
            raise errors.Unavailable("The host's agent went away before it answered.") from gone
        finally:
            connection.answers.pop(number, None)
        return answer

    async def _keep_alive(self) -> None:
        """Note that the connected hosts live; one write for all of them."""
        begun = last = clock.monotonic()
        while True:
            await asyncio.sleep(ALIVE_EVERY)
            now = clock.monotonic()
            if now - last > 2 * ALIVE_EVERY:
                begun = now
            last, since = now, now - HEARD_SECONDS
            heard = {
                host_id: connection.pulled.get(host_id, 0)
                for host_id, connection in self._by_host.items()
                if connection.heard >= since
            }
            if heard:
                try:
                    await self._in_pool(self._alive, heard, now - begun > UP_SECONDS + ALIVE_EVERY)
                except Exception:
                    log.exception("noting which hosts live")

    def _alive(self, heard: dict[str, int], steady: bool) -> None:
        reports.alive(self._cloud, heard, steady=steady)

    # --- the doorbell ----------------------------------------------------------------------------------------

    def _heard(self, topic: str) -> None:
        connection = self._by_host.get(topic)
        if connection is None:
            return
        connection.rung.append(topic)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        for connection in set(self._by_host.values()):
            rung: set[str] = set()
            while connection.rung:
                rung.add(connection.rung.popleft())
            if rung:
                names = tuple(sorted(connection.names[host_id] for host_id in rung))
                self._loop.create_task(self._ring(connection, names))

    async def _ring(self, connection: Connection, names: tuple[str, ...]) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.send(wire.Bell(names))


def _reason(wrong: Exception) -> str:
    """Fit for a close frame, which holds at most 123 bytes."""
    return str(wrong).encode()[:120].decode(errors="ignore")


def _response(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    shown = Headers({"Content-Length": str(len(body)), "Content-Type": "application/octet-stream", **(headers or {})})
    shown["Connection"] = "close"
    return Response(status, http.HTTPStatus(status).phrase, shown, body)
