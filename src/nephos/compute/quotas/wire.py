"""Quota sets and limits on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from nephos import errors
from nephos.compute.quotas.actions import PROXIED, RESOURCES
from nephos.compute.wire import MOST, Strict, Truth, since, whole
from nephos.kernel.http.call import Call

Amount = int | Annotated[str, Meta(pattern=r"^-?[0-9]+$", max_length=19)] | UnsetType
INJECTED = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
GROUPS = ("server_groups", "server_group_members")


class Amounts(Strict):
    instances: Amount = UNSET
    cores: Amount = UNSET
    ram: Amount = UNSET
    metadata_items: Amount = UNSET
    injected_files: Amount = UNSET
    injected_file_content_bytes: Amount = UNSET
    injected_file_path_bytes: Amount = UNSET
    key_pairs: Amount = UNSET
    server_groups: Amount = UNSET
    server_group_members: Amount = UNSET
    fixed_ips: Amount = UNSET
    floating_ips: Amount = UNSET
    security_groups: Amount = UNSET
    security_group_rules: Amount = UNSET


class QuotaSet(Amounts):
    force: Truth = False


class QuotaSetBody(Strict):
    quota_set: QuotaSet


class ClassBody(Strict):
    quota_class_set: Amounts


def hidden(call: Call, proxies_until: int) -> set[str]:
    """Resources that this microversion shows no more: the network's (`proxies_until` is the last), injected files (2.56)."""
    gone = set(PROXIED) if call.version.minor > proxies_until else set()
    return gone | (set(INJECTED) if since(call, 57) else set())


def given(body: Amounts, hidden_ones: set[str]) -> dict[str, int]:
    """The amounts that a body sets. Raises BadRequest for one that the microversion does not have."""
    found: dict[str, int] = {}
    for resource in (*RESOURCES, *PROXIED):
        value = getattr(body, resource)
        if value is UNSET:
            continue
        if resource in hidden_ones:
            raise errors.BadRequest(
                f"Invalid input: Additional properties are not allowed ('{resource}' was unexpected in this microversion)."
            )
        found[resource] = whole(value, resource, least=-1, most=MOST)
    return found


def shown(amounts: Mapping[str, Any], hidden_ones: set[str]) -> dict[str, Any]:
    return {resource: amounts[resource] for resource in (*RESOURCES, *PROXIED) if resource not in hidden_ones}


_LIMITS = {
    "maxTotalInstances": "instances",
    "maxTotalCores": "cores",
    "maxTotalRAMSize": "ram",
    "maxServerMeta": "metadata_items",
    "maxImageMeta": "metadata_items",
    "maxPersonality": "injected_files",
    "maxPersonalitySize": "injected_file_content_bytes",
    "maxTotalKeypairs": "key_pairs",
    "maxServerGroups": "server_groups",
    "maxServerGroupMembers": "server_group_members",
    "maxTotalFloatingIps": "floating_ips",
    "maxSecurityGroups": "security_groups",
    "maxSecurityGroupRules": "security_group_rules",
}
_USED = {
    "totalRAMUsed": "ram",
    "totalCoresUsed": "cores",
    "totalInstancesUsed": "instances",
    "totalServerGroupsUsed": "server_groups",
    "totalFloatingIpsUsed": "floating_ips",
    "totalSecurityGroupsUsed": "security_groups",
}


def absolute(call: Call, limits: Mapping[str, int], used: Mapping[str, int]) -> dict[str, int]:
    gone = hidden(call, 35)
    names = {key: name for key, name in _LIMITS.items() if name not in gone}
    if since(call, 39):
        del names["maxImageMeta"]
    found = {key: limits[name] for key, name in names.items()}
    return found | {key: used[name] for key, name in _USED.items() if name not in gone}
