"""What the compute service keeps in memory. Nothing here is the truth: a restart loses none of it that matters."""

from __future__ import annotations

from dataclasses import dataclass

from nephos.compute.building.steps import Building
from nephos.compute.showing.bodies import Bodies


@dataclass(slots=True)
class Parts:
    """`bodies` are encoded servers, `building` holds the scheduler's snapshot."""

    bodies: Bodies
    building: Building
