"""What security groups and their rules can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.addressgroups.store import address_group
from nephos.network.default_rules import actions as default_rules
from nephos.network.groups.rules import NewRule, checked, identity
from nephos.network.groups.store import group, rule
from nephos.network.networks.store import rbac
from nephos.network.ports.store import port_group
from nephos.network.quotas import actions as quotas
from nephos.network.sharing.scope import shared_with
from nephos.network.statefulness import actions as statefulness

DEFAULT = "default"
_default_of = select(group.c.id).where(group.c.default_of == bindparam("project"))
_address_group = select(address_group.c.id).where(address_group.c.id == bindparam("id"))
_by_id = select(group).where(group.c.id == bindparam("id"))
_known = select(group.c.id, group.c.project_id, group.c.stateful, shared_with(group.c.id).label("shared")).where(
    group.c.id.in_(bindparam("ids", expanding=True))
)
_same = select(rule).where(rule.c.group_id == bindparam("group"), rule.c.direction == bindparam("direction"))


def default_group(tx: Tx, project_id: str) -> str | None:
    """The id of a project's default group, None when it was never needed."""
    found: str | None = tx.scalar(_default_of, {"project": project_id})
    return found


def ensure_default(tx: Tx, cloud: Cloud, project_id: str) -> str:
    """The id of a project's default group, made on first use with the operator's default rules."""
    found = default_group(tx, project_id)
    if found is not None or not project_id:
        return found or ""
    group_id = _insert(tx, project_id, DEFAULT, "Default security group", default=True)
    for new in default_rules.rules_for(tx, group_id, default=True):
        _insert_rule(tx, group_id, project_id, new)
    return group_id


def create(
    tx: Tx, cloud: Cloud, *, project_id: str, name: str, description: str = "", stateful: bool | None = None
) -> str:
    """With the rules that the operator gives new groups: first of all, all may leave. Raises OverQuota; Conflict for the name `default`."""
    ensure_default(tx, cloud, project_id)
    if name.lower() == DEFAULT:
        raise problems.refused("Default security group already exists.", "SecurityGroupDefaultAlreadyExists")
    quotas.take(tx, cloud, project_id, "security_group")
    chosen = statefulness.default(tx, project_id) if stateful is None else stateful
    group_id = _insert(tx, project_id, name, description, stateful=chosen)
    first = default_rules.rules_for(tx, group_id, default=False)
    quotas.take(tx, cloud, project_id, "security_group_rule", len(first))
    for new in first:
        _insert_rule(tx, group_id, project_id, new)
    return group_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Raises Conflict: the default group keeps its name, no other takes it, and a used group its statefulness."""
    name = values.get("name")
    if name is not None and name != row.name:
        if row.default_of is not None:
            raise problems.refused("Updating default security group not allowed.", "SecurityGroupCannotUpdateDefault")
        if name.lower() == DEFAULT:
            raise problems.refused("Default security group already exists.", "SecurityGroupDefaultAlreadyExists")
    if values.get("stateful", row.stateful) != row.stateful:
        check_unused(tx, row.id)
    resource.revise(tx, group, row.id, values)


def check_unused(tx: Tx, group_id: str) -> None:
    """Raises SecurityGroupInUse naming a port that has it."""
    user = tx.scalar(select(port_group.c.port_id).where(port_group.c.group_id == group_id).limit(1))
    if user is not None:
        raise problems.refused(f"Security Group {group_id} in use by port {user}.", "SecurityGroupInUse")


def remove(tx: Tx, cloud: Cloud, row: Any, *, admin: bool) -> None:
    """With its rules, and the rules elsewhere that name it. Raises SecurityGroupInUse, and Conflict for a default."""
    if row.default_of is not None and not admin:
        raise problems.refused(
            "Insufficient rights for removing default security group.", "SecurityGroupCannotRemoveDefault"
        )
    check_unused(tx, row.id)
    naming = tx.column(select(rule.c.group_id).where(rule.c.remote_group_id == row.id).distinct())
    tx.execute(delete(rule).where(rule.c.remote_group_id == row.id))
    tx.execute(delete(rule).where(rule.c.group_id == row.id))
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id))
    tx.execute(delete(group).where(group.c.id == row.id))
    for other in naming:
        if other != row.id:
            touch.rules(tx, cloud, other, [row.id])


def get(tx: Tx, group_id: str) -> Any:
    """A group's row. Raises SecurityGroupNotFound."""
    row = tx.first(_by_id, {"id": group_id})
    if row is None:
        raise problems.missing("Security group", group_id, "SecurityGroupNotFound")
    return row


def check_usable(tx: Tx, project_id: str, ids: Sequence[str], *, admin: bool) -> list[str]:
    """The ids of groups that the project may put on a port. Raises SecurityGroupNotFound, BadRequest for one that is
    there twice, SecurityGroupConflict (409) for stateful groups beside stateless ones: a host tracks a port's
    connections or does not."""
    wanted = list(ids)
    if not wanted:
        return []
    if len(set(wanted)) != len(wanted):
        raise problems.invalid("security_groups", f"Duplicate items in the list: '{', '.join(wanted)}'")
    rows = {row.id: row for row in tx.all(_known, {"ids": wanted, "viewer": project_id})}
    for each in wanted:
        if each not in rows or not (admin or rows[each].project_id == project_id or rows[each].shared):
            raise problems.missing("Security group", each, "SecurityGroupNotFound")
    if len({row.stateful for row in rows.values()}) > 1:
        raise problems.refused(
            "Error Cannot apply both stateful and stateless security groups on the same port while attempting the "
            "operation.",
            "SecurityGroupConflict",
        )
    return wanted


def add_rule(tx: Tx, cloud: Cloud, group_row: Any, new: NewRule, project_id: str | None = None) -> str:
    """Raises OverQuota, BadRequest, SecurityGroupRuleExists (409, naming the rule that is the same)."""
    good = checked(new)
    if good.remote_group_id is not None and tx.first(_by_id, {"id": good.remote_group_id}) is None:
        raise problems.missing("Security group", good.remote_group_id, "SecurityGroupNotFound")
    address_group_id = good.remote_address_group_id
    if address_group_id is not None and tx.first(_address_group, {"id": address_group_id}) is None:
        raise problems.missing("Address group", address_group_id, "AddressGroupNotFound")
    owner = project_id or group_row.project_id
    quotas.take(tx, cloud, owner, "security_group_rule")
    for row in tx.all(_same, {"group": group_row.id, "direction": good.direction}):
        if identity(row) == identity(good):
            raise problems.refused(
                f"Security group rule already exists. Rule id is {row.id}.", "SecurityGroupRuleExists"
            )
    rule_id = _insert_rule(tx, group_row.id, owner, good)
    resource.revise(tx, group, group_row.id)
    touch.rules(tx, cloud, group_row.id, [good.remote_group_id, address_group_id])
    return rule_id


def remove_rule(tx: Tx, cloud: Cloud, row: Any) -> None:
    tx.execute(delete(rule).where(rule.c.id == row.id))
    resource.revise(tx, group, row.group_id)
    touch.rules(tx, cloud, row.group_id, [row.remote_group_id, row.remote_address_group_id])


def rules_of(tx: Tx, group_ids: Iterable[str]) -> dict[str, list[Any]]:
    """Every group's rules, oldest first."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(
        select(rule).where(rule.c.group_id.in_(list(group_ids))).order_by(rule.c.created_at, rule.c.version, rule.c.id)
    ):
        found.setdefault(row.group_id, []).append(row)
    return found


def _insert(
    tx: Tx, project_id: str, name: str, description: str, *, stateful: bool = True, default: bool = False
) -> str:
    group_id = clock.uuid4()
    tx.insert(
        group,
        {
            "id": group_id,
            "project_id": project_id,
            "name": name,
            "description": description,
            "stateful": stateful,
            "default_of": project_id if default else None,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return group_id


def _insert_rule(tx: Tx, group_id: str, project_id: str, new: NewRule) -> str:
    rule_id = clock.uuid4()
    tx.insert(
        rule,
        {
            **msgspec.structs.asdict(new),
            "id": rule_id,
            "group_id": group_id,
            "project_id": project_id,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return rule_id
