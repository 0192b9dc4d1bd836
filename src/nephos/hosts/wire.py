"""What a server and an agent say to each other, as MessagePack over one websocket.

The agent asks and the server answers; the server on its own only rings (`Bell`) and asks for live things (`Ask`). A
connection speaks for one host or, with fake hosts, for many, so everything names its host. Bodies of desired items are
the types of `wiring.base` and of `hosts.guest`, carried encoded so that this module knows nothing about them.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base: the type travels as a tag, so one decoder reads all."""


class Challenge(Message, frozen=True):
    """Server, first: the agent signs `nonce` with each host's key."""

    nonce: bytes
    cloud_id: str


class HostHello(msgspec.Struct, frozen=True):
    """One host that the agent speaks for. `signature` is Ed25519 over b"nephos-agent:" + nonce + name.

    `network_capacity` is what ports with minimum rules may have: name of a physical network → direction → kbit/s, and
    under "" thousands of packets a second. `trusts` is its standing among authorities (`kernel.tls.authority`), of a
    host that dials by TLS.
    """

    name: str
    signature: bytes
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    ram_mb: int
    disk_gb: int
    cpu_info: dict[str, Any] = {}
    tunnel_address: str | None = None
    physical: tuple[str, ...] = ()
    switch: str = "linux"
    tunnel_fallback: str | None = None
    network_capacity: dict[str, dict[str, int]] = {}
    trusts: tuple[str, ...] = ()


class Hello(Message, frozen=True):
    """Agent: who it is. A host that is not enrolled, or whose signature is wrong, ends the connection."""

    hosts: tuple[HostHello, ...]
    version: str


class Welcome(Message, frozen=True):
    """Server: host name → host id."""

    hosts: dict[str, str]


class Renew(Message, frozen=True):
    """Agent: one of its hosts wants a new certificate for the key that it proved."""

    host: str


class Renewed(Message, frozen=True):
    """Server, asked or not: the certificate, and the authorities to trust from now on, PEM; empty from a server that has
    no authority."""

    host: str
    certificate: bytes
    authorities: bytes = b""


class Join(Message, frozen=True):
    """A host that is not in the cloud yet, on a connection for this alone: the ticket of its invitation, the name that
    it wants and its Ed25519 key (hexadecimal)."""

    ticket: str
    name: str
    public_key: str


class Joined(Message, frozen=True):
    """Server: the host is enrolled. `certificate` is PEM, for the key that it sent."""

    cloud_id: str
    region: str
    certificate: bytes


class Bell(Message, frozen=True):
    """Server: something waits for these hosts."""

    hosts: tuple[str, ...]


class Pull(Message, frozen=True):
    """Agent: what changed for these hosts since these revisions? 0 asks for all. `number` comes back in the answer."""

    number: int
    since: dict[str, int]


class Item(msgspec.Struct, frozen=True):
    """One desired item, encoded; `body` None means it is gone from this host."""

    kind: str
    id: str
    body: bytes | None = None


class Task(msgspec.Struct, frozen=True):
    """Work for a host: `id` is (operation, step, attempt), `body` by kind (`hosts.guest`)."""

    id: str
    kind: str
    body: msgspec.Raw


class HostState(msgspec.Struct, frozen=True):
    """The answer for one host: with `full` the items are all there are, and what is missing is gone."""

    host: str
    revision: int
    full: bool
    items: tuple[Item, ...] = ()
    tasks: tuple[Task, ...] = ()


class Changes(Message, frozen=True):
    """Server: the answer to a Pull."""

    number: int
    states: tuple[HostState, ...]


class MarkMade(msgspec.Struct, frozen=True):
    """A step of a task as the agent saw it. Microseconds since the epoch."""

    name: str
    started: int
    finished: int
    detail: str | None = None


class Result(msgspec.Struct, frozen=True):
    """The end of a task. `error` is the whole reason, None when it worked."""

    task: str
    host: str
    error: str | None = None
    value: Any = None
    marks: tuple[MarkMade, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """Something that happened on a host by itself: kind power, password (id a guest), address_taken,
    metadata_served (id a port)."""

    host: str
    kind: str
    id: str
    value: str
    at: int


class Report(Message, frozen=True):
    """Agent: results and sightings, in batches. Doubles as a sign of life. Kept by the agent until acknowledged."""

    number: int
    results: tuple[Result, ...] = ()
    seen: tuple[Seen, ...] = ()
    digests: dict[str, bytes] = {}


class Ack(Message, frozen=True):
    """Server: the report with this number is in the ledger. `stale` hosts should pull everything."""

    number: int
    stale: tuple[str, ...] = ()


class Ask(Message, frozen=True):
    """Server: a live question that changes nothing (console log, diagnostics, leftovers). `id` is what it is about; of a
    probe it is the request itself, as JSON."""

    number: int
    host: str
    kind: str
    id: str = ""
    limit: int | None = None


class Answer(Message, frozen=True):
    """Agent: the answer to an Ask; `error` when there is none."""

    number: int
    value: Any = None
    error: str | None = None


encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
    Challenge | Hello | Welcome | Renew | Renewed | Join | Joined | Bell | Pull | Changes | Report | Ack | Ask | Answer
)


def decode(raw: str | bytes) -> Message:
    """One message. Raises ValueError when it is none."""
    if isinstance(raw, str):
        raise ValueError("A message is binary.")
    return _decoder.decode(raw)
