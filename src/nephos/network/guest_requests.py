"""Which networks a new server asks for: checked when the request is accepted, in Nova's words."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import and_, bindparam, or_, select

from nephos import errors
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.discovery import topology
from nephos.network.groups.store import group
from nephos.network.networks.store import network
from nephos.network.ports.store import port
from nephos.network.quotas import actions as quotas
from nephos.network.sharing.scope import shared_with
from nephos.network.subnets.store import address, subnet

_named = select(network).where(network.c.id.in_(bindparam("ids", expanding=True)))
_ports = select(port).where(port.c.id.in_(bindparam("ids", expanding=True)))
_ranges = select(subnet.c.network_id, subnet.c.id, subnet.c.cidr).where(
    subnet.c.network_id.in_(bindparam("ids", expanding=True))
)
_holder = (
    select(port.c.device_id, port.c.id)
    .join(address, address.c.port_id == port.c.id)
    .where(port.c.network_id == bindparam("network"), address.c.address == bindparam("address"))
)
_with_address = select(address.c.port_id).where(address.c.port_id.in_(bindparam("ids", expanding=True))).distinct()
_groups = select(group.c.id, group.c.name).where(
    group.c.project_id == bindparam("project"),
    or_(group.c.id.in_(bindparam("wanted", expanding=True)), group.c.name.in_(bindparam("wanted", expanding=True))),
)


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a server's `networks`. A port excludes the rest but the tag.

    With neither network nor port it is the project's auto-allocated topology, made when the ports are.
    """

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


def check(
    tx: Tx,
    cloud: Cloud,
    who: Who,
    requests: Sequence[NetworkRequest] | Literal["auto", "none"] | None,
    security_groups: Sequence[str] = (),
) -> list[NetworkRequest]:
    """What a new server's ports will be made of; reads only.

    `requests` None or "auto" means the project's one network, external ones aside (none at all gives no ports; "auto"
    makes the auto-allocated topology's network when there is none). `security_groups` are names or ids, each of which
    must exist. Raises BadRequest (unknown network or port, an address outside, no such group), Conflict (several
    networks: "Multiple possible networks found, use a Network ID to be more specific."; a port in use), Forbidden (an
    external network), OverQuota (ports, 403).
    """
    project_id = who.project_id or ""
    resolve_groups(tx, project_id, security_groups)
    if requests == "none":
        return []
    if requests is None or requests == "auto":
        wanted = _one_network(tx, project_id, auto=requests == "auto")
    else:
        wanted = [each for each in requests if not isinstance(each, str)]
        _check_named(tx, cloud, who, wanted)
    _check_quota(tx, cloud, project_id, sum(each.port_id is None for each in wanted))
    return wanted


def resolve_groups(tx: Tx, project_id: str, wanted: Sequence[str]) -> list[str]:
    """Ids of a project's groups by name or id. Raises BadRequest for none, Conflict for a name that several have."""
    asked = [each for each in dict.fromkeys(wanted) if each != "default"]
    if not asked:
        return []
    rows = tx.all(_groups, {"project": project_id, "wanted": asked})
    found: list[str] = []
    for each in asked:
        matching = [row.id for row in rows if row.id == each] or [row.id for row in rows if row.name == each]
        if not matching:
            raise errors.BadRequest(f"Security group {each} not found for project {project_id}.")
        if len(matching) > 1:
            raise errors.Conflict(
                f"Multiple security groups found matching '{each}'. Use an ID to be more specific.",
                code="NoUniqueMatch",
            )
        found.append(matching[0])
    return found


def _one_network(tx: Tx, project_id: str, *, auto: bool) -> list[NetworkRequest]:
    statement = select(network.c.id).where(
        or_(and_(network.c.project_id == project_id, network.c.external.is_(False)), shared_with(network.c.id, project_id)),
        network.c.admin_state_up.is_(True),
    )
    ids = tx.column(statement.limit(2))
    if len(ids) > 1:
        raise errors.Conflict(
            "Multiple possible networks found, use a Network ID to be more specific.", code="NetworkAmbiguous"
        )
    if ids:
        request = NetworkRequest(network_id=ids[0])
        _check_subnets(tx, [request])
        return [request]
    if not auto:
        return []
    try:
        topology.requirements(tx)
    except errors.BadRequest as lacking:
        raise errors.BadRequest(
            f"Unable to automatically allocate a network for project {project_id}: {lacking.message}"
        ) from lacking
    return [NetworkRequest()]


def _check_named(tx: Tx, cloud: Cloud, who: Who, wanted: Sequence[NetworkRequest]) -> None:
    admin, project_id = resource.is_admin(cloud, who), who.project_id or ""
    ids = sorted({each.network_id for each in wanted if each.network_id is not None})
    visible = _visible(tx, project_id, ids, admin=admin)
    for each in ids:
        row = visible.get(each)
        if row is None:
            raise errors.BadRequest(f"Network {each} could not be found.", code="NetworkNotFound")
        if row.external and not row.shared and not admin:
            raise errors.Forbidden(f"It is not allowed to create an interface on external network {each}.")
    _check_ports(tx, [each.port_id for each in wanted if each.port_id is not None], project_id, admin=admin)
    _check_subnets(tx, [each for each in wanted if each.network_id is not None and each.port_id is None])


def _visible(tx: Tx, project_id: str, ids: Sequence[str], *, admin: bool) -> dict[str, Any]:
    if not ids:
        return {}
    statement = _named.add_columns(shared_with(network.c.id, project_id).label("shared"))
    rows = tx.all(statement, {"ids": list(ids)})
    return {row.id: row for row in rows if admin or row.project_id == project_id or row.shared or row.external}


def _check_ports(tx: Tx, ids: Sequence[str], project_id: str, *, admin: bool) -> None:
    if not ids:
        return
    if len(set(ids)) != len(ids):
        raise errors.BadRequest("A port is named twice.")
    rows = {row.id: row for row in tx.all(_ports, {"ids": list(ids)})}
    addressed = set(tx.column(_with_address, {"ids": list(ids)}))
    for each in ids:
        row = rows.get(each)
        if row is None or not (admin or row.project_id == project_id):
            raise errors.BadRequest(f"Port id {each} could not be found.", code="PortNotFound")
        if row.device_id:
            raise port_in_use(each)
        if each not in addressed:
            raise errors.BadRequest(f"Port {each} requires a FixedIP in order to be used.", code="PortRequiresFixedIP")


def port_in_use(port_id: str) -> errors.Conflict:
    return errors.Conflict(f"Port {port_id} is still in use.", code="PortInUse")


def _check_subnets(tx: Tx, wanted: Sequence[NetworkRequest]) -> None:
    """Networks have subnets, and addresses asked for are of them and free."""
    if not wanted:
        return
    ranges: dict[str, list[Any]] = {}
    for row in tx.all(_ranges, {"ids": sorted({each.network_id for each in wanted if each.network_id})}):
        ranges.setdefault(row.network_id, []).append(ipaddress.ip_network(row.cidr))
    for each in wanted:
        network_id = each.network_id or ""
        if network_id not in ranges:
            raise errors.BadRequest(
                f"Network {network_id} requires a subnet in order to boot instances on.", code="NetworkRequiresSubnet"
            )
        if each.fixed_ip is None:
            continue
        try:
            fixed = ipaddress.ip_address(each.fixed_ip)
        except ValueError as wrong:
            raise errors.BadRequest(f"Invalid input: '{each.fixed_ip}' is not an IP address.") from wrong
        if not any(fixed in one for one in ranges[network_id]):
            raise errors.BadRequest(f"Fixed IP {fixed} is not a valid ip address for network {network_id}.")
        holder = tx.first(_holder, {"network": network_id, "address": str(fixed)})
        if holder is not None:
            raise errors.BadRequest(
                f"Fixed IP address {fixed} is already in use on instance {holder.device_id or holder.id}.",
                code="FixedIpAlreadyInUse",
            )


def _check_quota(tx: Tx, cloud: Cloud, project_id: str, count: int) -> None:
    if not count:
        return
    try:
        quotas.check(tx, cloud, project_id, "port", count)
    except errors.OverQuota as over:
        detail = over.detail
        raise errors.OverQuota(
            "port",
            limit=int(str(detail["limit"])),
            used=int(str(detail["used"])),
            requested=count,
        ) from over
