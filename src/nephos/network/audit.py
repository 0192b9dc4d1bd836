"""Checks of the network ledger: what is there without its owner."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from nephos.hosts.store import host
from nephos.kernel.cloud import Finding
from nephos.kernel.db.engine import Tx
from nephos.network.floatingips.store import floatingip
from nephos.network.networks.store import network
from nephos.network.ports.store import COMPUTE, FLOATING, GATEWAY, ROUTER, port
from nephos.network.routers.store import router, silent_gateway

HOUR = 3_600_000_000
"""Microseconds."""


def check(tx: Tx) -> Iterator[Finding]:
    """Ports of routers and floating IPs that are gone. Ports of servers are compute's to know."""
    for owners, table, what in (((ROUTER, GATEWAY), router, "router"), ((FLOATING,), floatingip, "floating IP")):
        statement = select(port.c.id, port.c.device_id).where(
            port.c.device_owner.in_(owners), ~select(table.c.id).where(table.c.id == port.c.device_id).exists()
        )
        for row in tx.all(statement):
            yield Finding("port", row.id, f"belongs to {what} {row.device_id}, which is not there")
    lost = select(floatingip.c.id, floatingip.c.fixed_port_id).where(
        floatingip.c.fixed_port_id.is_not(None),
        ~select(port.c.id).where(port.c.id == floatingip.c.fixed_port_id).exists(),
    )
    for row in tx.all(lost):
        yield Finding("floatingip", row.id, f"leads to port {row.fixed_port_id}, which is not there")
    silent = select(silent_gateway.c.address, port.c.device_id, port.c.network_id, host.c.name).join(
        port, port.c.id == silent_gateway.c.port_id
    )
    for row in tx.all(silent.join(host, host.c.id == silent_gateway.c.host_id)):
        why = (
            f"gateway {row.address} of external network {row.network_id} does not answer on host {row.name}: the subnet's "
            "gateway or range, or the host's mapping of the physical network, is not what is really there"
        )
        yield Finding("router", row.device_id, why)
    yield from rogues(tx)
    yield from unwired(tx)


def rogues(tx: Tx) -> Iterator[Finding]:
    """Servers that answer where the cloud does, blocked within the last hour (S3-54)."""
    for table, what in ((port, "port"), (network, "network")):
        recent = select(table.c.id, table.c.rogue).where(table.c.rogue_at > tx.now - HOUR)
        for row in tx.all(recent):
            for kind, mac, address, frames in row.rogue or ():
                source = f"{address} ({mac})" if mac else address
                yield Finding(what, row.id, f"a {kind} server that is none of the cloud's: {source}, {frames} blocked")


def unwired(tx: Tx) -> Iterator[Finding]:
    """Ports that their hosts could not wire, and why."""
    for row in tx.all(select(port.c.id, port.c.wiring_error).where(port.c.wiring_error.is_not(None))):
        yield Finding("port", row.id, f"is not wired: {row.wiring_error}")


def guest_ports(tx: Tx) -> list[tuple[str, str]]:
    """(port id, server id) of every port that says that it is a server's."""
    statement = select(port.c.id, port.c.device_id).where(port.c.device_owner.startswith(COMPUTE))
    return [(row.id, row.device_id) for row in tx.all(statement)]
