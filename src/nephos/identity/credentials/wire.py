"""Bodies of the credentials and EC2 credentials APIs. Source: Keystone API v3.14, "Credentials"."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from nephos import errors
from nephos.identity import wire
from nephos.identity.wire import LooseId
from nephos.kernel.http.call import Call

Blob = Annotated[str, Meta(max_length=65535)]


class CredentialCreate(msgspec.Struct):
    blob: Blob | dict[str, Any]
    type: Annotated[str, Meta(min_length=1, max_length=255)]
    user_id: LooseId
    project_id: LooseId | None = None


class CredentialUpdate(msgspec.Struct):
    blob: Blob | dict[str, Any] | UnsetType = UNSET
    type: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    user_id: LooseId | UnsetType = UNSET
    project_id: LooseId | UnsetType | None = UNSET


class Ec2Create(msgspec.Struct):
    tenant_id: LooseId


def text(blob: str | dict[str, Any]) -> str:
    return blob if isinstance(blob, str) else msgspec.json.encode(blob).decode()


def ec2_keys(blob: str) -> dict[str, Any]:
    """The members of an EC2 credential's blob. Raises BadRequest unless it is an object with an access key."""
    try:
        keys = msgspec.json.decode(blob)
    except msgspec.DecodeError as wrong:
        raise errors.BadRequest("Invalid blob in credential: the blob of type ec2 is a JSON object.") from wrong
    if not isinstance(keys, dict) or not isinstance(keys.get("access"), str):
        raise errors.BadRequest("Invalid blob in credential: it needs the members access and secret.")
    return keys


def same_scope(old: str, new: str) -> None:
    """Raises BadRequest when an EC2 credential would come to be for something else than what it was made for."""
    before, after = ec2_keys(old), ec2_keys(new)
    for name in ("trust_id", "app_cred_id", "access_token_id", "access_id"):
        if before.get(name) != after.get(name):
            raise errors.BadRequest(f"{name} can not be updated for credential")


def credential(call: Call, row: Row[Any], blob: str) -> dict[str, Any]:
    return {
        **(row.extra or {}),
        "id": row.id,
        "user_id": row.user_id,
        "project_id": row.project_id,
        "type": row.type,
        "blob": blob,
        "links": wire.links(call, "credentials", row.id),
    }


def ec2(call: Call, row: Row[Any], blob: str) -> dict[str, Any]:
    keys = ec2_keys(blob)
    return {
        "user_id": row.user_id,
        "tenant_id": row.project_id,
        "access": keys["access"],
        "secret": keys.get("secret"),
        "trust_id": keys.get("trust_id"),
        "links": {"self": f"{wire.base(call)}/users/{row.user_id}/credentials/OS-EC2/{keys['access']}"},
    }
