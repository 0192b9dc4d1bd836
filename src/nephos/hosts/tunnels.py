"""Byte streams from host to host, through the server that both dial: how the memory and the disks of a guest travel live.

The host that receives holds one connection, `/tunnels/LINK/target`. For each stream the other opens
`/tunnels/LINK/source/CHANNEL`; the first is told `NUMBER CHANNEL` and answers with `/tunnels/LINK/target/NUMBER`, and the
two are joined; or it says `NUMBER` on the connection that it holds: there is no such channel. A stream is binary messages; an empty one says that no more will come from its side. No host listens for
another, and what is on its way waits in the hosts: a slow end slows the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

import websockets
from websockets.asyncio.server import ServerConnection

log = logging.getLogger(__name__)
ANSWER_SECONDS = 20.0
AWAY = 1013


class Tunnels:
    """Lives in the streams listener's loop."""

    def __init__(self) -> None:
        self._targets: dict[str, ServerConnection] = {}
        self._awaited: dict[tuple[str, str], asyncio.Future[ServerConnection]] = {}
        self._numbers = itertools.count(1)

    async def serve(self, socket: ServerConnection, link: str, role: str, rest: str) -> None:
        """One connection, until it ends. The caller knows that the link is good."""
        if role == "source":
            await self._source(socket, link, rest)
        elif role == "target" and rest:
            awaited = self._awaited.pop((link, rest), None)
            if awaited is None or awaited.done():
                await socket.close(AWAY, "nobody waits for this stream")
                return
            awaited.set_result(socket)
            await socket.wait_closed()
        elif role == "target":
            self._targets[link] = socket
            try:
                with contextlib.suppress(websockets.ConnectionClosed):
                    async for message in socket:
                        self._refused(link, str(message))
            finally:
                if self._targets.get(link) is socket:
                    del self._targets[link]

    def _refused(self, link: str, number: str) -> None:
        awaited = self._awaited.pop((link, number), None)
        if awaited is not None and not awaited.done():
            awaited.set_exception(TimeoutError())

    async def _source(self, socket: ServerConnection, link: str, channel: str) -> None:
        target = self._targets.get(link)
        if target is None:
            await socket.close(AWAY, "the other host is not connected to this server")
            return
        number = str(next(self._numbers))
        awaited = self._awaited[link, number] = asyncio.get_running_loop().create_future()
        try:
            await target.send(f"{number} {channel}")
            other = await asyncio.wait_for(awaited, ANSWER_SECONDS)
        except (TimeoutError, websockets.ConnectionClosed):
            await socket.close(AWAY, "the other host does not answer")
            return
        finally:
            self._awaited.pop((link, number), None)
        ways = [asyncio.ensure_future(_pass_on(socket, other)), asyncio.ensure_future(_pass_on(other, socket))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (socket, other):
            await end.close()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(source: ServerConnection, target: ServerConnection) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in source:
            await target.send(message)
