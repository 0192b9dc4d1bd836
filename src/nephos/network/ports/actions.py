"""What ports can do: be made with addresses, live on a host, change, and go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, exists, func, insert, or_, select, update

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource, touch
from nephos.network.floatingips.store import floatingip
from nephos.network.forwardings import actions as forwardings
from nephos.network.forwardings.store import forwarding
from nephos.network.groups import actions as groups
from nephos.network.localips import actions as localips
from nephos.network.localips.store import local_ip
from nephos.network.ndpproxies import actions as ndpproxies
from nephos.network.ndpproxies.store import ndp_proxy
from nephos.network.ports.store import ACTIVE, COMPUTE, DHCP, DOWN, FLOATING, GATEWAY, HA, ROUTER, port, port_group
from nephos.network.quotas import actions as quotas
from nephos.network.routers.store import router
from nephos.network.segments import actions as segments
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted
from nephos.network.trunks.store import in_trunk, subport, trunk

MOST_INDEX = 65535
_TRIES = 8
_by_id = select(port).where(port.c.id == bindparam("id"))
_in_group = select(port_group.c.port_id, port_group.c.group_id)
_groups_of = _in_group.where(port_group.c.port_id.in_(bindparam("ports", expanding=True)))
_groups_of_one = _in_group.where(port_group.c.port_id == bindparam("port"))
_highest = select(func.max(port.c.host_index)).where(port.c.host_id == bindparam("host"))
_indexes = select(port.c.host_index).where(port.c.host_id == bindparam("host"), port.c.host_index.is_not(None))
_mac_taken = select(port.c.id).where(port.c.network_id == bindparam("network"), port.c.mac == bindparam("mac"))
_place = (
    update(port)
    .where(port.c.id == bindparam("key"))
    .values(
        host_id=bindparam("host"),
        host_index=bindparam("index"),
        status=bindparam("state"),
        wiring_error=None,
        uncounted=[],
        updated_at=bindparam("now"),
        revision=port.c.revision + 1,
    )
)
_set_status = (
    update(port)
    .where(port.c.id.in_(bindparam("ports", expanding=True)), port.c.status != bindparam("state"))
    .values(status=bindparam("state"), updated_at=bindparam("now"), revision=port.c.revision + 1)
)
_delete = delete(port).where(port.c.id == bindparam("id"))
_delete_groups = delete(port_group).where(port_group.c.port_id == bindparam("port"))
_children = (
    select(port)
    .join(subport, subport.c.port_id == port.c.id)
    .join(trunk, trunk.c.id == subport.c.trunk_id)
    .where(trunk.c.port_id == bindparam("parent"))
)
_child_ids = (
    select(subport.c.port_id)
    .join(trunk, trunk.c.id == subport.c.trunk_id)
    .where(trunk.c.port_id.in_(bindparam("parents", expanding=True)))
)
_ties = select(
    in_trunk(port.c.id).label("in_trunk"),
    or_(
        exists().where(floatingip.c.fixed_port_id == port.c.id),
        exists().where(forwarding.c.port_id == port.c.id),
        exists().where(ndp_proxy.c.port_id == port.c.id),
    ).label("reached"),
    exists().where(local_ip.c.local_port_id == port.c.id).label("lent"),
).where(port.c.id == bindparam("id"))
_trunk_of = (
    select(trunk.c.id, trunk.c.port_id)
    .outerjoin(subport, subport.c.trunk_id == trunk.c.id)
    .where(or_(trunk.c.port_id == bindparam("port"), subport.c.port_id == bindparam("port")))
)
_insert_groups = insert(port_group)


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A port to be made. `fixed` None: one address of each IP version; `groups` None: the project's default group."""

    project_id: str
    network_id: str
    name: str = ""
    description: str = ""
    admin_state_up: bool = True
    fixed: Sequence[Wanted] | None = None
    mac: str | None = None
    device_id: str = ""
    device_owner: str = ""
    groups: Sequence[str] | None = None
    port_security: bool = True
    pairs: Sequence[tuple[str, str | None]] = ()
    dhcp_options: Sequence[dict[str, Any]] = ()
    vnic_type: str = "normal"
    profile: dict[str, Any] = {}
    dns_name: str = ""
    host_id: str | None = None
    status: str = DOWN
    counted: bool = True
    made_by_compute: bool = False
    nic_tag: str | None = None
    nic_order: int = 0
    qos_policy_id: str | None = None
    extras: dict[str, Any] | None = None
    tags: Sequence[str] = ()


def get(tx: Tx, port_id: str) -> Any:
    """A port's row. Raises PortNotFound."""
    row = tx.first(_by_id, {"id": port_id})
    if row is None:
        raise problems.missing("Port", port_id)
    return row


def groups_of(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[str]]:
    """Every port's security groups."""
    found: dict[str, list[str]] = {}
    ids = list(port_ids)
    for row in tx.all(_groups_of_one, {"port": ids[0]}) if len(ids) == 1 else tx.all(_groups_of, {"ports": ids}):
        found.setdefault(row.port_id, []).append(row.group_id)
    return found


def create(tx: Tx, cloud: Cloud, new: New, subnets: Sequence[Any] | None = None) -> str:
    """Raises OverQuota, MacAddressInUse, PortSecurityPortHasSecurityGroup, and what taking an address raises."""
    if new.counted:
        quotas.take(tx, cloud, new.project_id, "port")
    wired = new.device_owner.startswith("network:")
    wanted = list(new.groups) if new.groups is not None else []
    if new.groups is None and new.port_security and not wired:
        wanted = [groups.ensure_default(tx, cloud, new.project_id)] if new.project_id else []
    check_secured(new.port_security, wanted, new.pairs)
    port_id = clock.uuid4()
    rows = addresses.subnets_of(tx, new.network_id) if subnets is None else subnets
    routed = not wired and any(row.segment_id for row in rows)
    deferred = routed and new.host_id is None and new.fixed is None
    if routed and new.host_id is not None:
        rows = _reachable(tx, new.network_id, new.host_id, rows)
    mac = _insert_row(tx, {**_columns(tx, new, port_id), "deferred": deferred}, new.mac)
    if not deferred:
        took = addresses.take(
            tx,
            port_id=port_id,
            network_id=new.network_id,
            owner=new.device_owner,
            mac=mac,
            wanted=new.fixed,
            subnets=rows,
        )
        if routed:
            _check_one_segment(took, rows)
    if wanted:
        tx.execute(_insert_groups, [{"port_id": port_id, "group_id": each} for each in wanted])
    if new.host_id is not None:
        tell_placed(tx, cloud, new.host_id, new.network_id, [port_id], wanted, guest=not wired)
    return port_id


def _reachable(tx: Tx, network_id: str, host_id: str, rows: Sequence[Any]) -> list[Any]:
    """The subnets of a routed network that are on the host's segment. Raises HostNotConnectedToAnySegment (409)."""
    segment_id = segments.of_host(tx, network_id, host_id)
    return [row for row in rows if row.segment_id == segment_id]


def _check_one_segment(took: Sequence[addresses.Taken], rows: Sequence[Any]) -> None:
    by_id = {row.id: row.segment_id for row in rows}
    if len({by_id[one.subnet_id] for one in took}) > 1:
        raise problems.bad("Cannot allocate addresses from different segments.", "FixedIpsSubnetsNotOnSameSegment")


def _check_segment(tx: Tx, row: Any, host_id: str) -> None:
    """A port that comes to a host of a routed network gets the addresses that wait for it, and keeps only such as work
    there. Raises HostNotConnectedToAnySegment, HostNotCompatibleWithFixedIps (409)."""
    routed = segments.routed(tx, row.network_id)
    if not routed or row.device_owner.startswith("network:"):
        return
    segment_id = segments.of_host(tx, row.network_id, host_id)
    have = addresses.of_ports(tx, [row.id]).get(row.id, [])
    if row.deferred and not have:
        rows = [each for each in addresses.subnets_of(tx, row.network_id) if each.segment_id == segment_id]
        addresses.take(
            tx,
            port_id=row.id,
            network_id=row.network_id,
            owner=row.device_owner,
            mac=row.mac,
            wanted=None,
            subnets=rows,
        )
    elif any(routed.get(one.subnet_id) != segment_id for one in have):
        raise problems.refused(
            f"Host {host_id} is not connected to a segment where the existing fixed_ips on port {row.id} will function "
            "given the routed network topology.",
            "HostNotCompatibleWithFixedIps",
        )


def _insert_row(tx: Tx, values: dict[str, Any], wanted: str | None) -> str:
    """Insert the port and answer its MAC: the one wanted, or a random one that the network's unique key lets in."""
    for _ in range(1 if wanted else _TRIES):
        mac = wanted or addressing.new_mac()
        try:
            with tx.savepoint():
                tx.insert(port, {**values, "mac": mac})
        except errors.Conflict as taken:
            if wanted:
                raise mac_in_use(values["network_id"], wanted) from taken
        else:
            return mac
    raise problems.refused(
        f"Unable to generate unique mac on network {values['network_id']}.", "MacAddressGenerationFailure"
    )


def _columns(tx: Tx, new: New, port_id: str) -> dict[str, Any]:
    wired = new.device_owner.startswith("network:")
    return {
        "id": port_id,
        "project_id": new.project_id,
        "network_id": new.network_id,
        "name": new.name,
        "description": new.description,
        "admin_state_up": new.admin_state_up,
        "status": new.status,
        "device_id": new.device_id,
        "device_owner": new.device_owner,
        "host_id": new.host_id,
        "host_index": _free_index(tx, new.host_id) if new.host_id is not None and not wired else None,
        "port_security_enabled": new.port_security,
        "vnic_type": new.vnic_type,
        "profile": new.profile,
        "dns_name": new.dns_name,
        "dhcp_options": list(new.dhcp_options),
        "pairs": [list(pair) for pair in new.pairs],
        "made_by_compute": new.made_by_compute,
        "nic_tag": new.nic_tag,
        "nic_order": new.nic_order,
        "qos_policy_id": new.qos_policy_id,
        "extras": new.extras,
        "tags": list(new.tags),
        "revision": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }


def check_secured(port_security: bool, wanted: Collection[str], pairs: Collection[Any]) -> None:
    """Port security off goes with neither groups nor pairs (S0-05). Raises Conflict naming the groups."""
    if port_security:
        return
    if wanted:
        raise problems.refused(
            "Port has security group associated. Cannot disable port security or ip address until security group is "
            f"removed: {', '.join(sorted(wanted))}. One request can do both: set security_groups to an empty list and "
            "port_security_enabled to false.",
            "PortSecurityPortHasSecurityGroup",
        )
    if pairs:
        raise problems.refused(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            "AddressPairAndPortSecurityRequired",
        )


def mac_in_use(network_id: str, mac: str) -> Exception:
    return problems.refused(
        f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.", "MacAddressInUse"
    )


def _free_index(tx: Tx, host_id: str) -> int:
    highest = tx.scalar(_highest, {"host": host_id}) or 0
    if highest < MOST_INDEX:
        return int(highest) + 1
    taken = set(tx.column(_indexes, {"host": host_id}))
    for number in range(1, MOST_INDEX + 1):
        if number not in taken:
            return number
    raise problems.refused(f"Host {host_id} has {MOST_INDEX} ports already.", "PortBindingFailed")


# --- on a host -------------------------------------------------------------------------------------------------------


def bind(tx: Tx, cloud: Cloud, row: Any, host_id: str) -> None:
    """The port lives on this host from now on; it becomes ACTIVE when its guest runs. Again: nothing."""
    if row.host_id == host_id:
        return
    _check_segment(tx, row, host_id)
    wanted = groups_of(tx, [row.id]).get(row.id, [])
    if row.host_id is not None:
        _leave(tx, cloud, row, wanted)
    index = None if row.device_owner.startswith("network:") else _free_index(tx, host_id)
    tx.execute(_place, {"key": row.id, "host": host_id, "index": index, "state": DOWN, "now": tx.now})
    tell_placed(tx, cloud, host_id, row.network_id, [row.id], wanted, guest=index is not None)
    if index is not None:
        touch.edges(tx, cloud, row.id)
    for child in tx.all(_children, {"parent": row.id}):
        bind(tx, cloud, child, host_id)


def unbind(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The port lives on no host; its addresses stay."""
    if row.host_id is None:
        return
    wanted = groups_of(tx, [row.id]).get(row.id, [])
    _leave(tx, cloud, row, wanted)
    for child in tx.all(_children, {"parent": row.id}):
        unbind(tx, cloud, child)


def _leave(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[str]) -> None:
    if row.host_index is not None:
        touch.edges(tx, cloud, row.id)
    tx.execute(_place, {"key": row.id, "host": None, "index": None, "state": DOWN, "now": tx.now})
    tell_gone(tx, cloud, row.host_id, row.network_id, [row.id], wanted)


def tell_placed(
    tx: Tx, cloud: Cloud, host_id: str, network_id: str, port_ids: list[str], wanted: Collection[str], *, guest: bool
) -> None:
    """Ports came to a host: it wires them, all that carry the network learn where they are."""
    told = touch.Told(tx, cloud)
    if guest:
        told.add(host_id, "port", port_ids).groups_of_host(host_id, wanted)
    told.networks([network_id]).members(wanted).send()


def tell_gone(
    tx: Tx, cloud: Cloud, host_id: str, network_id: str, port_ids: list[str], wanted: Collection[str]
) -> None:
    """Ports left a host: what only they needed goes there."""
    told = touch.Told(tx, cloud).add(host_id, "port", port_ids).add(host_id, "network", [network_id])
    told.groups_of_host(host_id, wanted).networks([network_id]).members(wanted).send()


def activate(tx: Tx, port_ids: Collection[str]) -> None:
    """What these ports belong to runs, and so do the ports behind their tags."""
    if port_ids:
        behind = tx.column(_child_ids, {"parents": list(port_ids)})
        tx.execute(_set_status, {"ports": [*port_ids, *behind], "state": ACTIVE, "now": tx.now})


# --- changing and removing -------------------------------------------------------------------------------------------


def change(
    tx: Tx,
    cloud: Cloud,
    row: Any,
    values: dict[str, Any],
    *,
    fixed: Sequence[Wanted] | None = None,
    wanted: Sequence[str] | None = None,
) -> None:
    """Set columns, addresses (`fixed`) and groups (`wanted`). Raises as `create`; nothing is half done."""
    have = groups_of(tx, [row.id]).get(row.id, [])
    pairs = values.get("pairs", row.pairs or [])
    check_secured(
        values.get("port_security_enabled", row.port_security_enabled), have if wanted is None else wanted, pairs
    )
    if values.get("mac", row.mac) is None:
        values["mac"] = _other_mac(tx, row.network_id)
    mac = values.get("mac", row.mac)
    if mac != row.mac:
        if row.device_owner.startswith("network:") or row.status == ACTIVE:
            raise problems.refused(
                f"Port {row.id} is bound and active: its mac address {row.mac} is in use and cannot be changed.",
                "PortBound",
            )
        if tx.first(_mac_taken, {"network": row.network_id, "mac": mac}) is not None:
            raise mac_in_use(row.network_id, mac)
    if row.device_owner == DHCP and "admin_state_up" in values:
        # Hosts answer as this port, which is theirs and nobody's guest: it is down when they are not to.
        values["status"] = ACTIVE if values["admin_state_up"] else DOWN
        touch.networks(tx, cloud, [row.network_id])
    if "host_id" in values:
        host_id = values.pop("host_id")
        if host_id != row.host_id:
            bind(tx, cloud, row, host_id) if host_id else unbind(tx, cloud, row)
            row = get(tx, row.id)
    resource.revise(tx, port, row.id, values)
    if fixed is not None:
        _change_addresses(tx, cloud, row, mac, values.get("device_owner", row.device_owner), fixed)
    if wanted is not None and set(wanted) != set(have):
        tx.execute(_delete_groups, {"port": row.id})
        if wanted:
            tx.execute(_insert_groups, [{"port_id": row.id, "group_id": each} for each in wanted])
    _tell_changed(tx, cloud, row, {*have, *(wanted or ())})


def _other_mac(tx: Tx, network_id: str) -> str:
    """A random MAC that no port of the network has. Raises MacAddressGenerationFailure (409)."""
    for _ in range(_TRIES):
        mac = addressing.new_mac()
        if tx.first(_mac_taken, {"network": network_id, "mac": mac}) is None:
            return mac
    raise problems.refused(f"Unable to generate unique mac on network {network_id}.", "MacAddressGenerationFailure")


def _tell_changed(tx: Tx, cloud: Cloud, row: Any, concerned: Collection[str]) -> None:
    if row.host_id is None:
        return
    told = touch.Told(tx, cloud).add(row.host_id, "port", [row.id]).networks([row.network_id])
    told.groups_of_host(row.host_id, concerned).members(concerned)
    told.send()
    if row.device_owner in (ROUTER, GATEWAY):
        touch.router(tx, cloud, row.host_id, row.device_id)
    touch.guests(tx, cloud, [row.id])


def _change_addresses(tx: Tx, cloud: Cloud, row: Any, mac: str, owner: str, fixed: Sequence[Wanted]) -> None:
    """Keep what is asked for again, free the rest, take what is new."""
    have = addresses.of_ports(tx, [row.id]).get(row.id, [])
    rows = {each.id: each for each in addresses.subnets_of(tx, row.network_id)}
    left = list(have)
    new: list[Wanted] = []
    for one in fixed:
        same = next((t for t in left if one.address is not None and t.address == one.address), None)
        if same is not None:
            left.remove(same)
        elif one.address is not None:
            new.append(one)
    for one in fixed:
        if one.address is None:
            same = next((t for t in left if t.subnet_id == one.subnet_id), None)
            if same is not None:
                left.remove(same)
            else:
                new.append(one)
    routing = owner in (ROUTER, GATEWAY)
    gone = [one for one in left if routing or not addresses.is_auto(rows[one.subnet_id]) or mac != row.mac]
    addresses.give_back(tx, row.id, gone)
    if gone:
        unhook_floating(tx, cloud, row.id, [one.address for one in gone])
        localips.unhook(tx, row.id, [one.address for one in gone])
    addresses.take(
        tx,
        port_id=row.id,
        network_id=row.network_id,
        owner=owner,
        mac=mac,
        wanted=new,
        subnets=list(rows.values()),
        place=len(have),
        auto=False,
    )


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """With its addresses; floating IPs that lead to it lead nowhere then. Raises ServicePortInUse (409) for one that has the
    address of a local IP."""
    wanted = groups_of(tx, [row.id]).get(row.id, []) if row.host_id is not None else []
    ties: Any = tx.first(_ties, {"id": row.id})
    if ties.lent:
        localips.surrender(tx, cloud, row)
    if ties.reached:
        unhook_floating(tx, cloud, row.id)
    if ties.in_trunk:
        for child in tx.all(_children, {"parent": row.id}):
            unbind(tx, cloud, child)
            resource.revise(tx, port, child.id, {"device_owner": ""})
        tx.execute(delete(subport).where(subport.c.port_id == row.id))
        tx.execute(delete(trunk).where(trunk.c.port_id == row.id))
    tx.execute(_delete, {"id": row.id})
    if row.host_id is not None:
        tell_gone(tx, cloud, row.host_id, row.network_id, [row.id], wanted)


def check_deletable(tx: Tx, row: Any) -> None:
    """`row` is the port as the API selects it. Raises ServicePortInUse for a port that belongs to a router or floating IP, PortInUseAsTrunkParent and
    PortInUseAsSubPort for one of a trunk (409), naming it."""
    held = tx.first(_trunk_of, {"port": row.id}) if row.in_trunk else None
    if held is not None:
        kind = "PortInUseAsTrunkParent" if held.port_id == row.id else "PortInUseAsSubPort"
        words = "parent port" if held.port_id == row.id else "subport"
        raise problems.refused(f"Port {row.id} is currently a {words} for trunk {held.id}.", kind)
    if row.device_owner in (ROUTER, GATEWAY, FLOATING, HA):
        table = floatingip if row.device_owner == FLOATING else router
        if tx.first(select(table.c.id).where(table.c.id == row.device_id)) is not None:
            raise problems.refused(
                f"Port {row.id} cannot be deleted directly via the port API: has device owner {row.device_owner} "
                f"(device {row.device_id}).",
                "ServicePortInUse",
            )


def unhook_floating(tx: Tx, cloud: Cloud, port_id: str, only: Collection[str] | None = None) -> None:
    """Floating IPs of a port, or of some addresses of it, lead nowhere from now on; port forwardings and NDP proxies to
    them go."""
    forwardings.unhook(tx, cloud, port_id, only)
    ndpproxies.unhook(tx, cloud, port_id, only)
    statement = select(floatingip.c.id, floatingip.c.router_id).where(floatingip.c.fixed_port_id == port_id)
    if only is not None:
        if not only:
            return
        statement = statement.where(floatingip.c.fixed_address.in_(list(only)))
    touch.edges(tx, cloud, port_id)
    for each in tx.all(statement):
        resource.revise(
            tx,
            floatingip,
            each.id,
            {"fixed_port_id": None, "fixed_address": None, "router_id": None, "status": DOWN},
        )
        if each.router_id is not None:
            host_id = tx.scalar(select(router.c.host_id).where(router.c.id == each.router_id))
            touch.router(tx, cloud, host_id, each.router_id)


def of_device(tx: Tx, device_id: str, owner: str | None = None) -> Sequence[Any]:
    """The ports of a server, router or floating IP, in the order of its NICs."""
    statement = select(port).where(port.c.device_id == device_id)
    if owner is not None:
        statement = statement.where(port.c.device_owner == owner)
    return tx.all(statement.order_by(port.c.nic_order, port.c.created_at, port.c.id))


def is_guest(row: Any) -> bool:
    return bool(row.device_owner.startswith(COMPUTE))


__all__ = ["ACTIVE", "DHCP", "DOWN", "New", "Wanted", "activate", "bind", "create", "get", "remove", "unbind"]
