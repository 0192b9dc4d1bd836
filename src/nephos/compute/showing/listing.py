"""Lists of servers: filters, paging and sorting (Nova's list parameters), and pages out of kept, encoded bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, cast, func, or_, select
from sqlalchemy import String as Text

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.servers import states, store
from nephos.compute.showing import bodies
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call
from nephos.kernel.http.query import Page

_s, _t = store.server, store.tag
SORTS: dict[str, Any] = {
    "access_ip_v4": _s.c.access_ipv4,
    "access_ip_v6": _s.c.access_ipv6,
    "auto_disk_config": _s.c.disk_config,
    "availability_zone": _s.c.zone,
    "config_drive": _s.c.config_drive,
    "created_at": _s.c.created_at,
    "display_description": _s.c.description,
    "display_name": _s.c.name,
    "host": _s.c.host_name,
    "hostname": _s.c.hostname,
    "image_ref": _s.c.image_id,
    "instance_type_id": _s.c.flavor_id,
    "kernel_id": _s.c.image_id,
    "key_name": _s.c.key_name,
    "launch_index": _s.c.launch_index,
    "launched_at": _s.c.launched_at,
    "locked": _s.c.locked_by,
    "locked_by": _s.c.locked_by,
    "node": _s.c.host_name,
    "power_state": _s.c.power_state,
    "progress": _s.c.progress,
    "project_id": _s.c.project_id,
    "ramdisk_id": _s.c.image_id,
    "root_device_name": _s.c.image_id,
    "task_state": _s.c.task_state,
    "terminated_at": _s.c.terminated_at,
    "updated_at": _s.c.updated_at,
    "user_id": _s.c.user_id,
    "uuid": _s.c.id,
    "vm_state": _s.c.vm_state,
}
IGNORED_SORTS = frozenset(
    [
        "architecture",
        "cell_name",
        "cleaned",
        "default_ephemeral_device",
        "default_swap_device",
        "deleted",
        "deleted_at",
        "disable_terminate",
        "ephemeral_gb",
        "ephemeral_key_uuid",
        "id",
        "key_data",
        "launched_on",
        "locked",
        "memory_mb",
        "os_type",
        "reservation_id",
        "root_gb",
        "shutdown_terminate",
        "user_data",
        "vcpus",
        "vm_mode",
    ]
)
_JOINED = frozenset(
    ["block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices"]
)
_PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir"})
_EQUAL: dict[str, Any] = {
    "user_id": _s.c.user_id,
    "launch_index": _s.c.launch_index,
    "image": _s.c.image_id,
    "image_ref": _s.c.image_id,
    "host": _s.c.host_name,
    "uuid": _s.c.id,
    "vm_state": _s.c.vm_state,
    "task_state": _s.c.task_state,
    "power_state": _s.c.power_state,
    "progress": _s.c.progress,
    "flavor": _s.c.flavor_id,
    "reservation_id": _s.c.reservation_id,
    "auto_disk_config": _s.c.disk_config,
}
_MATCH: dict[str, Any] = {
    "name": _s.c.name,
    "display_name": _s.c.name,
    "hostname": _s.c.hostname,
    "key_name": _s.c.key_name,
    "node": _s.c.host_name,
    "availability_zone": _s.c.zone,
    "description": _s.c.description,
    "display_description": _s.c.description,
    "locked_by": _s.c.locked_by,
    "access_ip_v4": _s.c.access_ipv4,
    "access_ip_v6": _s.c.access_ipv6,
}
_OTHER = frozenset(
    [
        "project_id",
        "tenant_id",
        "all_tenants",
        "deleted",
        "soft_deleted",
        "status",
        "changes-since",
        "ip",
        "ip6",
        "config_drive",
        "created_at",
        "launched_at",
        "terminated_at",
        "kernel_id",
        "ramdisk_id",
        "root_device_name",
    ]
)
_TAGS = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
_EVERYBODY = frozenset(
    {"reservation_id", "name", "display_name", "status", "image", "image_ref", "flavor", "ip", "changes-since", "uuid"}
)
_EVERYBODY_SINCE = {
    "ip6": 5,
    "changes-before": 66,
    "locked": 73,
    "description": 1,
    **dict.fromkeys(_TAGS, 26),
    **dict.fromkeys(
        [
            "availability_zone",
            "config_drive",
            "key_name",
            "created_at",
            "launched_at",
            "terminated_at",
            "power_state",
            "task_state",
            "vm_state",
            "progress",
            "user_id",
        ],
        83,
    ),
}
_AT_ONCE = 500
"""How many servers' ports are looked at in one go, for an address filter."""
_PLAIN = re.compile(r"[\w\- .:@]*")
_NESTED = re.compile(r"\([^()]*[+*}][^()]*\)\s*[+*{]")


def known(minor: int) -> set[str]:
    """The parameters that a list takes."""
    found = set(_PAGING | set(_EQUAL) | set(_MATCH) | _OTHER | _JOINED)
    found |= _TAGS if minor >= 26 else set()
    found |= {"changes-before"} if minor >= 66 else set()
    return found | ({"locked"} if minor >= 73 else set())


def page_of(call: Call) -> Page:
    """Limit, marker and sort keys. Raises BadRequest for what Nova refuses."""
    minor, query = call.version.minor, call.query
    most = call.cloud.settings.api.max_limit
    limit = query.integer("limit")
    sorts: list[tuple[str, bool]] = []
    directions = query.many("sort_dir")
    for at, given in enumerate(query.many("sort_key")):
        direction = directions[at] if at < len(directions) else (directions[-1] if directions else "desc")
        if direction not in ("asc", "desc"):
            raise errors.BadRequest(f"Unknown sort direction, must be 'desc' or 'asc': {direction!r}")
        ignored = IGNORED_SORTS - ({"locked"} if minor >= 73 else set())
        if given in SORTS and given not in ignored:
            sorts.append((given, direction == "desc"))
        elif given not in ignored or minor >= 75:
            raise errors.BadRequest(f"Invalid input for query parameters sort_key. Value: {given}.")
    return Page(
        most if limit is None else min(limit, most), query.one("marker"), tuple(sorts) or (("created_at", True),)
    )


def chosen(call: Call, *, everywhere: str) -> list[ColumnElement[bool]]:
    """The conditions that a list's parameters make. `everywhere` is the rule for servers of all projects.

    Raises BadRequest for values that cannot be meant, Forbidden for all_tenants without the right.
    """
    minor, query = call.version.minor, call.query
    common.refuse_unknown(call, known(minor), 75)
    for name in query:
        if name.startswith("_") or name in _JOINED:
            raise errors.BadRequest(f"Invalid filter field: {name}.")
    whole = call.allowed("os_compute_api:servers:allow_all_filters")
    asked = {name: query.many(name) for name in query if name not in _PAGING}
    conditions = [_projects(call, asked, everywhere)]
    if not whole:
        asked = {name: values for name, values in asked.items() if _allowed(name, minor)}
    conditions += [_deleted(asked, whole)]
    for name, values in asked.items():
        condition = _condition(call, name, values)
        if condition is not None:
            conditions.append(condition)
    return conditions


def _allowed(name: str, minor: int) -> bool:
    return name in _EVERYBODY or minor >= _EVERYBODY_SINCE.get(name, 1 << 20)


def _projects(call: Call, asked: dict[str, list[str]], everywhere: str) -> ColumnElement[bool]:
    """Which projects' servers. A project that is named counts only together with all_tenants, as in Nova."""
    wanted = asked.pop("all_tenants", None)
    named = [*asked.pop("project_id", []), *asked.pop("tenant_id", [])]
    if wanted is not None and (wanted[-1] == "" or _truth(wanted[-1], "all_tenants")):
        call.permit(rule=everywhere)
        return _s.c.project_id.in_(named) if named else _s.c.id.is_not(None)
    own: ColumnElement[bool] = _s.c.project_id == call.who.project_id
    return own


def _truth(value: str, name: str) -> bool:
    if value.lower() in ("1", "t", "true", "on", "y", "yes"):
        return True
    if value.lower() in ("0", "f", "false", "off", "n", "no"):
        return False
    raise errors.BadRequest(f"Unrecognized value '{value}' of {name}: it is no boolean.")


def _deleted(asked: dict[str, list[str]], whole: bool) -> ColumnElement[bool]:
    """Deleted servers only for who may use all filters, and among changes since a moment."""
    asked.pop("soft_deleted", None)
    value = asked.pop("deleted", None)
    if value is not None and whole:
        return _s.c.deleted.is_(_truth(value[-1] or "true", "deleted"))
    if "changes-since" in asked or "changes-before" in asked:
        return _s.c.id.is_not(None)
    statuses = [each.upper() for each in asked.get("status", [])]
    if "DELETED" in statuses and whole:
        return _s.c.deleted.is_(True) if len(statuses) == 1 else _s.c.id.is_not(None)
    return _s.c.deleted.is_(False)


def _condition(call: Call, name: str, values: list[str]) -> ColumnElement[bool] | None:
    value = values[-1]
    if name == "status":
        return _status(values)
    if name in _EQUAL:
        return _equal(name, values)
    if name in _MATCH:
        return match(_MATCH[name], value, name)
    if name in _TAGS:
        return _tagged(name, value)
    if name in ("changes-since", "changes-before"):
        moment = common.parse_moment(value, name)
        found: ColumnElement[bool] = _s.c.updated_at >= moment if name == "changes-since" else _s.c.updated_at <= moment
        return found
    if name == "locked":
        return _s.c.locked_by.is_not(None) if _truth(value, name) else _s.c.locked_by.is_(None)
    if name == "config_drive":
        return _s.c.config_drive.is_(value.lower() in ("1", "true"))
    if name in ("created_at", "launched_at", "terminated_at"):
        moment = common.parse_moment(value, name)
        column = _s.c[name]
        return and_(column >= moment, column < moment + 1_000_000)
    return None


def _status(values: Iterable[str]) -> ColumnElement[bool]:
    values = list(values)
    usual, exact = states.meant_by(values)
    choices: list[ColumnElement[bool]] = []
    for vm_state in usual:
        other = states.other_tasks(vm_state, values)
        condition: ColumnElement[bool] = _s.c.vm_state == vm_state
        if other:
            condition = and_(condition, or_(_s.c.task_state.is_(None), _s.c.task_state.not_in(other)))
        choices.append(condition)
    for vm_state, tasks in exact.items():
        choices.append(and_(_s.c.vm_state == vm_state, _s.c.task_state.in_(tasks)))
    return or_(*choices) if choices else _s.c.id.is_(None)


def _equal(name: str, values: list[str]) -> ColumnElement[bool]:
    column: ColumnElement[Any] = _EQUAL[name]
    if name in ("image", "image_ref", "flavor"):
        values = [each.rsplit("/", 1)[-1] for each in values]
    if name in ("launch_index", "power_state", "progress"):
        if not all(each.lstrip("-").isdigit() and len(each) < 10 for each in values):
            raise errors.BadRequest(f"Invalid input for query parameters {name}. Value: {values[-1]}. It is no number.")
        found: ColumnElement[bool] = column.in_([int(each) for each in values])
        return found
    if name == "task_state" and values == [""]:
        none: ColumnElement[bool] = column.is_(None)
        return none
    return column.in_(values)


def match(column: Any, value: str, name: str) -> ColumnElement[bool]:
    """A pattern that may be found anywhere in the text; a plain text is looked for without regard to case.

    Raises BadRequest for a pattern that is none, or one whose search could take for ever.
    """
    if _PLAIN.fullmatch(value) and "." not in value:
        found: ColumnElement[bool] = column.icontains(value, autoescape=True)
        return found
    try:
        re.compile(value)
    except re.error as wrong:
        raise errors.BadRequest(f"Invalid input for query parameters {name}. Value: {value}. {wrong}") from wrong
    if len(value) > 255 or _NESTED.search(value):
        raise errors.BadRequest(f"Invalid input for query parameters {name}: the pattern is too complex to search by.")
    found = cast(column, Text).regexp_match(value)
    return found  # noqa: RET504


def _tagged(name: str, value: str) -> ColumnElement[bool]:
    wanted = {each for each in value.split(",") if each}
    having = select(_t.c.server_id).where(_t.c.tag.in_(wanted))
    if name in ("tags", "not-tags"):
        having = having.group_by(_t.c.server_id).having(func.count() == len(wanted))
    found: ColumnElement[bool] = _s.c.id.in_(having) if not name.startswith("not") else _s.c.id.not_in(having)
    return found


def rows(tx: Tx, call: Call, conditions: list[ColumnElement[bool]], columns: Iterable[Any], page: Page) -> list[Any]:
    """One page; an address filter (`ip`, `ip6`) is looked for in the ports of what the other filters leave."""
    statement: Select[Any] = select(*columns).where(*conditions)
    patterns = {4: call.query.one("ip"), 6: call.query.one("ip6") if common.since(call, 5) else None}
    if not any(patterns.values()):
        return list(tx.all(paginate(tx, statement, page, SORTS, key=_s.c.id)))
    for value in filter(None, patterns.values()):
        match(_s.c.name, value, "ip")
    everything = tx.all(paginate(tx, statement, page._replace(limit=None), SORTS, key=_s.c.id))
    found: list[Any] = []
    for start in range(0, len(everything), _AT_ONCE):
        some = everything[start : start + _AT_ONCE]
        having = bodies.with_address(tx, [row.id for row in some], patterns)
        found += [row for row in some if row.id in having]
        if page.limit is not None and len(found) >= page.limit:
            break
    return found[: page.limit]


def body(call: Call, path: str, parts: list[bytes], ids: list[str], page: Page) -> bytes:
    """A page of encoded servers as one body."""
    following = common.next_links(call, path, ids, page)
    end = b',"servers_links":' + msgspec.json.encode(following) if following else b""
    return b'{"servers":[' + b",".join(parts) + b"]" + end + b"}"
