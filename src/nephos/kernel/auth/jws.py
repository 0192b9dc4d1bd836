"""Tokens signed with ES256: anybody reads them, and who has only the public key verifies them (RFC 7515, RFC 7518 3.4).

The claims are Keystone's (`sub`, `iat`, `exp`, `openstack_…`), with times in seconds and their fractions; the header
names the key by the thumbprint of its public half, so that one signature is tried and not all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nephos.kernel.auth.token import Token

ALGORITHM = "ES256"
_MICRO = 1_000_000
_IDS = {
    "openstack_system": "system",
    "openstack_domain_id": "domain_id",
    "openstack_project_id": "project_id",
    "openstack_trust_id": "trust_id",
    "openstack_app_cred_id": "application_credential_id",
}


def new_key() -> bytes:
    """A private key on the curve P-256, PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class JwsTokens:
    """`keys` are private ones, the primary, which signs, and then those that only verify.

    Raises ValueError for what is no such key, or for none.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        private = [_private(key) for key in keys]
        if not private:
            raise ValueError("there are no keys")
        self._primary = private[0]
        self._public = {_name(one.public_key()): one.public_key() for one in private}
        self._name = _name(self._primary.public_key())

    def encode(self, token: Token) -> str:
        token.check_scope()
        claims: dict[str, Any] = {
            "sub": token.user_id,
            "iat": token.issued / _MICRO,
            "exp": token.expires / _MICRO,
            "openstack_methods": list(token.methods),
            "openstack_audit_ids": list(token.audit_ids),
        }
        claims.update({claim: getattr(token, name) for claim, name in _IDS.items() if getattr(token, name) is not None})
        return jwt.encode(claims, self._primary, algorithm=ALGORITHM, headers={"kid": self._name})

    def decode(self, text: str) -> Token:
        try:
            key = self._public.get(jwt.get_unverified_header(text).get("kid", ""))
            if key is None:
                raise ValueError("signed by none of our keys")
            # when it ends is for the caller to judge, who may allow some time more
            claims = jwt.decode(text, key, algorithms=[ALGORITHM], options={"verify_exp": False, "verify_iat": False})
            return msgspec.convert(
                {
                    "user_id": claims["sub"],
                    "methods": tuple(claims["openstack_methods"]),
                    "issued": round(claims["iat"] * _MICRO),
                    "expires": round(claims["exp"] * _MICRO),
                    "audit_ids": tuple(claims["openstack_audit_ids"]),
                    **{name: claims.get(claim) for claim, name in _IDS.items()},
                },
                Token,
            )
        except (jwt.PyJWTError, KeyError, TypeError, msgspec.ValidationError) as wrong:
            raise ValueError("not a token of ours") from wrong


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a private key on the curve P-256")
    return key


def _name(key: ec.EllipticCurvePublicKey) -> str:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(*form)).hexdigest()[:16]
