"""Notifications as HTTP POSTs, each with a signature that only the holder of the shared secret can make.

The body is the message as JSON. `X-Nephos-Signature` is `sha256=` and the HMAC-SHA256, in hexadecimal, of
`X-Nephos-Timestamp` (seconds since the epoch), a dot, and the body. `X-Nephos-Delivery` is the message's id: the same
when one comes twice. Only the operator's settings name addresses; link-local ones, where machines keep their
metadata, are refused all the same, and redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

import msgspec

from nephos.errors import SettingsError
from nephos.kernel import clock
from nephos.kernel.notifications.outbox import Waiting
from nephos.kernel.notifications.sinks import Refused

TIMEOUT = 10.0
REFUSALS = frozenset({400, 410, 413, 415, 422})
"""Answers that say something of this very notification. All other failures are the receiver's, and pass."""
METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254")})
"""Metadata services that are not on a link-local address."""


class _Head(msgspec.Struct):
    message_id: str


class WebhookSink:
    """POSTs to one URL, over one connection that is kept. `link_local` lets it connect to such addresses too.

    Raises SettingsError for what is no HTTP URL, or has a user and password in it.
    """

    def __init__(self, name: str, url: str, secret: str, *, link_local: bool = False) -> None:
        self.name = name
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise SettingsError(f"{name}: {url!r} is not http(s)://HOST[:PORT]/PATH")
        if not secret:
            raise SettingsError(f"{name}: a secret is needed to sign what is sent")
        self._secret = secret.encode()
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        context = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        self._connection = _Connection(parts.hostname, port, context, link_local=link_local)

    def send(self, one: Waiting) -> None:
        body = one.message.encode()
        stamp = str(int(clock.now()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "nephos",
            "X-Nephos-Event": one.event,
            "X-Nephos-Delivery": msgspec.json.decode(body, type=_Head).message_id,
            "X-Nephos-Timestamp": stamp,
            "X-Nephos-Signature": "sha256=" + sign(self._secret, stamp, body),
        }
        status = self._post(body, headers)
        if 200 <= status < 300:
            return
        if status in REFUSALS:
            raise Refused(f"HTTP {status}")
        raise OSError(f"HTTP {status}")

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        kept = self._connection.sock is not None
        try:
            return self._try(body, headers)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:
                raise
        # the receiver had closed the connection since the last one
        return self._try(body, headers)

    def _try(self, body: bytes, headers: dict[str, str]) -> int:
        try:
            self._connection.request("POST", self._path, body, headers)
            answer = self._connection.getresponse()
            answer.read(1 << 16)
            if not answer.isclosed():
                self._connection.close()
            return answer.status
        except BaseException:
            self._connection.close()
            raise

    def idle(self) -> None:
        """Nothing to do: a connection that was closed is made again."""

    def close(self) -> None:
        self._connection.close()


def sign(secret: bytes, stamp: str, body: bytes) -> str:
    """The signature of a body that was sent at a time, in hexadecimal."""
    return hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _Connection(http.client.HTTPConnection):
    """Looks at the address that it came out at before it says a word there, whatever a name resolved to."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, *, link_local: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._context, self._link_local = context, link_local

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), TIMEOUT)
        try:
            if not self._link_local:
                _refuse_metadata(plain.getpeername()[0])
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host) if self._context else plain
        except BaseException:
            plain.close()
            raise


def _refuse_metadata(text: str) -> None:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or address in METADATA:
        raise OSError(f"{address} is link-local: notifications do not go to metadata services")
