"""What a host trusts and is trusted by when it dials its server over a network: `ca.pem` and `host.pem` of its directory.

`host.pem` is the host's key with the certificate that the cloud's authority signed for it. The key stays for ever, the
certificate is renewed on the connection that it opened.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nephos.errors import SettingsError
from nephos.kernel.tls import authority as ca
from nephos.kernel.tls import contexts


class Trust:
    """Raises SettingsError when the files are missing or belong to another key."""

    def __init__(self, directory: Path, key: Ed25519PrivateKey) -> None:
        self._authority, self._own, self._key = directory / "ca.pem", directory / "host.pem", key
        if not self._authority.exists() or not self._own.exists():
            raise SettingsError(
                f"{directory} holds no ca.pem and host.pem: a host that dials its server by TLS joins first (`nephos join`)."
            )
        self._certificate = self._load()

    def context(self) -> ssl.SSLContext:
        """For one connection: what a renewal changed is used by the next."""
        return contexts.dialling(self._authority, self._own)

    @property
    def standing(self) -> tuple[str, ...]:
        """Who certified this host and whom it trusts, by their pins."""
        return ca.standing(self._certificate, self._authority.read_bytes())

    @property
    def due(self) -> bool:
        """Whether it is time to ask for another certificate."""
        return ca.show(self._certificate).due(ca.now())

    def take(self, certificate: bytes, authorities: bytes = b"") -> None:
        """Keep a renewed certificate, and whom to trust from now on. Raises SettingsError for a certificate that is not for
        this host's key, and for authorities that can none be read."""
        if authorities:
            try:
                x509.load_pem_x509_certificates(authorities)
            except ValueError as wrong:
                raise SettingsError(f"The server sent no authorities: {wrong}") from wrong
            ca.write(self._authority, authorities, 0o644)
        keep(self._own, self._key, certificate)
        self._certificate = self._load()

    def explain(self, wrong: Exception, address: tuple[str, int], presented: Callable[..., x509.Certificate]) -> str:
        """Why a connection failed, naming the certificate that is at fault if one is."""
        mine, now = ca.show(self._certificate), ca.now()
        if mine.expired(now):
            return (
                f"the certificate of this host, {mine.subject} serial {mine.serial}, ended on "
                f"{mine.not_after:%Y-%m-%d %H:%M} UTC: join again (`nephos invite` there, `nephos join` here)"
            )
        if not isinstance(wrong, ssl.SSLCertVerificationError):
            return str(wrong)
        try:
            theirs = ca.show(presented(address))
        except OSError:
            return str(wrong)
        if theirs.expired(now):
            why = f"ended on {theirs.not_after:%Y-%m-%d %H:%M} UTC: `nephos ca renew` on the server"
        else:
            why = f"is not trusted ({wrong.verify_message}); it was issued by {theirs.issuer}"
        return f"the certificate of the server, {theirs.subject} serial {theirs.serial}, {why}"

    def _load(self) -> x509.Certificate:
        certificate = ca.load(self._own)
        if ca.ed25519_of(certificate) != self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex():
            raise SettingsError(f"{self._own}: the certificate is for another key than this host's.")
        return certificate


def keep(path: Path, key: Ed25519PrivateKey, certificate: bytes) -> None:
    """Write key and certificate as one PEM file for the owner alone. Raises SettingsError for a certificate of another key."""
    try:
        told = ca.ed25519_of(x509.load_pem_x509_certificate(certificate))
    except ValueError as wrong:
        raise SettingsError(f"The server sent no certificate: {wrong}") from wrong
    if told != key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex():
        raise SettingsError("The server sent a certificate for another key than this host's.")
    ca.write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate, 0o600)
