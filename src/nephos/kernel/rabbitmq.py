"""Connections to RabbitMQ, for whoever speaks to it: the doorbell and the notifications.

An address is RabbitMQ's own URI, with more than one host for a cluster:
`amqp://USER:PASSWORD@HOST:5672,HOST:5672/VHOST`, or `amqps://…?cafile=…&certfile=…&keyfile=…` for TLS.
"""

from __future__ import annotations

import ssl
from urllib.parse import parse_qs, unquote, urlsplit

import pika
from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError

from nephos.errors import SettingsError

HEARTBEAT_SECONDS = 30
TIMEOUT = 10.0
_FILES = {"cafile", "certfile", "keyfile"}


def parameters(url: str, name: str) -> list[pika.ConnectionParameters]:
    """One for each host, in the order in which they are tried. `name` is what the broker shows the connection as.

    Raises SettingsError without the password in it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps"):
        raise SettingsError(f"RabbitMQ: {parts.scheme!r} is not amqp or amqps")
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if options.keys() - _FILES:
        raise SettingsError(
            f"RabbitMQ: unknown {', '.join(sorted(options.keys() - _FILES))}; known: cafile, certfile, keyfile"
        )
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    tls = parts.scheme == "amqps"
    found = []
    for place in places.split(","):
        host, port = _place(place, 5671 if tls else 5672)
        found.append(
            pika.ConnectionParameters(
                host=host,
                port=port,
                virtual_host=unquote(parts.path[1:]) or "/",
                credentials=pika.PlainCredentials(unquote(user) or "guest", unquote(password) if login else "guest"),
                heartbeat=HEARTBEAT_SECONDS,
                blocked_connection_timeout=TIMEOUT,
                socket_timeout=TIMEOUT,
                stack_timeout=TIMEOUT,
                connection_attempts=1,
                client_properties={"connection_name": name, "product": "nephos"},
                ssl_options=_tls(options, host) if tls else None,
            )
        )
    return found


def _place(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise SettingsError(f"RabbitMQ: {text!r} is not HOST:PORT") from wrong
    if not host:
        raise SettingsError("RabbitMQ: the address names no host")
    return host, port or default


def _tls(options: dict[str, str], host: str) -> pika.SSLOptions:
    try:
        context = ssl.create_default_context(cafile=options.get("cafile"))
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except OSError as wrong:
        raise SettingsError(f"RabbitMQ: {wrong}") from wrong
    return pika.SSLOptions(context, host)


def connect(choices: list[pika.ConnectionParameters]) -> BlockingConnection:
    """The first host that answers. Raises ConnectionError with the reason when none does."""
    try:
        return BlockingConnection(choices)
    except (AMQPError, OSError) as wrong:
        places = ", ".join(f"{each.host}:{each.port}" for each in choices)
        raise ConnectionError(f"no connection to RabbitMQ at {places}: {wrong!r}") from wrong
