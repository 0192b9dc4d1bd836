"""The filters, by the names that operators know. Each looks at all hosts at once and says which may stay.

A filter answers None when the request does not ask for it. The order is the one in which a refusal is told: first what
the user asked for, then what hosts can do, last whether there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nephos.compute.scheduler import networks, query
from nephos.compute.scheduler.snapshot import DISK_GB, MEMORY_MB, VCPU, Mask, Snapshot
from nephos.network.qos.needs import Need

PORTS = "PortResourceFilter"
AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be placed. `resources` by class; `host` is a name; `forced` passes every filter but room and life.

    `excluded` are ids of hosts that were tried already. `group_hosts` and the ids of `same`/`different` are hosts that
    hold the servers meant. `query` is a parsed JsonFilter query. `needs` are what its ports ask for of a host's networks.
    """

    resources: Mapping[str, int]
    zone: str | None = None
    host: str | None = None
    forced: bool = False
    excluded: frozenset[str] = frozenset()
    policy: str | None = None
    group_hosts: Mapping[str, int] = field(default_factory=dict)
    most_a_host: int = 1
    same: frozenset[str] | None = None
    different: frozenset[str] = frozenset()
    query: Any = None
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    image: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[Need] = ()


class Removed(NamedTuple):
    """What a filter did: how many hosts it removed, and why."""

    filter: str
    hosts: int
    why: str


Filter = Callable[[Snapshot, Request], Mask | None]


def run(
    snapshot: Snapshot, request: Request, only: frozenset[str] | None = None
) -> tuple[Mask, list[Removed]]:
    """The hosts that pass every filter, or those named in `only`, and what each filter removed."""
    mask: Mask = np.ones(len(snapshot), dtype=np.bool_)
    removed: list[Removed] = []
    before = len(snapshot)
    for name, check, why in FILTERS:
        if (only is not None and name not in only) or (request.forced and name not in _ALWAYS):
            continue
        keep = check(snapshot, request)
        if keep is None:
            continue
        mask &= keep
        left = int(mask.sum())
        if left < before:
            told = networks.lacking(snapshot, request.needs) if name == PORTS else why(request)
            removed.append(Removed(name, before - left, told))
        before = left
    return mask, removed


# --- what the user asked for ---------------------------------------------------------------------------------


def _hosts(snapshot: Snapshot, ids: Iterable[str]) -> Mask:
    mask: Mask = np.zeros(len(snapshot), dtype=np.bool_)
    for each in ids:
        at = snapshot.position.get(each)
        if at is not None:
            mask[at] = True
    return mask


def _forced_host(snapshot: Snapshot, request: Request) -> Mask | None:
    if request.host is None:
        return None
    return np.array([name == request.host for name in snapshot.names], dtype=np.bool_)


def _zone(snapshot: Snapshot, request: Request) -> Mask | None:
    if request.zone is None:
        return None
    if request.zone not in snapshot.zones:
        return np.zeros(len(snapshot), dtype=np.bool_)
    found: Mask = snapshot.zone == snapshot.zones.index(request.zone)
    return found


def _retry(snapshot: Snapshot, request: Request) -> Mask | None:
    return ~_hosts(snapshot, request.excluded) if request.excluded else None


def _same(snapshot: Snapshot, request: Request) -> Mask | None:
    return None if request.same is None else _hosts(snapshot, request.same)


def _different(snapshot: Snapshot, request: Request) -> Mask | None:
    return ~_hosts(snapshot, request.different) if request.different else None


def _affinity(snapshot: Snapshot, request: Request) -> Mask | None:
    if request.policy != AFFINITY or not request.group_hosts:
        return None
    return _hosts(snapshot, request.group_hosts)


def _anti_affinity(snapshot: Snapshot, request: Request) -> Mask | None:
    full = [each for each, count in request.group_hosts.items() if count >= request.most_a_host]
    if request.policy != ANTI_AFFINITY or not full:
        return None
    return ~_hosts(snapshot, full)


def _json(snapshot: Snapshot, request: Request) -> Mask | None:
    return None if request.query is None else query.matches(snapshot, request.query)


# --- what hosts can do ---------------------------------------------------------------------------------------


def _up(snapshot: Snapshot, request: Request) -> Mask | None:
    return snapshot.up if request.forced else snapshot.up & snapshot.enabled


def _capabilities(snapshot: Snapshot, request: Request) -> Mask | None:
    """`capabilities:` extra specs; a bare key counts only where the host knows it, else it is an aggregate's."""
    wanted = {
        key.removeprefix("capabilities:"): value for key, value in request.extra_specs.items() if _capability(key)
    }
    if not wanted:
        return None
    keep: list[bool] = []
    for facts in snapshot.facts:
        keep.append(all(_fact_fits(facts, key, value, request) for key, value in wanted.items()))
    return np.array(keep, dtype=np.bool_)


def _capability(key: str) -> bool:
    return key.startswith("capabilities:") or ":" not in key


def _fact_fits(facts: Mapping[str, Any], key: str, wanted: str, request: Request) -> bool:
    value: Any = facts
    for part in key.split(":"):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return f"capabilities:{key}" not in request.extra_specs
    return fits(value, wanted)


def fits(value: Any, wanted: str) -> bool:
    """Whether a value satisfies an extra spec such as `>= 4`, `<in> abc`, `<or> a <or> b`, or plain text."""
    words = wanted.split()
    if not words:
        return str(value) == wanted
    operator, rest = words[0], words[1:]
    if operator == "<or>":
        return str(value) in [word for word in words if word != "<or>"]
    if operator == "<in>":
        return bool(rest) and rest[0] in str(value)
    if operator == "<all-in>":
        return all(word in value for word in rest)
    if operator in ("s==", "s!=", "s<", "s<=", "s>", "s>="):
        return bool(rest) and _TEXT[operator[1:]](str(value), rest[0])
    if operator in ("=", "==", "!=", ">=", "<=", ">", "<"):
        try:
            number, than = float(value), float(rest[0])
        except (ValueError, TypeError, IndexError):
            return False
        return number >= than if operator == "=" else _NUMBER[operator](number, than)
    return str(value) == wanted


_NUMBER: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


def _image_properties(snapshot: Snapshot, request: Request) -> Mask | None:
    """Architecture, hypervisor type and VM mode that the image wants (S2-24)."""
    arch = request.image.get("hw_architecture") or request.image.get("architecture")
    kind = request.image.get("img_hv_type") or request.image.get("hypervisor_type")
    mode = request.image.get("hw_vm_mode") or request.image.get("vm_mode")
    if not (arch or kind or mode):
        return None
    return np.array([_image_fits(facts, arch, kind, mode) for facts in snapshot.facts], dtype=np.bool_)


def _image_fits(facts: Mapping[str, Any], arch: str | None, kind: str | None, mode: str | None) -> bool:
    has = str(facts.get("hypervisor_type", "")).lower()
    if arch and str(facts.get("arch", "x86_64")) != {"amd64": "x86_64"}.get(arch.lower(), arch.lower()):
        return False
    if mode and mode.lower() not in ("hvm", "exe"):
        return False
    return not kind or has == "fake" or {"qemu": "kvm"}.get(kind.lower(), kind.lower()) == {"qemu": "kvm"}.get(has, has)


def _aggregate_specs(snapshot: Snapshot, request: Request) -> Mask | None:
    """Bare and `aggregate_instance_extra_specs:` keys must be fulfilled by some aggregate of the host (S2-26)."""
    scope = "aggregate_instance_extra_specs:"
    wanted = {
        key.removeprefix(scope): value
        for key, value in request.extra_specs.items()
        if key.startswith(scope) or (":" not in key and key not in _NO_AGGREGATE)
    }
    if not wanted:
        return None
    keep: list[bool] = []
    for facts, grouped in zip(snapshot.facts, snapshot.aggregates, strict=True):
        keep.append(all(_aggregate_fits(facts, grouped, key, value) for key, value in wanted.items()))
    return np.array(keep, dtype=np.bool_)


_NO_AGGREGATE = frozenset({"hide_hypervisor_id", "group_policy"})


def _aggregate_fits(facts: Mapping[str, Any], grouped: Iterable[Mapping[str, str]], key: str, wanted: str) -> bool:
    values = [value for each in grouped for value in each.get(key, "").split(",") if key in each]
    if not values:
        return key in facts
    return any(fits(value, wanted) for value in values)


# --- whether there is room -----------------------------------------------------------------------------------


def _room(name: str) -> Filter:
    def check(snapshot: Snapshot, request: Request) -> Mask | None:
        wanted = request.resources.get(name, 0)
        if not wanted:
            return None
        resource = snapshot.resources[name]
        keep: Mask = (resource.free >= wanted) & (resource.most >= wanted)
        return keep

    return check


def _ports(snapshot: Snapshot, request: Request) -> Mask | None:
    if not request.needs:
        return None
    short = (networks.choose(snapshot.branches.get(each, ()), request.needs)[1] for each in snapshot.ids)
    return np.array([each is None for each in short], dtype=np.bool_)


def _amount(name: str, unit: str) -> Callable[[Request], str]:
    return lambda request: f"not {request.resources.get(name, 0)} {unit} free"


FILTERS: tuple[tuple[str, Filter, Callable[[Request], str]], ...] = (
    ("ForcedHost", _forced_host, lambda request: f"not the host {request.host} that was asked for"),
    ("RetryFilter", _retry, lambda request: "tried already"),
    ("AvailabilityZoneFilter", _zone, lambda request: f"not in the availability zone {request.zone}"),
    ("ComputeFilter", _up, lambda request: "down or disabled"),
    ("ComputeCapabilitiesFilter", _capabilities, lambda request: "the flavor's capabilities are not there"),
    ("ImagePropertiesFilter", _image_properties, lambda request: "cannot run the image's architecture or VM mode"),
    (
        "AggregateInstanceExtraSpecsFilter",
        _aggregate_specs,
        lambda request: "no aggregate has the flavor's extra specs",
    ),
    ("ServerGroupAffinityFilter", _affinity, lambda request: "the server group is on another host"),
    ("ServerGroupAntiAffinityFilter", _anti_affinity, lambda request: "holds a server of the group already"),
    ("SameHostFilter", _same, lambda request: "not the host of the servers in same_host"),
    ("DifferentHostFilter", _different, lambda request: "the host of a server in different_host"),
    ("JsonFilter", _json, lambda request: f"the query {request.query} is not true"),
    ("CoreFilter", _room(VCPU), _amount(VCPU, "vCPUs")),
    ("RamFilter", _room(MEMORY_MB), _amount(MEMORY_MB, "MiB of RAM")),
    ("DiskFilter", _room(DISK_GB), _amount(DISK_GB, "GiB of disk")),
    (PORTS, _ports, lambda request: ", ".join(networks.words(each) for each in request.needs)),
)
_ALWAYS = frozenset({"ForcedHost", "RetryFilter", "ComputeFilter", "CoreFilter", "RamFilter", "DiskFilter", PORTS})
