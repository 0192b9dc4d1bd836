"""Bodies of the trusts API. Source: Keystone API, "OS-TRUST"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.application_credentials.wire import RoleRef
from nephos.identity.roles import wire as role_wire
from nephos.identity.wire import LooseId
from nephos.kernel.http.call import Call


class Create(msgspec.Struct):
    trustor_user_id: LooseId
    trustee_user_id: LooseId
    impersonation: bool
    project_id: LooseId | None = None
    expires_at: str | None = None
    remaining_uses: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    roles: list[RoleRef] = []
    allow_redelegation: bool | None = None
    redelegation_count: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


def trust(call: Call, row: Row[Any], roles: Sequence[Row[Any]] | None) -> dict[str, Any]:
    """Without roles as a list shows it."""
    shown: dict[str, Any] = {
        "id": row.id,
        "trustor_user_id": row.trustor_user_id,
        "trustee_user_id": row.trustee_user_id,
        "project_id": row.project_id,
        "impersonation": row.impersonation,
        "remaining_uses": row.remaining_uses,
        "expires_at": None if row.expires_at is None else f"{wire.moment(row.expires_at)}Z",
        "deleted_at": None,
        "redelegated_trust_id": row.redelegated_trust_id,
        "redelegation_count": row.redelegation_count,
        "links": wire.links(call, "OS-TRUST/trusts", row.id),
    }
    if roles is not None:
        shown["roles"] = [role(call, one) for one in roles]
        shown["roles_links"] = {
            "self": f"{wire.base(call)}/OS-TRUST/trusts/{row.id}/roles",
            "next": None,
            "previous": None,
        }
    return shown


def role(call: Call, row: Row[Any]) -> dict[str, Any]:
    return role_wire.role(call, row)
