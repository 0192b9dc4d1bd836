"""Whether a client went away in the middle of a body that tells no length.

hyper, under Granian, ends a WSGI application's body in the same way when the last chunk came and when the client died
before it, and it does not tell which connection a request is from. But it keeps the connection of a request until that
has its answer. So while an upload waits for its answer, a dead client's socket is one of this process's, is not
established any more and has received at least the body.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from nephos.kernel import clock

WAIT_SECONDS = 1.0
"""How long a dead connection is given to be another request's, which ends by itself."""
_ESTABLISHED, _LISTEN = 1, 10
_STATE, _RECEIVED = struct.Struct("B"), struct.Struct("128xQ")
"""Of Linux's struct tcp_info (tcp(7)): tcpi_state, and tcpi_bytes_received of everything so far."""


def broke_off(port: int, count: int) -> bool:
    """Whether a request to this port that sent `count` bytes of body and waits for its answer may have no client.

    Never False for one whose client closed or was cut off. True for a whole one only while another that sent as much
    died in the same second. A client that keeps its connection and sends nonsense for a chunk is not found.
    """
    end = clock.monotonic() + WAIT_SECONDS
    while (found := _dead(port, count)) and clock.monotonic() < end:
        clock.sleep(0.05)
    return found


def _dead(port: int, count: int) -> bool:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if not entry.is_socket():
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as held:
                if held.type != socket.SOCK_STREAM or held.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                if held.getsockname()[1] != port:
                    continue
                info = held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size)
            if _STATE.unpack_from(info)[0] not in (_ESTABLISHED, _LISTEN) and _RECEIVED.unpack(info)[0] >= count:
                return True
    return False
