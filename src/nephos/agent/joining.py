"""How a host gets into a cloud: with a ticket, to a server that the ticket's pin vouches for."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from nephos.agent import trust
from nephos.errors import HostFault
from nephos.hosts import enrolment, wire
from nephos.kernel.tls import authority as ca
from nephos.kernel.tls import contexts
from nephos.kernel.tls.authority import SERVER_NAME

SECONDS = 20.0


def join(directory: Path, key: Ed25519PrivateKey, server: str, word: str, name: str) -> wire.Joined:
    """Enrol this host under a name; what it trusts and is trusted by is in its directory afterwards, or nothing is.

    `server` is wss://HOST:PORT of the streams listener. Raises BadRequest for a ticket that is none, HostFault when the
    server cannot be reached, is not the one that the ticket is of, or refuses.
    """
    ticket = enrolment.read(word)
    pem = _authority(server)
    if bytes.fromhex(ca.pin_of(x509.load_pem_x509_certificate(pem))) != ticket.pin:
        raise HostFault(
            f"{server} is not a server of the cloud that the ticket is of: its authority is "
            f"{ca.pin_of(x509.load_pem_x509_certificate(pem))}, the ticket's is {ticket.pin.hex()}."
        )
    context = contexts.client()
    context.load_verify_locations(cadata=pem.decode())
    asked = wire.Join(word, name, key.public_key().public_bytes_raw().hex())
    try:
        with connect(
            server + "/join",
            ssl=context,
            server_hostname=SERVER_NAME,
            compression=None,
            proxy=None,
            open_timeout=SECONDS,
        ) as connection:
            connection.send(wire.encode(asked))
            joined = wire.decode(connection.recv(SECONDS))
    except ConnectionClosed as closed:
        raise HostFault(f"{server} refuses: {closed.rcvd.reason if closed.rcvd else closed}") from closed
    except (OSError, WebSocketException) as wrong:
        raise HostFault(f"{server}: {wrong}") from wrong
    if not isinstance(joined, wire.Joined):
        raise HostFault(f"{server} does not answer as a server does.")
    trust.keep(directory / "host.pem", key, joined.certificate)
    ca.write(directory / "ca.pem", pem, 0o644)
    return joined


def _authority(server: str) -> bytes:
    """The certificate of the authority that the server says it has: to be compared with a pin, trusted in nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(server)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=SECONDS, context=context)
    try:
        connection.request("GET", "/ca.pem")
        answer = connection.getresponse()
        pem = answer.read(1 << 16)
        x509.load_pem_x509_certificate(pem)
    except (OSError, http.client.HTTPException) as wrong:
        raise HostFault(f"{server}: {wrong}") from wrong
    except ValueError as wrong:
        raise HostFault(f"{server} is not the streams listener of a cloud with TLS.") from wrong
    finally:
        connection.close()
    return pem
