"""The connection to libvirtd: opened when needed, again after libvirtd restarted, and the events that come over it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import libvirt

from nephos.errors import HostFault
from nephos.hypervisor.base import HypervisorAway
from nephos.hypervisor.daemon import SYSTEM_SOCKETS
from nephos.kernel import clock

T = TypeVar("T")

_LOST = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
}
_KEEPALIVE_SECONDS = 5
_KEEPALIVE_COUNT = 6
_REOPEN_SECONDS = 0.5

_loop_lock = threading.Lock()
_loop_runs = False


def uri(uri_or_socket: str | Path) -> str:
    """A libvirt URI as it is, or the URI of the libvirtd that listens on a socket."""
    if isinstance(uri_or_socket, Path) or uri_or_socket.startswith("/"):
        return f"qemu+unix:///system?socket={uri_or_socket}"
    return uri_or_socket


def socket_of(uri_or_socket: str | Path) -> Path:
    """The socket of a libvirtd; the machine's own where a URI names none."""
    found = parse_qs(urlsplit(uri(uri_or_socket)).query).get("socket")
    return Path(found[0]) if found else SYSTEM_SOCKETS[1]


class Connection:
    """One connection, shared by all threads (libvirt serialises calls by itself).

    `listen` is called on a thread of its own with the id of each domain whose lifecycle changed, and with None after
    a reconnect, when any may have.
    """

    def __init__(self, address: str, listen: Callable[[str | None], None]) -> None:
        self._address = address
        self._listen = listen
        self._lock = threading.Lock()
        self._handle: Any = None
        self._closed = False
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        _run_event_loop()
        threading.Thread(target=self._dispatch, name="libvirt-events", daemon=True).start()

    def run(self, what: str, call: Callable[[Any], T]) -> T:
        """`call(connection)`, once more on a new connection when the old one turns out to be dead.

        `call` must be idempotent. Raises what `fault` answers.
        """
        for last in (False, True):
            try:
                return call(self._open())
            except libvirt.libvirtError as error:
                if not last and self._lost(error):
                    self._drop()
                    continue
                raise self.fault(what, error) from error
        raise AssertionError("unreachable")

    def fault(self, what: str, error: libvirt.libvirtError) -> HostFault:
        """The fault "<what>: <libvirt's words>"; HypervisorAway when there is no libvirtd that could have done it."""
        words = f"{what}: {error.get_error_message() or error}"
        return HypervisorAway(words) if self._lost(error) else HostFault(words)

    def close(self) -> None:
        self._closed = True
        self._events.put(None)
        self._drop()

    def _open(self) -> Any:
        with self._lock:
            if self._closed:
                raise HostFault("the connection to libvirt was closed")
            if self._handle is None:
                handle = libvirt.open(self._address)
                handle.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
                handle.registerCloseCallback(self._on_close, None)
                handle.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None)
                self._handle = handle
            return self._handle

    def _lost(self, error: libvirt.libvirtError) -> bool:
        if error.get_error_code() in _LOST:
            return True
        handle = self._handle
        try:
            return handle is None or not handle.isAlive()
        except libvirt.libvirtError:
            return True

    def _drop(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        self._events.put(None)
        with contextlib.suppress(libvirt.libvirtError):  # it is dead: that is why it is dropped
            handle.unregisterCloseCallback()
            handle.close()

    def _on_close(self, handle: Any, reason: int, opaque: object) -> None:
        self._events.put(None)

    def _on_event(self, handle: Any, domain: Any, event: int, detail: int, opaque: object) -> None:
        # On the event loop's thread, where no call may wait for libvirtd: only take note.
        self._events.put(domain.UUIDString())

    def _dispatch(self) -> None:
        while not self._closed:
            event = self._events.get()
            if event is None:
                self._reopen()
            if not self._closed:
                self._listen(event)

    def _reopen(self) -> None:
        """Events come only over an open connection, so open it again as soon as libvirtd is back."""
        while not self._closed:
            try:
                if self._open().isAlive():
                    return
                self._drop()
            except libvirt.libvirtError:
                clock.sleep(_REOPEN_SECONDS)
            except HostFault:
                return


def _run_event_loop() -> None:
    """libvirt delivers events and keep-alives from one loop a process; the first connection starts it."""
    global _loop_runs
    with _loop_lock:
        if _loop_runs:
            return
        libvirt.registerErrorHandler(lambda *_: None, None)  # every error is raised; none is printed as well
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_event_loop, name="libvirt-loop", daemon=True).start()
        _loop_runs = True


def _event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
