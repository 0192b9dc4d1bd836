"""TLS contexts: of the listener that agents and browsers share, and of an agent that dials it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from cryptography import x509

from nephos.kernel.tls import authority as ca
from nephos.kernel.tls.authority import SERVER_NAME
from nephos.kernel.tls.keeper import Files, Keeper
from nephos.kernel.tls.sockets import SharedSocket


class Listening:
    """The server's side. A certificate is asked of every client and required of none: a browser has none, so whoever
    needs one looks at the path. One that is presented must be a host's of this cloud, and in its time.

    Agents call the server `SERVER_NAME` and get the cloud's own certificate, others the one that is shown to clients.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._own = self._context(keeper.own)
        self.context = self._own if keeper.given is None else self._context(keeper.given)
        if keeper.given is not None:
            self.context.sni_callback = self._choose

    def renew(self) -> None:
        """Serve what the files hold now, from the next connection on. To be called where connections are accepted."""
        trusted = self._keeper.authority.trusted.decode()
        for each in {self._own, self.context}:  # one who is trusted no more goes with the next start
            each.load_verify_locations(cadata=trusted)
        self._own.load_cert_chain(*self._keeper.own)
        if self._keeper.given is not None:
            self.context.load_cert_chain(*self._keeper.given)

    def _context(self, files: Files) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*files)
        context.load_verify_locations(cadata=self._keeper.authority.trusted.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0  # connections last, nobody takes one up again
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == SERVER_NAME:
            connection.context = self._own


def peer_key(connection: ssl.SSLObject | None) -> str | None:
    """The key of the certificate that a client presented, as the ledger keeps hosts' keys. None without a certificate."""
    raw = connection.getpeercert(binary_form=True) if connection is not None else None
    return ca.ed25519_of(x509.load_der_x509_certificate(raw)) if raw else None


def client() -> ssl.SSLContext:
    """Of whoever dials a server of the cloud: checks its name, and trusts nobody yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = SharedSocket
    return context


def dialling(authority: Path, own: Path | None) -> ssl.SSLContext:
    """The agent's side: trusts the cloud's authority and nothing else; `own` holds its key and certificate."""
    context = client()
    context.load_verify_locations(authority)
    if own is not None:
        context.load_cert_chain(own)
    return context


def presented(address: tuple[str, int], seconds: float = 5) -> x509.Certificate:
    """The certificate that a server shows, trusted or not: for saying what is wrong with it. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(address, timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as connection,
    ):
        raw = connection.getpeercert(binary_form=True)
    if not raw:
        raise OSError("it shows no certificate")
    return x509.load_der_x509_certificate(raw)
