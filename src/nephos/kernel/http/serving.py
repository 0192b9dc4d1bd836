"""Granian in front of the WSGI application, and the one thing it cannot do: change its certificate while it serves.

Granian reads a certificate when a worker starts. A second worker *process* is no answer: on an embedded ledger there is
exactly one. So with TLS the worker process runs Granian's own WSGI worker on a listening socket that is ours, and for a
new certificate starts another beside it, in the same process and for the same application:

1. both sockets listen on the address (SO_REUSEPORT), and a one-line socket filter gives the new one every new connection;
2. what the old one answers from now on says `Connection: close`, so busy clients come to the new one by themselves;
3. after the keep-alive time of those that say nothing, the old one stops: uploads that still run come to their end.

No request is lost on the way; `tests/kernel/http/test_certificates.py` tries it under load.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from granian import Granian
from granian._futures import _new_cbscheduler
from granian._granian import SocketHolder, WorkerSignal, WSGIWorker
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import WORKERS_METHODS
from granian.server.mp import WorkerProcess
from granian.wsgi import _callback_wrapper

from nephos.kernel import clock
from nephos.kernel.tls.keeper import Files

log = logging.getLogger(__name__)
THREADS = 64
"""Request threads. Slow transfers hold one each, so there are many more than cores; an idle one costs some kilobytes."""
MOST_CONNECTIONS = 4096
"""Open connections, idle ones too. Granian takes up no more, and answers nobody else until one of them ends."""
IDLE_SECONDS = 30.0
"""How long a client may take to send a request's head, and may keep a connection that it does not use."""
MOST_HEAD = 96 << 10
BACKLOG = 1024
_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_RETURN = 0x06

Application = Callable[[dict[str, Any], Any], Any]
_changes: list[Callable[[], None]] = []


def serve(target: str, address: str, port: int, tls: Files | None, *, alone: bool = True) -> None:
    """Serve until SIGTERM. `target` is the factory's `module:name`, called in the worker process; `tls` is key and
    certificate for HTTPS, None for plain HTTP.

    `alone` is that no other server process shares the port: with others the filter of step 1 is left out, for it would
    give this one all of their connections. Then a connection that is opened in the very moment in which the old
    listener ends may be refused.

    HTTP/1.1 only: none of the APIs' clients speak HTTP/2, and its ways to wear out a server need not be kept.
    """
    server = Granian(
        target,
        factory=True,
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=THREADS,
        backlog=BACKLOG,
        backpressure=MOST_CONNECTIONS,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=int(IDLE_SECONDS * 1000), max_buffer_size=MOST_HEAD),
        log_level=LogLevels.error,
        log_access=False,
        respawn_failed_workers=True,
        ssl_cert=tls.certificate if tls else None,
        ssl_key=tls.key if tls else None,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    server.serve(spawn_target=_worker(address, port, alone) if tls else None)


def certificate_changed() -> None:
    """The files that `serve` was given hold another certificate: use it, losing nothing. Returns at once."""
    for change in list(_changes):
        change()


def _worker(address: str, port: int, alone: bool) -> Callable[..., None]:
    """What Granian runs in the worker process in place of its own WSGI worker: see `granian.server.mp`."""

    @WorkerProcess.wrap_target  # type: ignore[untyped-decorator]
    def run(
        worker_id: int,
        application: Application,
        sock: Any,
        ipc: Any,
        loop: Any,
        runtime_mode: Any,
        runtime_threads: int,
        runtime_blocking_threads: int,
        threads: int,
        idle_timeout: int,
        backpressure: int,
        task_impl: Any,
        http_mode: Any,
        http1: Any,
        http2: Any,
        websockets: bool,
        static_path: Any,
        log_format: Any,
        tls: tuple[Any, ...],
        scope: dict[str, Any],
        metrics: Any,
    ) -> None:
        from granian._signals import set_main_signals

        def start(listening: socket.socket, application: Application, ended: Callable[[], None]) -> WorkerSignal:
            held = SocketHolder(os.dup(listening.fileno()), False, BACKLOG)  # type: ignore[call-arg]
            worker = WSGIWorker(
                *(worker_id, (None, held), ipc, runtime_threads, runtime_blocking_threads, threads, idle_timeout),
                *(backpressure, http_mode, http1, http2, static_path, *tls, metrics),
            )
            end = WorkerSignal()
            end.add_cb(ended)
            wrapped = _callback_wrapper(application, scope)
            scheduler = _new_cbscheduler(loop, wrapped, impl_asyncio=True)  # type: ignore[no-untyped-call]
            getattr(worker, WORKERS_METHODS[runtime_mode][False])(scheduler, loop, end)
            return end

        front = Changing(application, start, address, port, alone)
        _changes.append(front.change)
        done = threading.Event()
        set_main_signals(lambda *_: done.set())  # type: ignore[no-untyped-call]
        done.wait()
        front.stop()

    return run  # type: ignore[no-any-return]


class Changing:
    """The listeners of one worker process: one, or two while the certificate changes."""

    def __init__(
        self,
        application: Application,
        start: Callable[[socket.socket, Application, Callable[[], None]], Any],
        address: str,
        port: int,
        alone: bool,
    ) -> None:
        self._alone = alone
        self._application, self._start = application, start
        self._address = address, port
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._listeners = [self._listen()]
        threading.Thread(target=self._run, name="certificates", daemon=True).start()

    def change(self) -> None:
        """Start to serve the new certificate; of several changes at once the last one counts."""
        self._wanted.set()

    def stop(self) -> None:
        """Take no more requests, and return when those that run have their answers."""
        with self._lock:
            leaving = [each for each in self._listeners if not each.ended.is_set()]
            for each in leaving:
                each.end.set()
        for each in leaving:
            each.ended.wait()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._listeners.append(self._listen(position=1))
            except Exception:
                log.exception("the new certificate cannot be served; the former one goes on")
                continue
            log.info("HTTPS serves the new certificate")
            clock.sleep(0.2)  # what the old socket had accepted already
            former = self._listeners[-2]
            former.leaving = True
            clock.sleep(IDLE_SECONDS + 1)
            former.socket.shutdown(
                socket.SHUT_RD
            )  # no more connections; those that it has taken up have a second to ask
            clock.sleep(1)
            with self._lock:
                former.end.set()
                former.socket.close()
                self._listeners = [each for each in self._listeners if not each.ended.is_set()]

    def _listen(self, position: int = 0) -> _Listener:
        listening = socket.socket(socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(self._address)
            listening.setblocking(False)
            listening.listen(BACKLOG)
            if position and self._alone:
                _steer(listening, position)
            listener = _Listener(listening)
            listener.end = self._start(listening, listener.around(self._application), listener.ended.set)
        except BaseException:
            listening.close()
            raise
        return listener


class _Listener:
    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.leaving = False
        self.ended = threading.Event()
        self.end: Any = None

    def around(self, application: Application) -> Application:
        def asked(environ: dict[str, Any], start: Any) -> Any:
            if not self.leaving:
                return application(environ, start)
            return application(environ, lambda status, headers, wrong=None: start(status, [*headers, _CLOSE], wrong))

        return asked


_CLOSE = ("connection", "close")


def _steer(listening: socket.socket, position: int) -> None:
    """Give new connections to the socket at this position of those that listen on the address.

    When there is none at that position any more, the kernel chooses by itself: nothing is to be undone.
    Source: socket(7), SO_ATTACH_REUSEPORT_CBPF.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, position))
    # struct sock_fprog: the count of instructions, and where they are.
    listening.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    )
