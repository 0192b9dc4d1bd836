"""From a request's body to a `Wish`: defaults, microversions and everything that can be checked without the ledger."""

from __future__ import annotations

import base64
import binascii
import string
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.building.hints import group_of, read_hints
from nephos.compute.servers import wire
from nephos.compute.servers.actions import Wish
from nephos.kernel import clock
from nephos.kernel.http.call import Call
from nephos.network.guests import NetworkRequest

_FORCED = "os_compute_api:servers:create:forced_host"
_DESTINATION = "compute:servers:create:requested_destination"
_NETWORK = "os_compute_api:servers:create:attach_network"
_CERTIFICATES = "os_compute_api:servers:create:trusted_certs"
ZERO_DISK = "os_compute_api:servers:create:zero_disk_flavor"
_LETTERS = (
    string.ascii_uppercase.replace("O", "").replace("I", "") + string.ascii_lowercase.replace("l", "") + "23456789"
)
PASSWORD_LENGTH = 12
MOST_AT_ONCE = 1000


def wish_of(call: Call, body: wire.NewServerBody) -> Wish:
    """Raises BadRequest naming what is wrong, Forbidden for a host that the caller may not choose."""
    server = body.server
    common.refuse_later(server, call.version, wire.SINCE)
    common.refuse_earlier(server, call.version, wire.UNTIL)
    _image_only(server)
    least = common.whole(server.min_count, "min_count", least=1, most=MOST_AT_ONCE)
    most = max(least, 1) if server.max_count is UNSET else common.whole(server.max_count, "max_count", least=1)
    if most < least:
        raise errors.BadRequest("min_count must be <= max_count")
    hints = read_hints({**body.old_hints, **body.hints})
    zone, host, forced = _destination(call, server)
    return Wish(
        name=common.name(server.name),
        flavor_id=str(server.flavor),
        image_id=server.image,
        networks=_networks(call, server),
        security_groups=_groups(server),
        key_name=None if server.key_name is UNSET else server.key_name,
        user_data=base64_of(server.user_data, "user_data") if server.user_data is not None else None,
        config_drive=server.config_drive is not UNSET and common.truth(server.config_drive),
        metadata=server.metadata,
        zone=zone,
        host=host,
        forced=forced,
        hints=hints,
        group_id=group_of(hints),
        least=least,
        most=min(most, MOST_AT_ONCE),
        description=_given(common.description(_given(server.description))) if common.since(call, 19) else server.name,
        tags=() if server.tags is UNSET else tuple(server.tags),
        hostname=_hostname(call, server.hostname),
        access_ipv4=_address(server.access_ipv4, "accessIPv4", 4),
        access_ipv6=_address(server.access_ipv6, "accessIPv6", 6),
        disk_config=server.disk_config,
        admin_pass=password() if server.admin_pass is UNSET else server.admin_pass,
        files=files_of(server.personality),
        trusted_certs=certificates(call, server.trusted_image_certificates, _CERTIFICATES),
        reservation_id="r-" + "".join(clock.hex_id()[:8]),
        may_zero_disk=call.allowed(ZERO_DISK),
    )


def password() -> str:
    """A password that a person can type: no letters that look alike."""
    return "".join(_LETTERS[clock.pick(len(_LETTERS))] for _ in range(PASSWORD_LENGTH))


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def _networks(call: Call, server: wire.NewServer) -> Sequence[NetworkRequest] | Literal["auto", "none"] | None:
    asked = server.networks
    if common.since(call, 37):
        if asked is UNSET:
            raise errors.BadRequest("Invalid input for field/attribute server: 'networks' is a required property.")
        if isinstance(asked, str):
            return asked
    if asked is UNSET or asked == []:
        return None
    if isinstance(asked, str):
        raise errors.BadRequest("Invalid input for field/attribute networks: it must be a list in this microversion.")
    call.permit(rule=_NETWORK)
    return [_network(call, each) for each in asked]


def _network(call: Call, asked: wire.RequestedNetwork) -> NetworkRequest:
    """A port excludes a network and an address of its own."""
    minor = call.version.minor
    if asked.tag is not UNSET and (minor < 32 or 37 <= minor < 42):
        raise errors.BadRequest(
            "Invalid input for field/attribute networks: Additional properties are not allowed ('tag')."
        )
    tag = None if asked.tag is UNSET else asked.tag
    fixed = None if asked.fixed_ip is None else common.address(asked.fixed_ip, "fixed_ip")
    if asked.port is not None:
        if fixed is not None:
            raise errors.BadRequest(
                f"Specified Fixed IP '{fixed}' cannot be used with port '{asked.port}': the two cannot be specified together."
            )
        return NetworkRequest(port_id=asked.port, tag=tag)
    if asked.uuid is None or not common.is_uuid(asked.uuid):
        raise errors.BadRequest(
            f"Bad networks format: network uuid is not in proper format ({asked.uuid})"
            if asked.uuid is not None
            else "Bad networks format: an entry needs a uuid or a port."
        )
    return NetworkRequest(network_id=asked.uuid, fixed_ip=fixed, tag=tag)


def _groups(server: wire.NewServer) -> tuple[str, ...]:
    if server.security_groups is UNSET:
        return ()
    return tuple(dict.fromkeys(common.name(each.name) for each in server.security_groups))


def _destination(call: Call, server: wire.NewServer) -> tuple[str | None, str | None, bool]:
    """Zone, host, and whether the host passes the filters; a zone may be written zone:host or zone:host:node (S2-30)."""
    zone: str | None = (
        None if server.availability_zone is UNSET else common.name(server.availability_zone, "availability_zone")
    )
    host = node = None
    forced = False
    if zone is not None and ":" in zone:
        parts = zone.split(":")
        if len(parts) > 3:
            raise errors.BadRequest("Invalid availability_zone: at most zone:host:node is allowed.")
        zone, host, node = (parts[0] or None), (parts[1] or None), (parts[2] or None if len(parts) == 3 else None)
        if host or node:
            call.permit(rule=_FORCED)
            forced = True
    asked = [each for each in (server.host, server.hypervisor_hostname) if each is not UNSET]
    if asked:
        if forced:
            raise errors.BadRequest(
                "The host or the hypervisor_hostname cannot be given together with one in the availability zone."
            )
        call.permit(rule=_DESTINATION)
        host, node = asked[0], asked[-1]
    if host and node and host != node:
        raise errors.BadRequest(f"Host {host} has no hypervisor {node}: both must be the same.")
    return zone, host or node, forced


def _image_only(server: wire.NewServer) -> None:
    """Servers boot from images on the host's own disk; what else a block device can be is refused with words."""
    if server.block_device_mapping is not UNSET and server.block_device_mapping:
        raise errors.BadRequest(
            "Block devices of volumes are not served by this cloud yet: boot from an image (imageRef)."
        )
    devices = [] if server.block_device_mapping_v2 is UNSET else server.block_device_mapping_v2
    for device in devices:
        local = device.destination_type in ("local", UNSET)
        image = device.source_type == "image" and local and str(device.boot_index) == "0"
        if not image or device.uuid != server.image:
            kind = (
                "volumes and snapshots" if device.source_type in ("volume", "snapshot") or not local else "more disks"
            )
            raise errors.BadRequest(
                f"Block Device Mapping is Invalid: {kind} are not served by this cloud yet; the one device must be the "
                "image of imageRef with boot_index 0 and destination_type local."
            )
    if len(devices) > 1:
        raise errors.BadRequest("Block Device Mapping is Invalid: there is more than one boot device.")
    if not server.image:
        raise errors.BadRequest("Invalid imageRef provided.")


def _hostname(call: Call, value: Any) -> str | None:
    if value is UNSET:
        return None
    return check_hostname(call, value)


def check_hostname(call: Call, value: str) -> str:
    """A host name that a user chose: one label until 2.94, then a whole domain name too."""
    labels = value.split(".") if common.since(call, 94) else [value]
    most = 255 if common.since(call, 94) else 63
    good = all(
        each and not each.startswith("-") and not each.endswith("-") and "_" not in each and "." not in each
        for each in labels
    )
    if not good or len(value) > most or len(value) < 2 or any(len(each) > 63 for each in labels):
        raise errors.BadRequest(f"Invalid input for field/attribute hostname. Value: {value}. It is not a host name.")
    return value


def _address(value: Any, field: str, version: int) -> str | None:
    return None if value is UNSET or value == "" else common.address(value, field, version)


def files_of(personality: Any) -> tuple[tuple[str, str], ...]:
    """Files to inject (path, base64). Raises BadRequest for what is not base64."""
    if personality is UNSET:
        return ()
    return tuple((each.path, base64_of(each.contents, "personality")) for each in personality)


def certificates(call: Call, value: Any, rule: str) -> tuple[str, ...] | None:
    """The trusted certificates' ids that are asked for. Raises Forbidden without the rule, BadRequest for one given twice."""
    if value is UNSET or value is None:
        return None
    call.permit(rule=rule)
    if len(set(value)) != len(value) or not all(value):
        raise errors.BadRequest(
            "Invalid input for field/attribute trusted_image_certificates: its ids are not empty, and each is there once."
        )
    return tuple(value)


def base64_of(value: str, field: str) -> str:
    try:
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise errors.BadRequest(f"Invalid input for field/attribute {field}: it is not base64 ({wrong}).") from wrong
    return value
