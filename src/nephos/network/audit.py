"""What audit asks of the network service."""

from __future__ import annotations

from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.network.ports.store import COMPUTE, port


def guest_ports(tx: Tx) -> list[tuple[str, str]]:
    """(port id, server id) of every port that says that it is a server's."""
    statement = select(port.c.id, port.c.device_id).where(port.c.device_owner.startswith(COMPUTE))
    return [(row.id, row.device_id) for row in tx.all(statement)]
