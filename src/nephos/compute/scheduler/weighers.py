"""The order in which hosts that passed are tried: most free RAM, CPU and disk first (S3-30), ties at random."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nephos.compute.scheduler.filters import Request
from nephos.compute.scheduler.snapshot import DISK_GB, MEMORY_MB, VCPU, Amounts, Mask, Snapshot
from nephos.kernel import clock

Weights = NDArray[np.float64]
SOFT = {"soft-affinity": 10.0, "soft-anti-affinity": -10.0}
MULTIPLIERS = {MEMORY_MB: 1.0, VCPU: 1.0, DISK_GB: 1.0}
SPREAD = 0.5
"""How much having few servers counts beside a free resource."""


def weigh(snapshot: Snapshot, request: Request, mask: Mask) -> Weights:
    """A number a host, higher is better; each part is scaled to 0…1 over the hosts that passed."""
    weights: Weights = np.zeros(len(snapshot), dtype=np.float64)
    for name, multiplier in MULTIPLIERS.items():
        weights += multiplier * _scaled(snapshot.resources[name].free, mask)
    weights -= SPREAD * _scaled(snapshot.servers, mask)
    soft = SOFT.get(request.policy or "")
    if soft and request.group_hosts:
        members = np.zeros(len(snapshot), dtype=np.int64)
        for each, count in request.group_hosts.items():
            if each in snapshot.position:
                members[snapshot.position[each]] = count
        weights += soft * _scaled(members, mask)
    return weights


def best_first(weights: Weights, mask: Mask) -> Iterator[int]:
    """Places of the hosts in `mask`, the heaviest first; among equals at random."""
    left = mask.copy()
    while left.any():
        top = weights[left].max()
        ties = np.flatnonzero(left & (weights >= top - 1e-9))
        at = int(ties[int(clock.jitter() * len(ties))])
        left[at] = False
        yield at


def _scaled(values: Amounts, mask: Mask) -> Weights:
    chosen = values[mask]
    if not chosen.size:
        return np.zeros(len(values), dtype=np.float64)
    low, high = int(chosen.min()), int(chosen.max())
    if low == high:
        return np.zeros(len(values), dtype=np.float64)
    return (values - low) / float(high - low)
