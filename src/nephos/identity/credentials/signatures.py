"""Signatures that clients of AWS' APIs make with an EC2 credential's secret: version 2 and 4, and those of S3.

Source: AWS documentation, "Signature Version 2 signing process", "Create a signed AWS API request" (version 4) and
"Signing and authenticating REST requests" (S3); keystoneclient's Ec2Signer says what of it reaches this service.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from nephos import errors

V4 = "AWS4-HMAC-SHA256"
S3_SERVICES = ("s3", "iam", "sts")
_OLD_BOTO = re.compile(r"Boto/2\.[0-9]\.[0-2]")
Text = Annotated[str, Meta(max_length=65536)]


class Signed(msgspec.Struct):
    """A request as its signer saw it. `token` is what a client of S3 signed, in base64; the rest is for EC2."""

    access: Annotated[str, Meta(max_length=255)] | None = None
    signature: Annotated[str, Meta(max_length=255)] | None = None
    host: Text = ""
    verb: Text = ""
    path: Text = ""
    params: dict[str, str | int | float | bool | None] = {}
    headers: dict[str, Text] = {}
    body_hash: Text = ""
    token: Text | None = None

    def header(self, name: str) -> str | None:
        """A header, whatever its case; None when it was not there."""
        return next((value for key, value in self.headers.items() if key.lower().strip() == name.lower()), None)

    def timestamp(self) -> str | None:
        """When the client says that it signed; None when it did not say."""
        for found in (self.params.get("Timestamp"), self.header("X-Amz-Date"), self.params.get("X-Amz-Date")):
            if found:
                return str(found)
        return None


def check_ec2(given: Signed, secret: str) -> None:
    """Raises Unauthorized unless the signature is right, for the host as given or without its port."""
    if not given.signature:
        raise errors.Unauthorized("EC2 signature not supplied.")
    hosts = [given.host]
    if ":" in given.host:
        # some clients leave the port out of what they sign
        hosts.append(_without_port(given.host))
    if not any(_same(given.signature, _ec2(given, host, secret)) for host in hosts):
        raise errors.Unauthorized("Invalid EC2 signature.")


def check_s3(given: Signed, secret: str) -> None:
    """Raises Unauthorized unless the signature of `token` is right."""
    if given.token is None or not given.signature:
        raise errors.Unauthorized("S3 signature not supplied.")
    try:
        text = base64.urlsafe_b64decode(given.token)
    except (binascii.Error, ValueError):
        raise errors.Unauthorized("Invalid EC2 signature.") from None
    if text[:4] == b"AWS4":
        right = _s3_version_4(text, secret)
    else:
        right = _base64(hmac.digest(secret.encode(), text, hashlib.sha1))
    if not _same(given.signature, right):
        raise errors.Unauthorized("Credential signature mismatch")


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def _without_port(host: str) -> str:
    try:
        return urlsplit("//" + host).hostname or host
    except ValueError:
        return host


def _ec2(given: Signed, host: str, secret: str) -> str:
    if str(given.params.get("SignatureVersion")) == "2":
        return _version_2(given, host, secret)
    if "SignatureVersion" in given.params:
        raise errors.Unauthorized("Unknown EC2 signature version: 2 and 4 are taken.")
    if (given.header("Authorization") or "").startswith(V4) or given.params.get("X-Amz-Algorithm") == V4:
        return _version_4(given, host, secret)
    raise errors.Unauthorized("Unexpected EC2 signature format: versions 2 and 4 are taken.")


def _query(params: Mapping[str, Any]) -> str:
    """The parameters in the order of their names, encoded as AWS does."""
    pairs = ((quote(name, safe=""), quote(str(params[name]), safe="-_~")) for name in sorted(params))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _version_2(given: Signed, host: str, secret: str) -> str:
    params = {**given.params, "SignatureMethod": "HmacSHA256"}
    text = f"{given.verb}\n{host}\n{given.path}\n{_query(params)}"
    return _base64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))


def _version_4(given: Signed, host: str, secret: str) -> str:
    said = given.header("Authorization")

    def part(name: str) -> str:
        if said is not None:
            return said.partition(f"{name}=")[2].split(",")[0]
        return str(given.params.get(f"X-Amz-{name}") or "")

    scope = part("Credential").split("/")[1:]
    date = given.header("X-Amz-Date") or str(given.params.get("X-Amz-Date") or "")
    if len(scope) != 4 or not date.startswith(scope[0]):
        raise errors.Unauthorized("Invalid EC2 signature: its date or scope does not fit.")
    signed_headers = part("SignedHeaders")
    canonical = "\n".join(
        (
            given.verb.upper(),
            given.path,
            # the parameters of a POST are in its body
            "" if given.verb.upper() == "POST" else _query(given.params),
            _headers(given, host, signed_headers),
            signed_headers,
            given.body_hash,
        )
    )
    text = "\n".join((V4, date, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()))
    return hmac.new(_derived(secret, scope), text.encode(), hashlib.sha256).hexdigest()


def _headers(given: Signed, host: str, names: str) -> str:
    values = {name.lower().strip(): value.strip() for name, value in given.headers.items()}
    if host != given.host or _OLD_BOTO.match(values.get("user-agent", "")):
        values["host"] = _without_port(values.get("host", host))
    return "\n".join(f"{name}:{values[name]}" for name in names.split(";") if name in values) + "\n"


def _derived(secret: str, scope: list[str]) -> bytes:
    """The key of a day, a region and a service."""
    key = ("AWS4" + secret).encode()
    for part in (*scope[:3], "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def _s3_version_4(text: bytes, secret: str) -> str:
    lines = text.decode("utf-8", "replace").split("\n")
    scope = lines[2].split("/") if len(lines) == 4 else []
    if len(scope) != 4 or lines[0] != V4 or scope[3] != "aws4_request" or scope[2] not in S3_SERVICES:
        raise errors.Unauthorized("Invalid EC2 signature.")
    return hmac.new(_derived(secret, scope), text, hashlib.sha256).hexdigest()
