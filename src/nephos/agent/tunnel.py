"""The two ends of a host's streams to another (`hosts.tunnels`): UNIX sockets here, connections to the server there."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection

log = logging.getLogger(__name__)
BLOCK = 256 * 1024
CONNECT_SECONDS = 30.0
Dial = Callable[[str], ClientConnection]
"""Path at the server → a connection."""


class Entrance:
    """Where this host's side connects to reach the other: one listening socket for each channel. To be used by `with`."""

    def __init__(self, dial: Dial, link: str, doors: Mapping[str, Path]) -> None:
        self._dial, self._link, self._doors = dial, link, doors
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Entrance:
        for channel, path in self._doors.items():
            path.unlink(missing_ok=True)
            door = socket.socket(socket.AF_UNIX)
            self._sockets.append(door)
            door.bind(str(path))
            path.chmod(0o666)  # QEMU's user connects; the folder lets nobody else in
            door.listen(8)
            threading.Thread(target=self._serve, args=(door, channel), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for door in self._sockets:
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            door.close()
        for path in self._doors.values():
            path.unlink(missing_ok=True)

    def _serve(self, door: socket.socket, channel: str) -> None:
        while True:
            try:
                here, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(here, channel), daemon=True).start()

    def _carry(self, here: socket.socket, channel: str) -> None:
        with here:
            try:
                with self._dial(f"/tunnels/{self._link}/source/{channel}") as there:
                    join(here, there)
            except (OSError, TimeoutError, WebSocketException) as wrong:
                log.warning("a stream for %s to another host: %s", channel, wrong)


class Exit:
    """Where what the other host connects comes out: `channels` are the sockets that it may reach, by name."""

    def __init__(self, dial: Dial, link: str, channels: Mapping[str, Path]) -> None:
        """Connects. Raises what dialling raises."""
        self._dial, self._link, self._channels = dial, link, dict(channels)
        self._told = dial(f"/tunnels/{link}/target")
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._told.close()

    def _listen(self) -> None:
        with contextlib.suppress(WebSocketException, OSError):
            for message in self._told:
                number, _, channel = str(message).partition(" ")
                threading.Thread(target=self._carry, args=(number, channel), daemon=True).start()

    def _carry(self, number: str, channel: str) -> None:
        path = self._channels.get(channel)
        try:
            if path is None:
                raise OSError(f"there is no channel {channel!r}")
            here = socket.socket(socket.AF_UNIX)
            with here:
                here.settimeout(CONNECT_SECONDS)
                here.connect(str(path))
                here.settimeout(None)
                with self._dial(f"/tunnels/{self._link}/target/{number}") as there:
                    join(here, there)
        except (OSError, TimeoutError, WebSocketException) as wrong:
            log.warning("a stream for %s from another host: %s", channel, wrong)
            with contextlib.suppress(OSError, WebSocketException):
                self._told.send(number)


def join(here: socket.socket, there: ClientConnection) -> None:
    """Carry bytes both ways until both ends have said all, or one is gone."""
    out = threading.Thread(target=_send, args=(here, there), daemon=True)
    out.start()
    try:
        for message in there:
            if message:
                here.sendall(message if isinstance(message, bytes) else message.encode())
            else:
                here.shutdown(socket.SHUT_WR)
                out.join()
                return
    except (OSError, WebSocketException):
        pass
    finally:
        with contextlib.suppress(OSError):
            here.shutdown(socket.SHUT_RDWR)
        out.join(5)


def _send(here: socket.socket, there: ClientConnection) -> None:
    try:
        while data := here.recv(BLOCK):
            there.send(data)
        there.send(b"")
    except (OSError, WebSocketException):
        with contextlib.suppress(OSError, WebSocketException):
            there.close()
