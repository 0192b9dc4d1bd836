"""What the network service tells, as Neutron's listeners know it: `port.create.start`, `port.create.end` and their like.

The `.start` holds the request's body, the `.end` the resource as the API shows it. Both are written in the unit of work
that makes the change, so a change that is refused is not told of at all. Actions that are no create, update or delete
of a resource (a router's interfaces, a trunk's subports) are told under names of their own, as Neutron does where it
tells them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications.outbox import HOST, Notice

Item = Mapping[str, Any]


def created(tx: Tx, name: str, raw: bytes, body: Mapping[str, Any], ids: Sequence[str]) -> None:
    """`raw` is the request's body, `body` the reply's: one resource or a list under its plural."""
    if tx.outbox is not None:
        _both(tx, f"{name}.create", msgspec.json.decode(raw), body, f"{name}/{ids[0]}")


def updated(tx: Tx, name: str, raw: bytes, body: Mapping[str, Any], key: str) -> None:
    if tx.outbox is not None:
        _both(tx, f"{name}.update", {**msgspec.json.decode(raw), "id": key}, body, f"{name}/{key}")


def deleted(tx: Tx, name: str, body: Mapping[str, Any], key: str) -> None:
    """`body` is the resource as it was."""
    if tx.outbox is not None:
        gone = {f"{name}_id": key}
        _both(tx, f"{name}.delete", gone, {**body, **gone}, f"{name}/{key}")


def interface(tx: Tx, operation: str, info: Item) -> None:
    """A router's interface came or went: `operation` is create or delete, `info` the reply of the API."""
    if tx.outbox is not None:
        tx.outbox.put(tx, _notice(f"router.interface.{operation}", {"router_interface": info}, f"router/{info['id']}"))


def metered(
    tx: Tx, label_id: str, router: Any, host: str, packets: int, octets: int, seconds: int, at: int
) -> None:
    """What a metering label counted at a router in the `seconds` before `at` (microseconds since the epoch), as Neutron's
    metering agent tells it, with the router beside."""
    if tx.outbox is not None:
        end = at // 1_000_000
        payload = {
            "label_id": label_id,
            "project_id": router.project_id,
            "router_id": router.id,
            "pkts": packets,
            "bytes": octets,
            "time": seconds,
            "first_update": end - seconds,
            "last_update": end,
            "host": host,
        }
        publisher = f"metering.{host}"
        resource = f"metering_label/{label_id}"
        tx.outbox.put(
            tx, Notice(service="neutron", publisher=publisher, event="l3.meter", payload=payload, resource=resource)
        )


def ports_created(tx: Tx, items: Iterable[Item]) -> None:
    """Ports that another service made for its own resource, as the API would show them."""
    for item in items:
        asked = {name: item[name] for name in ("network_id", "project_id", "tenant_id", "device_id", "device_owner")}
        _both(tx, "port.create", {"port": asked}, {"port": item}, f"port/{item['id']}")


def ports_updated(tx: Tx, items: Iterable[Item]) -> None:
    for item in items:
        asked = {name: item[name] for name in ("device_id", "device_owner")}
        _both(tx, "port.update", {"port": asked, "id": item["id"]}, {"port": item}, f"port/{item['id']}")


def ports_deleted(tx: Tx, items: Iterable[Item]) -> None:
    for item in items:
        deleted(tx, "port", {"port": item}, item["id"])


def _both(tx: Tx, event: str, start: Any, end: Any, resource: str) -> None:
    if tx.outbox is not None:
        tx.outbox.put(tx, _notice(f"{event}.start", start, resource), _notice(f"{event}.end", end, resource))


def _notice(event: str, payload: Any, resource: str) -> Notice:
    return Notice(service="neutron", publisher=f"network.{HOST}", event=event, payload=payload, resource=resource)
