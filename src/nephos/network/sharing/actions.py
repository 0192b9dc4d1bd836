"""Policies that share a network, group, pool, scope or QoS policy with a project or with all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update

from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.addressscopes import actions as addressscopes
from nephos.network.floatingips.store import floatingip
from nephos.network.networks import actions as networks
from nephos.network.networks.store import EXTERNAL, SHARED, network, rbac
from nephos.network.quotas import actions as quotas
from nephos.network.routers.store import router
from nephos.network.sharing.grants import share
from nephos.network.sharing.kinds import KINDS


def create(
    tx: Tx, cloud: Cloud, *, row: Any, project_id: str, action: str, target: str, object_type: str = "network"
) -> str:
    """`row` is what is shared. Raises OverQuota, Conflict for a policy that is there already, InvalidInput for a subnet
    pool whose address scope the target does not have."""
    if object_type == "subnetpool" and row.address_scope_id is not None:
        addressscopes.check_shared(tx, row.address_scope_id, target)
    quotas.take(tx, cloud, project_id, "rbac_policy")
    same = select(rbac.c.id).where(rbac.c.object_id == row.id, rbac.c.action == action, rbac.c.target == target)
    if tx.first(same) is not None:
        raise problems.refused("An RBAC policy already exists with those values.", "DuplicateRbacPolicy")
    policy_id = share(tx, object_type, row.id, project_id, action, target)
    if action == EXTERNAL and not row.external:
        _set_external(tx, cloud, row.id, external=True)
    else:
        resource.revise(tx, KINDS[object_type].noun.table, row.id)
    return policy_id


def retarget(tx: Tx, cloud: Cloud, policy: Any, target: str) -> None:
    """Raises RbacPolicyInUse while somebody needs what the policy gives."""
    if target == policy.target:
        return
    if target != "*":
        check_unused(tx, policy, instead=target)
    same = select(rbac.c.id).where(
        rbac.c.object_id == policy.object_id, rbac.c.action == policy.action, rbac.c.target == target
    )
    if tx.first(same) is not None:
        raise problems.refused("An RBAC policy already exists with those values.", "DuplicateRbacPolicy")
    tx.execute(update(rbac).where(rbac.c.id == policy.id).values(target=target, updated_at=tx.now))


def remove(tx: Tx, cloud: Cloud, policy: Any) -> None:
    """Raises RbacPolicyInUse."""
    check_unused(tx, policy)
    tx.execute(delete(rbac).where(rbac.c.id == policy.id))
    left = select(rbac.c.id).where(rbac.c.object_id == policy.object_id, rbac.c.action == EXTERNAL)
    if policy.action == EXTERNAL and tx.first(left) is None:
        _set_external(tx, cloud, policy.object_id, external=False)


def check_unused(tx: Tx, policy: Any, *, instead: str | None = None) -> None:
    """Raises RbacPolicyInUse (409) naming who needs the policy, and would not have the one for `instead`."""
    if policy.object_type != "network":
        _check_others(tx, policy)
        return
    row = networks.get(tx, policy.object_id)
    if policy.action == SHARED:
        try:
            networks.check_unshared(tx, row, policy.id)
        except Exception as used:
            raise problems.refused(
                f"RBAC policy on object {row.id} cannot be removed because other objects depend on it.",
                "RbacPolicyInUse",
            ) from used
        return
    kept = {row.project_id, instead, *_others(tx, policy)} - {None}
    if "*" in kept:
        return
    for table, column in ((router, router.c.gateway_network_id), (floatingip, floatingip.c.network_id)):
        users = select(table.c.id).where(column == row.id, table.c.project_id.not_in(kept))
        if policy.target != "*":
            users = users.where(table.c.project_id == policy.target)
        user = tx.scalar(users.limit(1))
        if user is not None:
            raise problems.refused(
                f"RBAC policy on object {row.id} cannot be removed because other objects depend on it: {user}.",
                "RbacPolicyInUse",
            )


def _others(tx: Tx, policy: Any) -> Sequence[str]:
    """Whom other policies let do the same."""
    return tx.column(
        select(rbac.c.target).where(
            rbac.c.object_id == policy.object_id, rbac.c.action == policy.action, rbac.c.id != policy.id
        )
    )


def _check_others(tx: Tx, policy: Any) -> None:
    """Nobody uses the object whom only this policy lets in."""
    kind = KINDS[policy.object_type]
    table = kind.noun.table
    owner = tx.scalar(select(table.c.project_id).where(table.c.id == policy.object_id))
    kept = _others(tx, policy)
    if "*" in kept:
        return
    for users in kind.users:
        for row in tx.all(users(policy.object_id)):
            if row.project_id not in (owner, *kept) and policy.target in ("*", row.project_id):
                raise problems.refused(
                    f"RBAC policy on object {policy.object_id} cannot be removed because other objects depend on it: "
                    f"{row.id}.",
                    "RbacPolicyInUse",
                )


def _set_external(tx: Tx, cloud: Cloud, network_id: str, *, external: bool) -> None:
    resource.revise(tx, network, network_id, {"external": external})
    touch.networks(tx, cloud, [network_id])
