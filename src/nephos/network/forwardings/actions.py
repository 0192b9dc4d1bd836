"""What port forwardings can do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.floatingips.store import floatingip
from nephos.network.forwardings.store import forwarding
from nephos.network.routers.store import router

PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "udplite")
_of = select(forwarding).where(forwarding.c.floatingip_id == bindparam("floating"))
_inside = select(forwarding).where(
    forwarding.c.port_id == bindparam("port"), forwarding.c.protocol == bindparam("protocol")
)
_of_many = (
    select(forwarding)
    .where(forwarding.c.floatingip_id.in_(bindparam("floating", expanding=True)))
    .order_by(forwarding.c.created_at, forwarding.c.id)
)
_of_port = select(forwarding).where(forwarding.c.port_id == bindparam("port"))
Ports = tuple[int, int]


class Forwarding(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be forwarded where; `inside` is one port, or as many as `outside`."""

    protocol: str
    outside: Ports
    port_id: str
    address: str
    inside: Ports


def of_floating(tx: Tx, floating_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Floating IP's id → the rows of its port forwardings, in one query."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(_of_many, {"floating": list(floating_ids)}):
        found.setdefault(row.floatingip_id, []).append(row)
    return found


def of_port(tx: Tx, port_id: str) -> Sequence[Any]:
    """The port forwardings that lead to a port."""
    return tx.all(_of_port, {"port": port_id})


def add(tx: Tx, cloud: Cloud, floating: Any, new: Forwarding, router_id: str, description: str = "") -> str:
    """Raises BadRequest for ranges that do not fit or are taken."""
    _check(tx, floating.id, new)
    _lead(tx, floating, router_id)
    forwarding_id = clock.uuid4()
    values = {
        "id": forwarding_id,
        "floatingip_id": floating.id,
        "description": description,
        "revision": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    tx.insert(forwarding, {**values, **_columns(new)})
    tell(tx, cloud, router_id)
    return forwarding_id


def change(
    tx: Tx, cloud: Cloud, floating: Any, row: Any, new: Forwarding, router_id: str, description: str | None = None
) -> None:
    """Raises as `add`."""
    _check(tx, floating.id, new, but=row.id)
    _lead(tx, floating, router_id)
    more = {} if description is None else {"description": description}
    resource.revise(tx, forwarding, row.id, {**_columns(new), **more})
    tell(tx, cloud, router_id)


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """With the last one the floating IP leads nowhere."""
    tx.execute(delete(forwarding).where(forwarding.c.id == row.id))
    found = tx.first(select(floatingip.c.router_id).where(floatingip.c.id == row.floatingip_id))
    if found is None or found.router_id is None:
        return
    if not tx.all(_of, {"floating": row.floatingip_id}):
        resource.revise(tx, floatingip, row.floatingip_id, {"router_id": None, "status": "DOWN"})
    tell(tx, cloud, found.router_id)


def unhook(tx: Tx, cloud: Cloud, port_id: str, only: Collection[str] | None = None) -> None:
    """Port forwardings to a port, or to some addresses of it, go with them."""
    for row in of_port(tx, port_id):
        if only is None or row.address in only:
            remove(tx, cloud, row)


def _lead(tx: Tx, floating: Any, router_id: str) -> None:
    """The floating IP is on this router from now on. Raises BadRequest when it is on another."""
    if floating.router_id is None:
        host_id = tx.scalar(select(router.c.host_id).where(router.c.id == router_id))
        resource.revise(
            tx, floatingip, floating.id, {"router_id": router_id, "status": "ACTIVE" if host_id else "DOWN"}
        )
    elif floating.router_id != router_id:
        raise problems.bad(
            f"Bad port_forwarding request: The Floating IP {floating.id} had been set on router {floating.router_id}, the "
            "internal Neutron port can not reach it.",
            "BadRequest",
        )


def _columns(new: Forwarding) -> dict[str, Any]:
    return {
        "protocol": new.protocol,
        "outside_first": new.outside[0],
        "outside_last": new.outside[1],
        "port_id": new.port_id,
        "address": new.address,
        "inside_first": new.inside[0],
        "inside_last": new.inside[1],
    }


def _check(tx: Tx, floating_id: str, new: Forwarding, *, but: str | None = None) -> None:
    width, inner = (last - first for first, last in (new.outside, new.inside))
    if inner not in (0, width):
        raise problems.bad(
            "Bad port_forwarding request: Invalid ranges of internal and/or external ports. The relation between internal "
            "and external ports must be N-N or 1-N",
            "BadRequest",
        )
    for row in tx.all(_of, {"floating": floating_id}):
        if row.id != but and row.protocol == new.protocol:
            _apart("external_port_range", (row.outside_first, row.outside_last), new.outside)
    for row in tx.all(_inside, {"port": new.port_id, "protocol": new.protocol}):
        if row.id != but and row.address == new.address:
            _apart("internal_port_range", (row.inside_first, row.inside_last), new.inside)


def _apart(what: str, have: Ports, wanted: Ports) -> None:
    if max(have[0], wanted[0]) <= min(have[1], wanted[1]):
        raise problems.bad(
            f"Bad port_forwarding request: There is a port collision with the {what}. The following ranges collide: "
            f"{have[0]}:{have[1]} and {wanted[0]}:{wanted[1]}",
            "BadRequest",
        )


def tell(tx: Tx, cloud: Cloud, router_id: str) -> None:
    touch.router(tx, cloud, tx.scalar(select(router.c.host_id).where(router.c.id == router_id)), router_id)
