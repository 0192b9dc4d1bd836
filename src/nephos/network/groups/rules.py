"""What a security group rule is made of, and which combinations mean something. Nothing here reads the ledger."""

from __future__ import annotations

from typing import Any

import msgspec

from nephos.network import problems
from nephos.network.groups.protocols import PORTED, is_icmp, version_of


class NewRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule to be made; `version` 4 or 6. `remote_prefix` is `remote_cidr` as the request wrote it, which may have
    bits set below its length."""

    direction: str
    version: int = 4
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_cidr: str | None = None
    remote_prefix: str | None = None
    remote_group_id: str | None = None
    remote_address_group_id: str | None = None
    description: str = ""


def identity(one: Any) -> tuple[Any, ...]:
    """What makes two rules of one direction the same."""
    protocol = None if one.protocol in (None, "any", "0") else one.protocol
    cidr = None if one.remote_cidr in ("0.0.0.0/0", "::/0") else one.remote_cidr
    remote = (cidr, one.remote_group_id, one.remote_address_group_id)
    return (one.version, protocol, one.port_min, one.port_max, *remote)


def checked(new: NewRule) -> NewRule:
    """Raises BadRequest by the names that Neutron gives."""
    remotes = (new.remote_cidr, new.remote_group_id, new.remote_address_group_id)
    if sum(each is not None for each in remotes) > 1:
        raise problems.bad(
            "Only remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
            "SecurityGroupMultipleRemoteEntites",
        )
    if new.remote_cidr is not None and (":" in new.remote_cidr) != (new.version == 6):
        raise problems.bad(
            f"Conflicting value ethertype IPv{new.version} for CIDR {new.remote_cidr}",
            "SecurityGroupRuleParameterConflict",
        )
    wanted = version_of(new.protocol)
    if wanted is not None and wanted != new.version:
        raise problems.bad(
            f"Invalid ethertype IPv{new.version} for protocol {new.protocol}.",
            "SecurityGroupEthertypeConflictWithProtocol",
        )
    if new.port_min is None and new.port_max is None:
        return new
    if new.protocol is None or new.protocol in ("any", "0"):
        raise problems.bad(
            "Must also specify protocol if port range is given.", "SecurityGroupProtocolRequiredWithPorts"
        )
    return _checked_icmp(new) if is_icmp(new.protocol) else _checked_ports(new)


def _checked_icmp(new: NewRule) -> NewRule:
    for field, value in (("type (port-range-min)", new.port_min), ("code (port-range-max)", new.port_max)):
        if value is not None and not 0 <= value <= 255:
            raise problems.bad(
                f"Invalid value for ICMP {field} {value}: it must be from 0 to 255.", "SecurityGroupInvalidIcmpValue"
            )
    if new.port_min is None:
        raise problems.bad(
            f"ICMP code (port-range-max) {new.port_max} is provided but ICMP type (port-range-min) is missing.",
            "SecurityGroupMissingIcmpType",
        )
    return new


def _checked_ports(new: NewRule) -> NewRule:
    if new.protocol not in PORTED:
        raise problems.bad(
            f"Invalid protocol {new.protocol} for port range, only supported for TCP, UDP, UDPLITE, SCTP and DCCP.",
            "SecurityGroupInvalidProtocolForPort",
        )
    for each in (new.port_min, new.port_max):
        if each is not None and not 1 <= each <= 65535:
            raise problems.bad(
                f"Invalid value for port {each}: a port is from 1 to 65535.", "SecurityGroupInvalidPortValue"
            )
    if new.port_min is None or new.port_max is None or new.port_min > new.port_max:
        raise problems.bad(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max", "SecurityGroupInvalidPortRange"
        )
    return new
