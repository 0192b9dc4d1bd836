"""The cloud's own certificate authority (S2-04): made once, it signs the certificates of servers and of hosts.

The key is ECDSA on P-256, which every client knows; a host's certificate is for the Ed25519 key that the host has anyway.
Profile: RFC 5280. Nothing is revoked by lists: a host's key is struck from the ledger, and certificates are short-lived.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nephos.errors import SettingsError
from nephos.kernel import clock

SERVER_NAME = "nephos-server"
"""What agents call every server of their cloud, wherever it is: only servers' certificates carry it."""
NEXT, NEXT_KEY, FORMER = "next.pem", "next.key", "former.pem"
"""The authority that follows, and the one that was before: see `rollover`."""
SKEW = timedelta(minutes=5)
"""Certificates begin so much earlier, for hosts whose clocks are behind."""


class Shown(msgspec.Struct, frozen=True):
    """A certificate as people want to see it. Times are UTC, `fingerprint` is SHA-256 in hexadecimal."""

    subject: str
    names: tuple[str, ...]
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime

    def due(self, now: datetime) -> bool:
        """Whether it should be renewed: two thirds of its time are over."""
        return now >= self.not_after - (self.not_after - self.not_before) / 3

    def expired(self, now: datetime) -> bool:
        return now >= self.not_after


class Authority:
    """A CA in a directory: `ca.key`, for its owner alone, and `ca.pem`. Between the moment that another one takes its place
    and the next its key is still `next.key`."""

    def __init__(self, directory: Path) -> None:
        """Raises SettingsError when it is not there, or its parts do not belong together."""
        self.directory = directory
        self.pem = directory / "ca.pem"
        try:
            self.certificate = x509.load_pem_x509_certificate(self.pem.read_bytes())
            paths = [each for name in ("ca.key", NEXT_KEY) if (each := directory / name).exists()]
            keys = [load_pem_private_key(each.read_bytes(), None) for each in paths]
        except (OSError, ValueError) as wrong:
            raise SettingsError(f"The cloud's certificate authority cannot be read: {wrong}") from wrong
        fitting = (key for key in keys if key.public_key() == self.certificate.public_key())
        own = next((key for key in fitting if isinstance(key, ec.EllipticCurvePrivateKey)), None)
        if own is None:
            raise SettingsError(f"{directory}: ca.key is not there, or not the key of ca.pem.")
        self._key = own

    @classmethod
    def ensure(cls, directory: Path, cloud_id: str, days: int) -> Authority:
        """Open it, made on first use. Files get the directory's owner. Safe in several processes at once."""
        with alone(directory):
            if not (directory / "ca.pem").exists():
                make(directory, cloud_id, days)
        return cls(directory)

    @property
    def trusted(self) -> bytes:
        """Everybody whom servers, hosts and clients believe, as PEM, this one first: while one authority follows another
        (`rollover`) they are two."""
        paths = (self.directory / NEXT, self.directory / FORMER)
        return self.certificate.public_bytes(Encoding.PEM) + b"".join(each.read_bytes() for each in paths if each.exists())

    @property
    def pin(self) -> str:
        """SHA-256 of the certificate, hexadecimal: what a host that joins knows its cloud by."""
        return pin_of(self.certificate)

    def server(self, names: Sequence[str], days: int) -> bytes:
        """A new key and a certificate for it as PEM, in one piece, for names and addresses; the CA's own follows."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._leaf(names[0], key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _key_pem(key) + certificate.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM)

    def host(self, name: str, public_key: bytes, days: int) -> bytes:
        """A certificate as PEM for a host's Ed25519 key (32 bytes), good to dial a server with and for nothing else."""
        return (
            self._leaf(name, Ed25519PublicKey.from_public_bytes(public_key), days)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    def sign(self, data: bytes) -> bytes:
        """A signature of the authority: ECDSA with SHA-256. `data` begins with words that say what for."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def signed(self, data: bytes, signature: bytes) -> bool:
        try:
            self._key.public_key().verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def _leaf(self, name: str, key: ec.EllipticCurvePublicKey | Ed25519PublicKey, days: int) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        public = self._key.public_key()
        return (
            _builder(subject, self.certificate.subject, key, public, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
        )


def make(directory: Path, cloud_id: str, days: int, stem: str = "ca") -> None:
    """Write key and certificate of a new authority: `<stem>.key` and `<stem>.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Nephos"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Nephos cloud {cloud_id[:8]}"),
        ]
    )
    usage = _usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, name, key.public_key(), key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    write(directory / f"{stem}.key", _key_pem(key), 0o600)
    write(directory / f"{stem}.pem", certificate.public_bytes(Encoding.PEM), 0o644)


def standing(own: x509.Certificate, trusted: bytes) -> tuple[str, ...]:
    """What who has a certificate believes, and is believed by: the pin of the certificate's issuer ("" when it is none of
    them), then the pins of all who are trusted (PEM), in order."""
    believed = x509.load_pem_x509_certificates(trusted)
    issuer = next((pin_of(each) for each in believed if signed_by(own, each)), "")
    return (issuer, *sorted(map(pin_of, believed)))


def load(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file. Raises SettingsError naming the file."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as wrong:
        raise SettingsError(f"{path}: no certificate can be read: {wrong}") from wrong


def show(certificate: x509.Certificate) -> Shown:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(str(each.value) for each in names)
    except x509.ExtensionNotFound:
        shown = ()
    return Shown(
        certificate.subject.rfc4514_string(),
        shown,
        certificate.issuer.rfc4514_string(),
        f"{certificate.serial_number:x}",
        pin_of(certificate),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def pin_of(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def ed25519_of(certificate: x509.Certificate) -> str:
    """The certificate's Ed25519 key in hexadecimal, as the ledger keeps a host's; "" for a key of another kind."""
    key = certificate.public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex() if isinstance(key, Ed25519PublicKey) else ""


def now() -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Only one process at a time works on the certificates of a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a whole file or none, never for a moment readable by others. As root, with its directory's owner."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(descriptor, mode)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: int,
) -> x509.CertificateBuilder:
    begin = now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(int.from_bytes(clock.token_bytes(19)) | 1)
        .not_valid_before(begin - SKEW)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode() if not name.isascii() else name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
