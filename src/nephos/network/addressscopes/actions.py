"""What address scopes can do."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource
from nephos.network.addressscopes.store import address_scope
from nephos.network.networks.store import SHARED, rbac
from nephos.network.sharing.grants import share
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnets.store import subnet

_by_id = select(address_scope).where(address_scope.c.id == bindparam("id"))
_of_network = (
    select(subnetpool.c.address_scope_id)
    .join(subnet, subnet.c.pool_id == subnetpool.c.id)
    .where(
        subnet.c.network_id == bindparam("network"),
        subnet.c.version == bindparam("version"),
        subnetpool.c.address_scope_id.is_not(None),
    )
    .limit(1)
)
_shares = select(rbac.c.target).where(rbac.c.object_id == bindparam("id"), rbac.c.action == SHARED)


def of_network(tx: Tx, network_id: str, version: int) -> str | None:
    """The scope that a network's addresses of an IP version are unique in, if there is one."""
    found: str | None = tx.scalar(_of_network, {"network": network_id, "version": version})
    return found


def create(tx: Tx, *, project_id: str, name: str, version: int, shared: bool) -> str:
    """An address scope of one IP version."""
    scope_id = clock.uuid4()
    tx.insert(
        address_scope,
        {
            "id": scope_id,
            "project_id": project_id,
            "name": name,
            "version": version,
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if shared:
        share(tx, "address_scope", scope_id, project_id, SHARED, "*")
    return scope_id


def update(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    """Raises AddressScopeUpdateError: what is shared stays shared."""
    shared = values.pop("shared", None)
    if shared is False and row.shared:
        raise problems.bad(
            f"Unable to update address scope {row.id} : Shared address scope can't be unshared.",
            "AddressScopeUpdateError",
        )
    if shared and not row.shared:
        share(tx, "address_scope", row.id, row.project_id, SHARED, "*")
    resource.revise(tx, address_scope, row.id, values)


def remove(tx: Tx, row: Any) -> None:
    """Raises AddressScopeInUse (409) naming a pool that is of it."""
    user = tx.scalar(select(subnetpool.c.id).where(subnetpool.c.address_scope_id == row.id).limit(1))
    if user is not None:
        raise problems.refused(
            f"Unable to complete operation on address scope {row.id}. There are one or more subnet pools in use on "
            f"the address scope: {user}.",
            "AddressScopeInUse",
        )
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id))
    tx.execute(delete(address_scope).where(address_scope.c.id == row.id))


def check_owner(tx: Tx, scope_id: str, project_id: str) -> None:
    """Raises IllegalSubnetPoolUpdate: what is in a scope is for its owner to say."""
    row: Any = tx.first(_by_id, {"id": scope_id})
    if row.project_id != project_id:
        raise problems.bad(
            f"Illegal subnetpool update: subnetpools in address scope {scope_id}, which is not the project's, are not "
            "updated.",
            "IllegalSubnetPoolUpdate",
        )


def check_shared(tx: Tx, scope_id: str, target: str) -> None:
    """A pool of the scope may be shared with `target`, a project or *. Raises InvalidInput."""
    row: Any = tx.first(_by_id, {"id": scope_id})
    if target != row.project_id and not {"*", target} & set(tx.column(_shares, {"id": scope_id})):
        raise problems.bad(
            f"Invalid input for operation: the subnetpool is of address scope {scope_id}, which is not shared with "
            f"project {target}."
        )


def check_pool(
    tx: Tx,
    scope_id: str,
    *,
    project_id: str,
    version: int,
    prefixes: Sequence[str],
    pool_id: str | None,
    shared: bool,
    admin: bool,
) -> None:
    """A pool of these prefixes may be of the scope. Raises AddressScopeNotFound, IllegalSubnetPoolAssociationToAddressScope,
    IllegalSubnetPoolIpVersionAssociationToAddressScope, AddressScopePrefixConflict (409)."""
    row = tx.first(_by_id, {"id": addressing.uuid("address_scope_id", scope_id)})
    targets = set(tx.column(_shares, {"id": scope_id})) if row is not None else set()
    if row is None or not (admin or row.project_id == project_id or targets & {"*", project_id}):
        raise problems.missing("Address scope", scope_id, "AddressScopeNotFound")
    if shared and "*" not in targets:
        raise problems.bad(
            f"Illegal subnetpool association: subnetpool cannot be associated with address scope {scope_id}: it is "
            "shared and the address scope is not.",
            "IllegalSubnetPoolAssociationToAddressScope",
        )
    if row.version != version:
        raise problems.bad(
            f"Illegal subnetpool association: subnetpool cannot associate with address scope {scope_id} because "
            "subnetpool ip_version is not "
            f"{row.version}.",
            "IllegalSubnetPoolIpVersionAssociationToAddressScope",
        )
    others = tx.all(
        select(subnetpool.c.id, subnetpool.c.prefixes).where(
            subnetpool.c.address_scope_id == scope_id, subnetpool.c.id != (pool_id or "")
        )
    )
    mine = [ipaddress.ip_network(each) for each in prefixes]
    for other in others:
        for text in other.prefixes:
            if any(ipaddress.ip_network(text).overlaps(each) for each in mine):
                raise problems.refused(
                    f"Failed to associate address scope: subnetpools within an address scope must have unique "
                    f"prefixes: {text} is of subnetpool {other.id}.",
                    "AddressScopePrefixConflict",
                )
