"""What minimum rules ask of a host: groups of resources, each to be had of one resource provider.

As neutron-lib's placement.utils and Neutron's QoS plugin have it: bandwidth of the physical network that a port's
network is of, or of the tunnels; packets of the host as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, func, select

from nephos import errors
from nephos.hosts.wire import Seen
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems
from nephos.network.networks.store import network
from nephos.network.ports.store import port
from nephos.network.qos import actions
from nephos.network.qos.kinds import ANY, EGRESS, INGRESS, LEAST_BANDWIDTH, LEAST_PACKETS, Kind

CHANGED = "port_needs"
"""The notice that ports of a guest (its id) on a host ask for something else."""
TUNNELLED = "rp_tunnelled"
"""Neutron's name for what carries the tunnels."""
TUNNELS = "CUSTOM_NETWORK_TUNNEL_PROVIDER"
CLASSES = {
    (LEAST_BANDWIDTH.name, EGRESS): "NET_BW_EGR_KILOBIT_PER_SEC",
    (LEAST_BANDWIDTH.name, INGRESS): "NET_BW_IGR_KILOBIT_PER_SEC",
    (LEAST_PACKETS.name, EGRESS): "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    (LEAST_PACKETS.name, INGRESS): "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
    (LEAST_PACKETS.name, ANY): "NET_PACKET_RATE_KILOPACKET_PER_SEC",
}
"""(kind of rule, direction) → resource class, in kbit/s and thousands of packets a second."""
_ports = (
    select(
        port.c.id,
        port.c.name,
        port.c.vnic_type,
        port.c.qos_policy_id,
        port.c.uncounted,
        network.c.physical,
        network.c.qos_policy_id.label("network_policy_id"),
    )
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.id.in_(bindparam("ids", expanding=True)))
)
_bound = (
    select(port.c.host_id, port.c.device_id)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.host_id.is_not(None), port.c.host_index.is_not(None), port.c.device_id != "")
    .order_by(port.c.id)
)
_bound_of = {
    "port": _bound.where(port.c.id == bindparam("key")),
    "network": _bound.where(network.c.id == bindparam("key"), port.c.qos_policy_id.is_(None)),
    "policy": _bound.where(func.coalesce(port.c.qos_policy_id, network.c.qos_policy_id) == bindparam("key")),
}
_networks = select(network.c.id, network.c.name, network.c.physical, network.c.qos_policy_id).where(
    network.c.id.in_(bindparam("ids", expanding=True)), network.c.qos_policy_id.is_not(None)
)


class Need(NamedTuple):
    """One group: `resources` by class, of one provider that has the `required` traits; `whose` says of what, in words.
    `provider` is that provider's name on every host, as of `Provided`."""

    id: str
    required: tuple[str, ...]
    resources: Mapping[str, int]
    whose: str = ""
    provider: str = ""


def of_port(port_id: str, vnic_type: str, physical: str | None, rules: Iterable[Any], whose: str = "") -> list[Need]:
    """What the rules of a port's policy ask for; `physical` is its network's physical network."""
    kinds: dict[str, dict[str, int]] = {}
    for each in rules:
        name = CLASSES.get((each.kind, each.direction))
        if name is not None and each.amount:
            kinds.setdefault(each.kind, {})[name] = each.amount
    found = []
    for kind, amounts in kinds.items():
        where = (_trait(physical) if physical else TUNNELS,) if kind == LEAST_BANDWIDTH.name else ()
        provider = (physical or TUNNELLED) if where else ""
        key = str(UUID(bytes=hashlib.sha256(f"{port_id} {kind}".encode()).digest()[:16], version=4))
        found.append(Need(key, (*where, vnic_trait(vnic_type)), amounts, whose, provider))
    return found


def of_ports(tx: Tx, port_ids: Sequence[str], network_ids: Sequence[str] = ()) -> list[Need]:
    """What these ports ask for, and ports that are still to be made in these networks, in this order: at most three
    queries."""
    found_ports = {row.id: row for row in tx.all(_ports, {"ids": list(port_ids)})} if port_ids else {}
    rows = [found_ports[key] for key in port_ids if key in found_ports]
    nets = {row.id: row for row in tx.all(_networks, {"ids": sorted(set(network_ids))})} if network_ids else {}
    policies = {row.qos_policy_id or row.network_policy_id for row in rows} | {
        row.qos_policy_id for row in nets.values()
    }
    rules = actions.rules_of(tx, policies - {None}) if policies - {None} else {}
    found = []
    for row in rows:
        own = counted(row, rules.get(row.qos_policy_id or row.network_policy_id, []))
        found += of_port(row.id, row.vnic_type, row.physical, own, f"port {row.name or row.id}")
    for place, key in enumerate(network_ids):
        if key in nets:
            row = nets[key]
            own = rules.get(row.qos_policy_id, [])
            found += of_port(f"{place} {key}", "normal", row.physical, own, f"a port on network {row.name or row.id}")
    return found


def counted(row: Any, rules: Iterable[Any]) -> list[Any]:
    """The rules that something is taken for on the port's host."""
    return [each for each in rules if each.kind not in (row.uncounted or ())]


def uncounted(tx: Tx, row: Any, policy_id: str | None) -> list[str]:
    """The kinds of minimum rules that another policy brings to a port on its host, which nothing will be taken for.

    As Neutron has it: policies could be changed there before anything was counted, so a change may not fail for want of
    what the port did not ask for when its host was chosen.
    """
    before, after = row.qos_policy_id or row.network_policy_id, policy_id or row.network_policy_id
    rules = actions.rules_of(tx, [each for each in (before, after) if each])
    had = {each.kind for each in counted(row, rules.get(before or "", ()))}
    return sorted({each.kind for each in rules.get(after or "", ()) if (each.kind, each.direction) in CLASSES} - had)


def changed(tx: Tx, cloud: Cloud, what: str, key: str) -> None:
    """What guests' ports ask for changed, those of a policy, a network or one port (`what`): who counts it (compute) takes
    or gives back what differs. Raises QosPlacementAllocationUpdateConflict (409) saying what is short; then nothing may
    change."""
    rows = tx.all(_bound_of[what], {"key": key})
    for host_id, server_id in dict.fromkeys((row.host_id, row.device_id) for row in rows):
        for call in cloud.hosts.notices.get(CHANGED, ()):
            try:
                call(tx, Seen(host_id, CHANGED, server_id, "", tx.now))
            except errors.Conflict as short:
                raise problems.refused(
                    f"Updating placement allocation of {server_id} failed: {short.message}",
                    "QosPlacementAllocationUpdateConflict",
                ) from short


class Provided(NamedTuple):
    """Resources of one provider of a host: `name` is "" for the host's packets, else that of a physical network, or
    rp_tunnelled for the tunnels."""

    name: str
    traits: tuple[str, ...]
    resources: Mapping[str, int]


def provider_id(host_id: str, name: str) -> str:
    """The resource provider that gives a host's `Provided` of that name."""
    return str(UUID(bytes=hashlib.sha256(f"{host_id} {name}".encode()).digest()[:16], version=4))


def provided(capacity: Mapping[str, Mapping[str, int]]) -> list[Provided]:
    """What a host says that it has, name → direction → kbit/s (thousands of packets a second under "")."""
    found = [Provided("", (vnic_trait("normal"),), _classes(LEAST_PACKETS, capacity.get("", {})))]
    for name in sorted(capacity.keys() - {""}):
        traits = (TUNNELS if name == TUNNELLED else _trait(name), vnic_trait("normal"))
        found.append(Provided(name, traits, _classes(LEAST_BANDWIDTH, capacity[name])))
    return found if any(each.resources for each in found) else []


def _classes(kind: Kind, rates: Mapping[str, int]) -> dict[str, int]:
    return {
        CLASSES[kind.name, way]: rate for way, rate in sorted(rates.items()) if rate and (kind.name, way) in CLASSES
    }


def vnic_trait(vnic_type: str) -> str:
    return f"CUSTOM_VNIC_TYPE_{vnic_type.upper().replace('-', '_')}"


def _trait(physical: str) -> str:
    return "CUSTOM_PHYSNET_" + re.sub(r"[^A-Z0-9_]", "_", physical.upper())
