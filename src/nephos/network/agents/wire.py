"""Agents as Neutron's clients know them. A host has one process that is all of them, so they are derived from hosts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.network import resource

_NAMESPACE = uuid.UUID("5a6f5f58-1b59-4c9a-9d6d-0f0b3d5ad1f2")


class Role(NamedTuple):
    """One of the agents that a host counts as."""

    type: str
    binary: str
    topic: str


DHCP = Role("DHCP agent", "neutron-dhcp-agent", "dhcp_agent")
L3 = Role("L3 agent", "neutron-l3-agent", "l3_agent")
BRIDGE = Role("Linux bridge agent", "neutron-linuxbridge-agent", "N/A")
METADATA = Role("Metadata agent", "neutron-metadata-agent", "N/A")
ROLES = (DHCP, L3, BRIDGE, METADATA)


class Update(resource.Base, kw_only=True):
    """PUT /agents/{id}."""

    admin_state_up: bool | UnsetType = UNSET
    description: str | UnsetType = UNSET


def agent_id(host_id: str, role: Role) -> str:
    """The same for ever, without being stored."""
    return str(uuid.uuid5(_NAMESPACE, f"{host_id}:{role.binary}"))


def agents_of(row: Any, now: int, zone: str, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A host's agents. `known` are the rows of what operators set, by agent id."""
    for role in ROLES:
        key = agent_id(row.id, role)
        mine = known.get(key)
        yield {
            "id": key,
            "agent_type": role.type,
            "binary": role.binary,
            "topic": role.topic,
            "host": row.name,
            "admin_state_up": mine.admin_state_up if mine else True,
            "description": (mine.description or None) if mine else None,
            "alive": hosts.up(row, now),
            "availability_zone": (row.zone or zone) if role in (DHCP, L3) else None,
            "configurations": {"tunneling_ip": row.tunnel_address} if role is BRIDGE else {},
            "resources_synced": None,
            "created_at": _stamp(row.created_at),
            "started_at": _stamp(row.created_at),
            "heartbeat_timestamp": _stamp(row.last_seen or row.created_at),
        }


def _stamp(us: int) -> str:
    return (clock.iso(us, zone="") or "").replace("T", " ")
