"""Agents as operators know them: of each host one of every type, derived from the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update

from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, touch
from nephos.network.agents import disabled
from nephos.network.agents.disabled import L3, key_of
from nephos.network.agents.store import agent, binding
from nephos.network.ports.store import port
from nephos.network.routers import placing
from nephos.network.routers.store import STANDBY, router, router_host
from nephos.network.segments.types import TUNNELS
from nephos.network.subnets.store import subnet

MOST_PRIORITY = 32767
BRIDGE, DHCP, METADATA = "Linux bridge agent", "DHCP agent", "Metadata agent"
_silent = select(binding.c.network_id).where(binding.c.host_id == bindparam("host"), binding.c.serves.is_(False))
TYPES = (BRIDGE, DHCP, L3, METADATA)
OPEN = "openvswitch"
_TOPICS = {BRIDGE: "N/A", DHCP: "dhcp_agent", L3: "l3_agent", METADATA: "N/A"}


def all_agents(tx: Tx, cloud: Cloud) -> list[dict[str, Any]]:
    """Every agent, by host and type."""
    said = {row.id: row for row in tx.all(select(agent))}
    loads = _loads(tx)
    return [
        _agent(tx, cloud, row, kind, said.get(key_of(row.id, kind)), loads)
        for row in hosts.all_hosts(tx)
        for kind in TYPES
    ]


def _loads(tx: Tx) -> Mapping[str, int]:
    counted = select(router.c.host_id, func.count().label("number")).where(router.c.host_id.is_not(None))
    found = {row.host_id: row.number for row in tx.all(counted.group_by(router.c.host_id))}
    waiting = select(router_host.c.host_id, func.count().label("number")).where(router_host.c.state == STANDBY)
    for row in tx.all(waiting.group_by(router_host.c.host_id)):
        found[row.host_id] = found.get(row.host_id, 0) + row.number
    return found


def _agent(tx: Tx, cloud: Cloud, row: Any, kind: str, said: Any, loads: Mapping[str, int]) -> dict[str, Any]:
    seen = _moment(row.last_seen or row.created_at)
    settings: dict[str, Any] = {}
    if kind == BRIDGE:
        settings = {
            "tunneling_ip": row.tunnel_address,
            "tunnel_types": [] if not row.tunnel_address else list(TUNNELS) if row.switch == OPEN else ["vxlan"],
            "bridge_mappings": dict.fromkeys(row.physical or (), ""),
        }
    elif kind == L3:
        settings = {"agent_mode": "legacy", "routers": loads.get(row.id, 0)}
    return {
        "id": key_of(row.id, kind),
        "agent_type": "Open vSwitch agent" if kind == BRIDGE and row.switch == OPEN else kind,
        "binary": "nephos-agent",
        "topic": _TOPICS[kind],
        "host": row.name,
        "availability_zone": (row.zone or cloud.settings.compute.zone) if kind in (DHCP, L3) else None,
        "admin_state_up": True if said is None else said.admin_state_up,
        "alive": hosts.up(row, tx.now),
        "description": "" if said is None else said.description,
        "created_at": _moment(row.created_at),
        "started_at": seen,
        "heartbeat_timestamp": seen,
        "resource_versions": {},
        "resources_synced": None,
        "configurations": settings,
    }


def _moment(us: int) -> str:
    return (clock.iso(us, zone="") or "").replace("T", " ")


def find(tx: Tx, agent_id: str, kind: str | None = None) -> tuple[Any, str]:
    """(host row, type). Raises AgentNotFound; InvalidInput when it is of another type."""
    for row in hosts.all_hosts(tx):
        for each in TYPES:
            if key_of(row.id, each) == agent_id:
                if kind is not None and each != kind:
                    raise problems.bad(f"Agent {agent_id} is not a valid {kind} or has been disabled.", "InvalidAgent")
                return row, each
    raise problems.missing("Agent", agent_id)


def put(tx: Tx, cloud: Cloud, agent_id: str, values: dict[str, Any]) -> None:
    """Set admin_state_up and description. The routers of an L3 agent that is switched off move to other hosts, and floating
    IPs of distributed routers that it served back to their routers. Raises AgentNotFound."""
    row, _ = find(tx, agent_id)
    if tx.first(select(agent.c.id).where(agent.c.id == agent_id)) is None:
        tx.insert(agent, {"id": agent_id, **values})
    elif values:
        tx.execute(update(agent).where(agent.c.id == agent_id).values(**values))
    if "admin_state_up" in values:
        placing.rescue(tx, cloud) if not values["admin_state_up"] else placing.place_waiting(tx, cloud)
        touch.edges_on(tx, cloud, row.id)


# --- DHCP ------------------------------------------------------------------------------------------------------------


def networks_served(tx: Tx, host_id: str) -> list[str]:
    """Networks in which a host answers DHCP for its guests: those with a DHCP subnet, unless an operator said no."""
    served = set(tx.column(select(subnet.c.network_id).where(subnet.c.dhcp.is_(True)).distinct()))
    for row in tx.all(select(binding).where(binding.c.host_id == host_id)):
        served.add(row.network_id) if row.serves else served.discard(row.network_id)
    return sorted(served)


def hosts_serving(tx: Tx, network_id: str) -> list[str]:
    """Hosts that answer DHCP in a network."""
    said = {row.host_id: row.serves for row in tx.all(select(binding).where(binding.c.network_id == network_id))}
    usual = tx.first(select(subnet.c.id).where(subnet.c.network_id == network_id, subnet.c.dhcp.is_(True))) is not None
    return [row.id for row in hosts.all_hosts(tx) if said.get(row.id, usual)]


def serve(tx: Tx, cloud: Cloud, host_id: str, network_id: str, *, serves: bool) -> None:
    """An operator says whether a host answers DHCP in a network."""
    tx.execute(delete(binding).where(binding.c.host_id == host_id, binding.c.network_id == network_id))
    tx.insert(binding, {"host_id": host_id, "network_id": network_id, "serves": serves})
    cloud.hosts.touch(tx, [host_id], "network", [network_id])


def silent(tx: Tx, host_id: str) -> set[str]:
    """Networks in which a host must not answer DHCP."""
    return set(tx.column(_silent, {"host": host_id}))


def forget_network(tx: Tx, network_id: str) -> None:
    tx.execute(delete(binding).where(binding.c.network_id == network_id))


# --- routers ---------------------------------------------------------------------------------------------------------


def routers_on(tx: Tx, host_id: str) -> list[str]:
    """Ids of the routers that a host has, active or standing by."""
    found = set(tx.column(select(router.c.id).where(router.c.host_id == host_id)))
    return sorted(found | set(tx.column(select(router_host.c.router_id).where(router_host.c.host_id == host_id))))


def hosts_of_router(tx: Tx, row: Any) -> dict[str, str | None]:
    """Agent id → its state for a highly available router (active or standby), None for another router."""
    states = {one.host_id: one.state for one in tx.all(select(router_host).where(router_host.c.router_id == row.id))}
    return {key_of(host_id, L3): states.get(host_id) for host_id in placing.hosts_of(tx, row)}


def priorities_of(tx: Tx, row: Any) -> dict[str, int | None]:
    """Agent id → the host's priority for a highly available router."""
    found = tx.all(select(router_host).where(router_host.c.router_id == row.id))
    return {key_of(one.host_id, L3): one.priority for one in found}


def prefer(tx: Tx, cloud: Cloud, host_id: str, row: Any, priority: int) -> None:
    """The host of a highly available router that has the highest priority is to be the active one.

    Raises InvalidHAChassisPriority, RouterNotHostedByL3Agent and HAChassisPriorityAlreadyAssigned (409), and
    RouterDoesntSupportScheduling (409) for a router that is on one host only.
    """
    if not 0 <= priority <= MOST_PRIORITY:
        raise problems.bad(f"HA Chassis priority must be between 0 and {MOST_PRIORITY}.", "InvalidHAChassisPriority")
    if not row.ha:
        raise problems.refused(
            f"Router {row.id} does not support agent scheduling: it is not highly available.",
            "RouterDoesntSupportScheduling",
        )
    present = priorities_of(tx, row)
    own = key_of(host_id, L3)
    if own not in present:
        raise problems.refused(f"The router {row.id} is not hosted by L3 agent {own}.", "RouterNotHostedByL3Agent")
    if any(each == priority for agent_id, each in present.items() if agent_id != own):
        raise problems.refused(
            f"HA Chassis priority {priority} is already assigned.", "HAChassisPriorityAlreadyAssigned"
        )
    tx.execute(
        update(router_host)
        .where(router_host.c.router_id == row.id, router_host.c.host_id == host_id)
        .values(priority=priority)
    )
    for each in placing.hosts_of(tx, row):
        touch.router(tx, cloud, each, row.id)


def add_router(tx: Tx, cloud: Cloud, host_id: str, row: Any) -> None:
    """Raises RouterHostedByL3Agent (409) when another host has it, InvalidL3Agent for an agent that is switched off."""
    present = placing.hosts_of(tx, row)
    if host_id in present:
        return
    if host_id in disabled.hosts(tx):
        raise problems.refused(f"Agent {key_of(host_id, L3)} is not a L3 Agent or has been disabled.", "InvalidL3Agent")
    if row.ha:
        placing.add(tx, cloud, row, host_id)
        return
    if row.host_id is not None:
        raise problems.refused(
            f"The router {row.id} has been already hosted by the L3 Agent {key_of(row.host_id, L3)}.",
            "RouterHostedByL3Agent",
        )
    placing.put(tx, cloud, row, host_id)


def drop_router(tx: Tx, cloud: Cloud, host_id: str, row: Any) -> None:
    """One that is nowhere else lives on no host until it is added to one, or changes. Raises RouterNotHostedByL3Agent
    (409)."""
    present = placing.hosts_of(tx, row)
    if host_id not in present:
        raise problems.refused(
            f"The router {row.id} is not hosted by L3 agent {key_of(host_id, L3)}.", "RouterNotHostedByL3Agent"
        )
    if len(present) > 1:
        placing.drop(tx, cloud, row, host_id)
    else:
        placing.displace(tx, cloud, row)


def carried(tx: Tx, host_id: str) -> list[str]:
    """Networks that a host carries."""
    return list(tx.column(select(port.c.network_id).where(port.c.host_id == host_id).distinct()))
