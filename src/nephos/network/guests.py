"""What compute asks of the network service: a server's ports, from the request to their removal.

Everything takes `tx` first and is part of compute's own unit of work, so a server and its ports come and go together.
Errors are Nova's where Nova words them (`check`), else Neutron's (NetworkNotFound, IpAddressAlreadyAllocated, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a server's `networks`. A port excludes the rest but the tag."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class PortAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A fixed address; `version` is 4 or 6."""

    address: str
    version: int
    subnet_id: str


class PortFloating(msgspec.Struct, frozen=True, kw_only=True):
    """A floating IP of a port, and the fixed address that it leads to."""

    id: str
    address: str
    fixed_address: str


class ServerPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a server as compute shows it and as its NIC is made. `port_state` is ACTIVE or DOWN."""

    id: str
    network_id: str
    network_name: str
    mac: str
    addresses: tuple[PortAddress, ...] = ()
    floating: tuple[PortFloating, ...] = ()
    mtu: int = 1500
    port_state: str = "DOWN"
    security_groups: tuple[str, ...] = ()
    tag: str | None = None
    order: int = 0
    host_id: str | None = None


class GroupRef(msgspec.Struct, frozen=True, kw_only=True):
    """A security group's id and name."""

    id: str
    name: str


def check(
    tx: Tx,
    cloud: Cloud,
    who: Who,
    requests: Sequence[NetworkRequest] | Literal["auto", "none"] | None,
    security_groups: Sequence[str] = (),
) -> list[NetworkRequest]:
    """What a new server's ports will be made of; reads only.

    `requests` None or "auto" means the project's one network (none at all gives no ports; "auto" makes the
    auto-allocated topology's network when there is none). `security_groups` are names or ids, each of which must exist.
    Raises BadRequest (unknown network or port, an address outside, no such group), Conflict (several networks: "Multiple
    possible networks found, use a Network ID to be more specific."; a port in use), OverQuota (ports, 403).
    """
    raise NotImplementedError


def allocate(
    tx: Tx,
    cloud: Cloud,
    *,
    server_id: str,
    project_id: str,
    user_id: str,
    hostname: str,
    zone: str,
    requests: Sequence[NetworkRequest],
    security_groups: Sequence[str] = (),
    host_id: str | None,
) -> list[str]:
    """Make and bind ports in the order of the requests; answers their ids. Again for the same server: what it has.

    `host_id` None leaves them unbound (`bind` does it later). Raises as creating a port does.
    """
    raise NotImplementedError


def bind(tx: Tx, cloud: Cloud, server_id: str, host_id: str) -> None:
    """The server's ports live on this host now: indexes are given, hosts are told. Again: nothing."""
    raise NotImplementedError


def unbind(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """The server's ports live on no host now; addresses are kept."""
    raise NotImplementedError


def activate(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """The guest runs on its host: its bound ports are ACTIVE."""
    raise NotImplementedError


def release(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """Delete the ports that compute made for the server, unbind and hand back those that the user made."""
    raise NotImplementedError


def attach(
    tx: Tx,
    cloud: Cloud,
    *,
    server_id: str,
    project_id: str,
    user_id: str,
    hostname: str,
    zone: str,
    request: NetworkRequest,
    host_id: str | None,
) -> str:
    """One more port for a server that is there already, after `check`; answers its id."""
    raise NotImplementedError


def detach(tx: Tx, cloud: Cloud, server_id: str, port_id: str) -> None:
    """As `release`, for one port. Raises NotFound when the server does not have it."""
    raise NotImplementedError


def add_fixed_ip(tx: Tx, cloud: Cloud, server_id: str, network_id: str) -> str:
    """One more address, of this network, for the server's port there (the addFixedIp action); answers it."""
    raise NotImplementedError


def remove_fixed_ip(tx: Tx, cloud: Cloud, server_id: str, address: str) -> None:
    """Take an address from the server's port (removeFixedIp). Raises BadRequest when the server does not have it."""
    raise NotImplementedError


def ports_of(tx: Tx, server_ids: Sequence[str]) -> dict[str, list[ServerPort]]:
    """Every server's ports in the order of the request; at most three queries for all of them."""
    raise NotImplementedError


def security_groups_of(tx: Tx, server_ids: Sequence[str]) -> dict[str, list[GroupRef]]:
    """Every server's security groups, each once, by name."""
    raise NotImplementedError


def add_security_group(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, group: str) -> None:
    """Put a group (name or id) on the server's ports. Raises NotFound, Conflict when a name is ambiguous."""
    raise NotImplementedError


def remove_security_group(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, group: str) -> None:
    """Take a group from the server's ports. Raises NotFound, also when no port has it."""
    raise NotImplementedError


def network_data(tx: Tx, server_id: str) -> dict[str, Any]:
    """`links`, `networks` and `services` of network_data.json (the OpenStack metadata format)."""
    raise NotImplementedError


def associate_floating(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, address: str, fixed: str | None) -> None:
    """Lead a floating IP of the project to the server (addFloatingIp). Raises NotFound, BadRequest, Conflict."""
    raise NotImplementedError


def disassociate_floating(tx: Tx, cloud: Cloud, *, server_id: str, project_id: str, address: str) -> None:
    """Undo `associate_floating`. Raises NotFound, Conflict when it leads elsewhere."""
    raise NotImplementedError
