"""Which networks of a host give a server's ports what their minimum rules ask for (bandwidth, packet rate).

What a port needs (`network.qos.needs`) is of one provider below the host. The traits of a need hardly leave a choice, so
each takes the first provider that has room beside what the needs before it took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nephos import errors
from nephos.compute.scheduler.snapshot import Snapshot
from nephos.kernel.db.engine import Tx
from nephos.network.qos.needs import Need
from nephos.placement.allocations import actions as allocations
from nephos.placement.providers import below
from nephos.placement.providers.below import Branch

Taken = dict[str, dict[str, int]]
"""Provider → resource class → amount."""


def choose(branches: Sequence[Branch], needs: Sequence[Need]) -> tuple[Taken, Need | None]:
    """What the needs take of these providers, and the first need that finds none."""
    taken: Taken = {}
    for need in needs:
        for branch in branches:
            mine = taken.get(branch.id, {})
            if branch.traits.issuperset(need.required) and _room(branch, need, mine):
                taken[branch.id] = {
                    name: mine.get(name, 0) + need.resources.get(name, 0) for name in {**mine, **need.resources}
                }
                break
        else:
            return taken, need
    return taken, None


def _room(branch: Branch, need: Need, mine: Mapping[str, int]) -> bool:
    return all(mine.get(name, 0) + amount <= branch.free.get(name, 0) for name, amount in need.resources.items())


def lacking(snapshot: Snapshot, needs: Sequence[Need]) -> str:
    """What is too little on the hosts, in words: the needs that some host has no room for."""
    found: dict[str, None] = {}
    for host_id in snapshot.ids:
        _, short = choose(snapshot.branches.get(host_id, ()), needs)
        if short is not None:
            found.setdefault(words(short))
    return ", ".join(found)


def words(need: Need) -> str:
    """port web asks for 1000 NET_BW_EGR_KILOBIT_PER_SEC of CUSTOM_PHYSNET_PUBLIC, CUSTOM_VNIC_TYPE_NORMAL"""
    amounts = ", ".join(f"{amount} {name}" for name, amount in sorted(need.resources.items()))
    return f"{need.whose} asks for {amounts} of one provider with {', '.join(need.required)}"


def claim(tx: Tx, host_id: str, needs: Sequence[Need], consumer: allocations.Claim) -> None:
    """Take what the needs ask for of a host's networks, in place of all that the consumer had of them. Raises Conflict
    naming what is short; `consumer` tells for whom, and its resources do not matter."""
    allocations.release_below(tx, consumer.consumer_id, host_id)
    if not needs:
        return
    taken, short = choose(below.of_hosts(tx, host_id).get(host_id, ()), needs)
    if short is not None:
        raise errors.Conflict(f"The host's networks have too little left: {words(short)}.")
    for provider_id, amounts in taken.items():
        allocations.claim_below(tx, consumer._replace(host_id=provider_id, resources=amounts))
