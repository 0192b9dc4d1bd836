"""What address groups can do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource, touch
from nephos.network.addressgroups.store import address_group
from nephos.network.groups.store import rule
from nephos.network.networks.store import rbac
from nephos.network.quotas import actions as quotas

MOST = 10_000
"""Addresses of one group: what a host's set takes without a pause."""


def create(tx: Tx, cloud: Cloud, *, project_id: str, name: str, description: str, addresses: Sequence[str]) -> str:
    """Raises OverQuota, BadRequest for an address that is none."""
    quotas.take(tx, cloud, project_id, "address_group")
    group_id = clock.uuid4()
    tx.insert(
        address_group,
        {
            "id": group_id,
            "project_id": project_id,
            "name": name,
            "description": description,
            "addresses": _whole(dict.fromkeys(ranges(addresses))),
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return group_id


def add(tx: Tx, cloud: Cloud, row: Any, addresses: Sequence[str]) -> None:
    """Raises AddressesAlreadyExist naming those that are there."""
    new = ranges(addresses)
    double = sorted(set(new) & set(row.addresses))
    if double:
        raise problems.bad(
            f"Addresses {', '.join(double)} already exist in the address group {row.id}.", "AddressesAlreadyExist"
        )
    _set(tx, cloud, row, [*row.addresses, *new])


def take(tx: Tx, cloud: Cloud, row: Any, addresses: Sequence[str]) -> None:
    """Remove addresses. Raises AddressesNotFound naming those that are not there."""
    gone = set(ranges(addresses, bare=True))
    lacking = sorted(gone - set(row.addresses))
    if lacking:
        raise problems.missing(f"Addresses {', '.join(lacking)} of address group", row.id, "AddressesNotFound")
    _set(tx, cloud, row, [each for each in row.addresses if each not in gone])


def remove(tx: Tx, row: Any) -> None:
    """Raises AddressGroupInUse (409) naming a rule that refers to it."""
    user = tx.scalar(select(rule.c.id).where(rule.c.remote_address_group_id == row.id).limit(1))
    if user is not None:
        raise problems.refused(
            f"Address group {row.id} is in use on one or more security group rules: {user}.", "AddressGroupInUse"
        )
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id))
    tx.execute(delete(address_group).where(address_group.c.id == row.id))


def ranges(addresses: Iterable[str], *, bare: bool = False) -> list[str]:
    """CIDRs and ranges `a-b`, as CIDRs. Raises BadRequest, as Neutron does also for an address without its length where
    not `bare`: what is to be put in."""
    found: list[str] = []
    for text in addresses:
        first, dash, last = text.partition("-")
        if not dash:
            if "/" not in text and not bare:
                raise problems.invalid("addresses", f"'{text}' isn't a recognized IP subnet cidr")
            found.append(addressing.prefix("addresses", text))
            continue
        low, high = (addressing.address("addresses", each.strip()) for each in (first, last))
        if low.version != high.version or int(low) > int(high):
            raise problems.invalid("addresses", f"'{text}' is no range from a lower to a higher address")
        found.extend(map(str, ipaddress.summarize_address_range(low, high)))
    return found


def _set(tx: Tx, cloud: Cloud, row: Any, addresses: Iterable[str]) -> None:
    resource.revise(tx, address_group, row.id, {"addresses": _whole(addresses)})
    touch.address_group(tx, cloud, row.id)


def _whole(addresses: Iterable[str]) -> list[str]:
    found = sorted(set(addresses), key=_order)
    if len(found) > MOST:
        raise problems.invalid("addresses", f"an address group holds at most {MOST} ranges, these are {len(found)}")
    return found


def _order(cidr: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(cidr)
    return network.version, int(network.network_address), network.prefixlen
