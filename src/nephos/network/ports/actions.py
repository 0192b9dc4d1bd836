"""What ports can do: be made with addresses, live on a host, change, and go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource, touch
from nephos.network.floatingips.store import floatingip
from nephos.network.groups import actions as groups
from nephos.network.ports.store import ACTIVE, COMPUTE, DHCP, DOWN, FLOATING, GATEWAY, ROUTER, port, port_group
from nephos.network.quotas import actions as quotas
from nephos.network.routers.store import router
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted

MOST_INDEX = 65535
_TRIES = 8
_by_id = select(port).where(port.c.id == bindparam("id"))
_groups_of = select(port_group.c.port_id, port_group.c.group_id).where(
    port_group.c.port_id.in_(bindparam("ports", expanding=True))
)
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
_insert = insert(port)
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


def get(tx: Tx, port_id: str) -> Any:
    """A port's row. Raises PortNotFound."""
    row = tx.first(_by_id, {"id": port_id})
    if row is None:
        raise problems.missing("Port", port_id)
    return row


def groups_of(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[str]]:
    """Every port's security groups."""
    found: dict[str, list[str]] = {}
    for row in tx.all(_groups_of, {"ports": list(port_ids)}):
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
    mac = _insert_row(tx, _columns(tx, new, port_id), new.mac)
    addresses.take(
        tx,
        port_id=port_id,
        network_id=new.network_id,
        owner=new.device_owner,
        mac=mac,
        wanted=new.fixed,
        subnets=subnets,
    )
    if wanted:
        tx.execute(_insert_groups, [{"port_id": port_id, "group_id": each} for each in wanted])
    if new.host_id is not None:
        tell_placed(tx, cloud, new.host_id, new.network_id, [port_id], wanted, guest=not wired)
    return port_id


def _insert_row(tx: Tx, values: dict[str, Any], wanted: str | None) -> str:
    """Insert the port and answer its MAC: the one wanted, or a random one that the network's unique key lets in."""
    for _ in range(1 if wanted else _TRIES):
        mac = wanted or addressing.new_mac()
        try:
            tx.execute(_insert, {**values, "mac": mac})
        except IntegrityError as taken:
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
        "tags": [],
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
    wanted = groups_of(tx, [row.id]).get(row.id, [])
    if row.host_id is not None:
        _leave(tx, cloud, row, wanted)
    index = None if row.device_owner.startswith("network:") else _free_index(tx, host_id)
    tx.execute(_place, {"key": row.id, "host": host_id, "index": index, "state": DOWN, "now": tx.now})
    tell_placed(tx, cloud, host_id, row.network_id, [row.id], wanted, guest=index is not None)


def unbind(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The port lives on no host; its addresses stay."""
    if row.host_id is None:
        return
    wanted = groups_of(tx, [row.id]).get(row.id, [])
    _leave(tx, cloud, row, wanted)


def _leave(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[str]) -> None:
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
    """What these ports belong to runs."""
    if port_ids:
        tx.execute(_set_status, {"ports": list(port_ids), "state": ACTIVE, "now": tx.now})


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
    mac = values.get("mac", row.mac)
    if mac != row.mac:
        if row.device_owner.startswith("network:") or row.status == ACTIVE:
            raise problems.refused(
                f"Port {row.id} is bound and active: its mac address {row.mac} is in use and cannot be changed.",
                "PortBound",
            )
        if tx.first(_mac_taken, {"network": row.network_id, "mac": mac}) is not None:
            raise mac_in_use(row.network_id, mac)
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


def _tell_changed(tx: Tx, cloud: Cloud, row: Any, concerned: Collection[str]) -> None:
    if row.host_id is None:
        return
    told = touch.Told(tx, cloud).add(row.host_id, "port", [row.id]).networks([row.network_id])
    told.groups_of_host(row.host_id, concerned).members(concerned)
    if row.device_owner in (ROUTER, GATEWAY):
        told.add(row.host_id, "router", [row.device_id])
    told.send()


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
    unhook_floating(tx, cloud, row.id, [one.address for one in gone])
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
    """With its addresses; floating IPs that lead to it lead nowhere then."""
    wanted = groups_of(tx, [row.id]).get(row.id, [])
    unhook_floating(tx, cloud, row.id)
    tx.execute(_delete, {"id": row.id})
    if row.host_id is not None:
        tell_gone(tx, cloud, row.host_id, row.network_id, [row.id], wanted)


def check_deletable(tx: Tx, row: Any) -> None:
    """Raises ServicePortInUse (409) for a port that belongs to a router or floating IP, naming it."""
    if row.device_owner in (ROUTER, GATEWAY, FLOATING):
        table = floatingip if row.device_owner == FLOATING else router
        if tx.first(select(table.c.id).where(table.c.id == row.device_id)) is not None:
            raise problems.refused(
                f"Port {row.id} cannot be deleted directly via the port API: has device owner {row.device_owner} "
                f"(device {row.device_id}).",
                "ServicePortInUse",
            )


def unhook_floating(tx: Tx, cloud: Cloud, port_id: str, only: Collection[str] | None = None) -> None:
    """Floating IPs of a port, or of some addresses of it, lead nowhere from now on."""
    statement = select(floatingip.c.id, floatingip.c.router_id).where(floatingip.c.fixed_port_id == port_id)
    if only is not None:
        if not only:
            return
        statement = statement.where(floatingip.c.fixed_address.in_(list(only)))
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
