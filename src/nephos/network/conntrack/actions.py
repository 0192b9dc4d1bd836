"""What connection tracking helpers can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.conntrack.store import helper
from nephos.network.routers.store import router

PROTOCOLS: dict[str, tuple[str, ...]] = {
    "amanda": ("udp",),
    "ftp": ("tcp",),
    "h323": ("tcp", "udp"),
    "irc": ("tcp",),
    "netbios-ns": ("udp",),
    "pptp": ("tcp",),
    "sane": ("tcp",),
    "sip": ("tcp", "udp"),
    "snmp": ("udp",),
    "tftp": ("udp",),
}
"""Every helper that Linux has, with what it speaks: as Neutron lists them, but for amanda, which Linux helps over UDP."""
_of = (
    select(helper)
    .where(helper.c.router_id.in_(bindparam("routers", expanding=True)))
    .order_by(helper.c.created_at, helper.c.id)
)


def of_routers(tx: Tx, router_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Router → rows of its helpers, in one query."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(_of, {"routers": list(router_ids)}):
        found.setdefault(row.router_id, []).append(row)
    return found


def add(tx: Tx, cloud: Cloud, router_id: str, protocol: str, port: int, name: str) -> str:
    """Raises ConntrackHelperNotAllowed, InvalidProtocolForHelper, BadRequest for one that is there already."""
    _check(tx, router_id, protocol, port, name)
    helper_id = clock.uuid4()
    values = {"protocol": protocol, "port": port, "helper": name}
    tx.insert(
        helper,
        {"id": helper_id, "router_id": router_id, **values, "revision": 1, "created_at": tx.now, "updated_at": tx.now},
    )
    _tell(tx, cloud, router_id)
    return helper_id


def change(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Raises as `add`."""
    protocol, port = values.get("protocol", row.protocol), values.get("port", row.port)
    _check(tx, row.router_id, protocol, port, values.get("helper", row.helper), but=row.id)
    resource.revise(tx, helper, row.id, values)
    _tell(tx, cloud, row.router_id)


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    tx.execute(delete(helper).where(helper.c.id == row.id))
    _tell(tx, cloud, row.router_id)


def _check(tx: Tx, router_id: str, protocol: str, port: int, name: str, *, but: str | None = None) -> None:
    if name not in PROTOCOLS:
        raise problems.bad(f"Conntrack Helper {name} is not allowed.", "ConntrackHelperNotAllowed")
    if protocol not in PROTOCOLS[name]:
        raise problems.bad(
            f"Conntrack Helper {name} does not support: {protocol}. Supported protocols are: "
            f"{', '.join(PROTOCOLS[name])}",
            "InvalidProtocolForHelper",
        )
    for row in of_routers(tx, [router_id]).get(router_id, ()):
        if row.id != but and (row.protocol, row.port) == (protocol, port):
            raise problems.bad(
                f"Bad conntrack_helper request: A duplicate conntrack helper entry with same attributes already exists: "
                f"{row.id} helps {row.protocol} port {row.port}.",
                "BadRequest",
            )


def _tell(tx: Tx, cloud: Cloud, router_id: str) -> None:
    touch.router(tx, cloud, tx.scalar(select(router.c.host_id).where(router.c.id == router_id)), router_id)
