"""What bindings of ports can do (extension binding-extended): be prepared on another host, and change over."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.hosts import store as hosts
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems
from nephos.network.bindings.store import binding
from nephos.network.ports import actions as ports
from nephos.network.ports.store import ACTIVE

_of_port = (
    select(binding, hosts.host.c.name)
    .join(hosts.host, hosts.host.c.id == binding.c.host_id)
    .where(binding.c.port_id == bindparam("port"))
    .order_by(hosts.host.c.name)
)


def all_of(tx: Tx, port_id: str) -> list[Any]:
    """The inactive bindings of a port, with their hosts' names."""
    return list(tx.all(_of_port, {"port": port_id}))


def create(tx: Tx, row: Any, host_id: str, host: str, *, vnic_type: str, profile: dict[str, Any]) -> None:
    """`row` is the port. Raises PortBindingAlreadyExists (409)."""
    if row.host_id == host_id or any(each.host_id == host_id for each in all_of(tx, row.id)):
        raise problems.refused(f"Binding for port {row.id} on host {host} already exists.", "PortBindingAlreadyExists")
    tx.insert(binding, {"port_id": row.id, "host_id": host_id, "vnic_type": vnic_type, "profile": profile})


def activate(tx: Tx, cloud: Cloud, row: Any, host_id: str, host: str) -> None:
    """The port lives on that host from now on; where it lived it has an inactive binding.

    Raises PortBindingAlreadyActive (409), PortBindingNotFound.
    """
    if row.host_id == host_id:
        raise problems.refused(
            f"Binding for port {row.id} on host {host} is already active.", "PortBindingAlreadyActive"
        )
    chosen = next((each for each in all_of(tx, row.id) if each.host_id == host_id), None)
    if chosen is None:
        raise _missing(row.id, host)
    _drop(tx, row.id, host_id)
    if row.host_id is not None:
        before = {"vnic_type": row.vnic_type, "profile": row.profile or {}}
        tx.insert(binding, {"port_id": row.id, "host_id": row.host_id, **before})
    values = {"vnic_type": chosen.vnic_type, "profile": chosen.profile or {}, "host_id": host_id}
    ports.change(tx, cloud, row, values)
    if row.status == ACTIVE:
        ports.activate(tx, [row.id])


def remove(tx: Tx, cloud: Cloud, row: Any, host_id: str, host: str) -> None:
    """The active binding too: the port lives nowhere then. Raises PortBindingNotFound."""
    if row.host_id == host_id:
        ports.unbind(tx, cloud, row)
    elif not _drop(tx, row.id, host_id):
        raise _missing(row.id, host)


def _drop(tx: Tx, port_id: str, host_id: str) -> int:
    gone = delete(binding).where(binding.c.port_id == port_id, binding.c.host_id == host_id)
    return int(tx.execute(gone).rowcount)


def _missing(port_id: str, host: str) -> Exception:
    return problems.missing(f"Binding for port {port_id} for host", host, "PortBindingNotFound")
