"""Security groups as the compute API has them: a server's own, and the proxies of 2.1 to 2.35 for old clients.

The network service keeps them; Nova's form of a group shows only what may come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from nephos import errors
from nephos.compute.servers import actions as servers
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.wire import Strict, is_uuid, refuse_unknown, truth
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.network import guests as network
from nephos.network import lookups
from nephos.network.groups import actions as groups
from nephos.network.groups.rules import NewRule

Text = Annotated[str, Meta(max_length=255)]
Port = int | Annotated[str, Meta(pattern=r"^-?[0-9]+$", max_length=10)] | None


class NewGroup(msgspec.Struct, kw_only=True):
    """Nova's schema lets other keys pass here, and so does this."""

    name: Text
    description: Text


class GroupBody(msgspec.Struct, kw_only=True):
    security_group: NewGroup


class RuleFields(msgspec.Struct, kw_only=True):
    parent_group_id: Text
    group_id: Text | None = None
    ip_protocol: Text | int | None = None
    from_port: Port = None
    to_port: Port = None
    cidr: Text | None = None


class RuleBody(msgspec.Struct, kw_only=True):
    security_group_rule: RuleFields


class Named(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=255)]


class AddGroup(Strict):
    group: Named = field(name="addSecurityGroup")


class RemoveGroup(Strict):
    group: Named = field(name="removeSecurityGroup")


# --- as Nova shows them ----------------------------------------------------------------------------------------


def _shown(tx: Tx, rows: Iterable[Any]) -> list[dict[str, Any]]:
    found = list(rows)
    rules = groups.rules_of(tx, [row.id for row in found])
    known: dict[str, Any] = {row.id: row for row in found}
    remote = {rule.remote_group_id for each in rules.values() for rule in each if rule.remote_group_id}
    for group_id in remote - known.keys():
        known[group_id] = groups.get(tx, group_id)
    shown = [
        {
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "tenant_id": row.project_id,
            "rules": [_rule(each, known) for each in rules.get(row.id, ()) if each.direction == "ingress"],
        }
        for row in found
    ]
    return sorted(shown, key=lambda each: (each["tenant_id"], each["name"]))


def _rule(rule: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    source, cidr = known.get(rule.remote_group_id), rule.remote_cidr
    low, high = rule.port_min, rule.port_max
    if rule.protocol and low is None and high is None:
        low, high = (1, 65535) if rule.protocol in ("tcp", "udp") else (-1, -1)
    return {
        "id": rule.id,
        "parent_group_id": rule.group_id,
        "ip_protocol": rule.protocol,
        "from_port": low,
        "to_port": high,
        "group": {"name": source.name, "tenant_id": source.project_id} if source is not None else {},
        "ip_range": {} if source is not None else {"cidr": cidr or ("::/0" if rule.version == 6 else "0.0.0.0/0")},
    }


# --- a project's groups ----------------------------------------------------------------------------------------


def _own(tx: Tx, call: Call, group_id: str) -> Any:
    """A group of the caller's project. Raises BadRequest for what is no id, NotFound."""
    if not is_uuid(group_id):
        raise errors.BadRequest(f"Security group id {group_id} should be a UUID.")
    row = groups.get(tx, group_id)
    if row.project_id != call.who.project_id and "admin" not in call.who.roles:
        raise errors.NotFound(f"Security group {group_id} not found.")
    return row


def index(call: Call) -> Reply:
    project_id = call.who.project_id or ""
    everybodys = "admin" in call.who.roles and truth(call.query.one("all_tenants") or False)

    def work(tx: Tx) -> list[dict[str, Any]]:
        groups.ensure_default(tx, call.cloud, project_id)
        return _shown(tx, lookups.groups_of_project(tx, None if everybodys else project_id))

    shown = call.cloud.database.write(work)
    offset, limit = call.query.integer("offset") or 0, call.query.integer("limit")
    return Reply({"security_groups": shown[offset:][: limit or None]})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"security_group": _shown(tx, [_own(tx, call, call.params["group"])])[0]})


def create(call: Call) -> Reply:
    body = call.body(GroupBody).security_group
    name = _name(body)

    def work(tx: Tx) -> dict[str, Any]:
        project_id = call.who.project_id or ""
        made = groups.create(tx, call.cloud, project_id=project_id, name=name, description=body.description)
        return _shown(tx, [groups.get(tx, made)])[0]

    return Reply({"security_group": call.cloud.database.write(work)})


def _name(body: NewGroup) -> str:
    """Spaces at its ends belong to the name."""
    if not body.name.strip():
        raise errors.BadRequest("Security group name cannot be empty.")
    return body.name


def update(call: Call) -> Reply:
    body = call.body(GroupBody).security_group
    values = {"name": _name(body), "description": body.description}

    def work(tx: Tx) -> dict[str, Any]:
        row = _own(tx, call, call.params["group"])
        groups.update(tx, call.cloud, row, values)
        return _shown(tx, [groups.get(tx, row.id)])[0]

    return Reply({"security_group": call.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        groups.remove(tx, call.cloud, _own(tx, call, call.params["group"]), admin=False)

    try:
        call.cloud.database.write(work)
    except errors.Conflict as used:
        raise errors.BadRequest(used.message) from used
    return Reply()


# --- rules -----------------------------------------------------------------------------------------------------


def add_rule(call: Call) -> Reply:
    body = call.body(RuleBody).security_group_rule
    new = _new_rule(body)

    def work(tx: Tx) -> dict[str, Any]:
        parent = _own(tx, call, body.parent_group_id)
        source = _own(tx, call, body.group_id) if body.group_id is not None else None
        made = groups.add_rule(tx, call.cloud, parent, new)
        return _rule(lookups.rule_of(tx, made), {source.id: source} if source is not None else {})

    try:
        return Reply({"security_group_rule": call.cloud.database.write(work)})
    except errors.Conflict as same:
        raise errors.BadRequest(same.message) from same


def _new_rule(body: RuleFields) -> NewRule:
    """Raises BadRequest as Nova did: a protocol it knows, ports in order, a CIDR with its prefix."""
    protocol = None if body.ip_protocol is None else str(body.ip_protocol).lower()
    if protocol is None and (body.from_port is not None or body.to_port is not None):
        raise errors.BadRequest("Invalid IP protocol None.")
    if protocol is not None and protocol not in ("tcp", "udp", "icmp"):
        raise errors.BadRequest(f"Invalid IP protocol {protocol}.")
    low = None if body.from_port is None else int(body.from_port)
    high = None if body.to_port is None else int(body.to_port)
    if protocol in ("tcp", "udp"):
        if (low is None) != (high is None) or (low is not None and high is not None and not 1 <= low <= high <= 65535):
            raise errors.BadRequest(
                f"Invalid port range {low}:{high}. Valid {protocol} ports should be between 1-65535."
            )
    elif protocol == "icmp":
        if low not in (None, *range(-1, 256)) or high not in (None, *range(-1, 256)):
            raise errors.BadRequest(f"Invalid port range {low}:{high}. Valid ICMP types and codes are -1 to 255.")
        low, high = (None if low == -1 else low), (None if high == -1 else high)
    version = 4
    cidr = body.cidr
    if cidr is not None:
        try:
            parsed = ip_network(cidr, strict=False)
        except ValueError as wrong:
            raise errors.BadRequest(f"Invalid cidr {cidr}.") from wrong
        version = parsed.version
    elif body.group_id is None and protocol is None:
        raise errors.BadRequest("Not enough parameters to build a valid rule.")
    elif body.group_id is None:
        cidr = "0.0.0.0/0"
    return NewRule(
        direction="ingress",
        version=version,
        protocol=protocol,
        port_min=low,
        port_max=high,
        remote_cidr=None if body.group_id is not None else cidr,
        remote_group_id=body.group_id,
    )


def remove_rule(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        rule_id = call.params["rule"]
        if not is_uuid(rule_id):
            raise errors.BadRequest(f"Security group rule id {rule_id} should be a UUID.")
        row = lookups.rule_of(tx, rule_id)
        if row is None:
            raise errors.NotFound(f"Security group rule {rule_id} not found.")
        _own(tx, call, row.group_id)
        groups.remove_rule(tx, call.cloud, row)

    call.cloud.database.write(work)
    return Reply()


# --- a server's ------------------------------------------------------------------------------------------------


def of_server(call: Call) -> Reply:
    refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        found = network.security_groups_of(tx, [row.id]).get(row.id, [])
        return Reply({"security_groups": _shown(tx, [groups.get(tx, each.id) for each in found])})


def add_to_server(call: Call) -> Reply:
    name = call.body(AddGroup).group.name

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        network.add_security_group(tx, call.cloud, server_id=row.id, project_id=row.project_id, group=name)
        servers.change(tx, call.cloud, row)

    call.cloud.database.write(work)
    return Reply()


def remove_from_server(call: Call) -> Reply:
    name = call.body(RemoveGroup).group.name

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        network.remove_security_group(tx, call.cloud, server_id=row.id, project_id=row.project_id, group=name)
        servers.change(tx, call.cloud, row)

    call.cloud.database.write(work)
    return Reply()


_ALL, _ONE, _UNTIL = "/v2.1/os-security-groups", "/v2.1/os-security-groups/{group}", Version(2, 35)
_RULES, _USES = "/v2.1/os-security-group-rules", "os_compute_api:os-security-groups"

ROUTES = (
    Route("GET", _ALL, index, f"{_USES}:get", until=_UNTIL),
    Route("POST", _ALL, create, f"{_USES}:create", until=_UNTIL),
    Route("GET", _ONE, show, f"{_USES}:show", until=_UNTIL),
    Route("PUT", _ONE, update, f"{_USES}:update", until=_UNTIL),
    Route("DELETE", _ONE, delete, f"{_USES}:delete", 202, until=_UNTIL),
    Route("POST", _RULES, add_rule, f"{_USES}:rule:create", until=_UNTIL),
    Route("DELETE", _RULES + "/{rule}", remove_rule, f"{_USES}:rule:delete", 202, until=_UNTIL),
    Route("GET", SERVER + "/os-security-groups", of_server, f"{_USES}:list", target="later"),
    Route("POST", SERVER + "/action", add_to_server, f"{_USES}:add", 202, target="later", action="addSecurityGroup"),
    Route(
        "POST",
        SERVER + "/action",
        remove_from_server,
        f"{_USES}:remove",
        202,
        target="later",
        action="removeSecurityGroup",
    ),
)
