"""Making and reading keys: slow, so it is done outside of units of work."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from nephos import errors
from nephos.kernel import clock

RSA_BITS = 2048
CERTIFICATE_DAYS = 3650
_USER_PRINCIPAL = "1.3.6.1.4.1.311.20.2.3"
"""The name form that Windows Remote Management matches a client certificate by."""


class Key(NamedTuple):
    """`private` is None for a key that was brought along."""

    public: str
    fingerprint: str
    private: str | None = None


def read(kind: str, public: str) -> Key:
    """Check a public key, or a certificate, that a user brings. Raises BadRequest when it is none."""
    return Key(public, _ssh_fingerprint(public) if kind == "ssh" else _certificate_fingerprint(public))


def make(kind: str, user_id: str) -> Key:
    """A new RSA key: OpenSSH's public line and a PEM, or a certificate and a PKCS#12 in base64."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    if kind == "x509":
        return _certificate(key, user_id)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = line.decode() + " Generated-by-Nephos"
    return Key(public, _ssh_fingerprint(public), private.decode())


def _ssh_fingerprint(public: str) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        serialization.load_ssh_public_key(public.strip().encode())
        raw = base64.b64decode(public.split()[1])
    except (ValueError, IndexError, UnsupportedAlgorithm) as wrong:
        raise errors.BadRequest(f"Keypair data is invalid: failed to generate fingerprint: {wrong}") from wrong
    return _colons(hashlib.md5(raw, usedforsecurity=False).hexdigest())


def _certificate_fingerprint(public: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        certificate = x509.load_pem_x509_certificate(public.encode())
    except ValueError as wrong:
        raise errors.BadRequest(f"Keypair data is invalid: failed to generate X509 fingerprint: {wrong}") from wrong
    return _colons(certificate.fingerprint(hashes.SHA1()).hex())


def _certificate(key: object, user_id: str) -> Key:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import pkcs12
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    assert isinstance(key, RSAPrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id)])
    now = datetime.fromtimestamp(clock.now(), UTC)
    principal = f"{user_id}@localhost".encode()
    utf8 = b"\x0c" + bytes([len(principal)]) + principal
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.OtherName(x509.ObjectIdentifier(_USER_PRINCIPAL), utf8)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    bundle = pkcs12.serialize_key_and_certificates(None, key, certificate, None, serialization.NoEncryption())
    return Key(public, _certificate_fingerprint(public), base64.b64encode(bundle).decode())


def _colons(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
