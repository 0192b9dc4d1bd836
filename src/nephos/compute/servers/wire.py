"""Servers on the wire: what a request may hold in each microversion."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from nephos.compute.wire import Metadata, Name, Strict, Tag, Truth, Uuid, Whole

Address = Annotated[str, Meta(max_length=64)]
HostName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-._]*$")]
UserData = Annotated[str, Meta(max_length=65535)]
FlavorRef = Annotated[str, Meta(min_length=1, max_length=1024)] | int
Words = Annotated[str, Meta(max_length=255)]


class RequestedNetwork(Strict):
    uuid: Annotated[str, Meta(max_length=255)] | None = None
    port: Uuid | None = None
    fixed_ip: Address | None = None
    tag: Tag | UnsetType = UNSET


class SecurityGroup(Strict):
    name: Name


class File(Strict):
    path: Annotated[str, Meta(max_length=4096)]
    contents: str


class BlockDevice(Strict):
    source_type: Literal["volume", "image", "snapshot", "blank"] | UnsetType = UNSET
    uuid: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._-]*$")] | None = None
    image_id: Uuid | UnsetType = UNSET
    volume_id: Uuid | UnsetType = UNSET
    snapshot_id: Uuid | UnsetType = UNSET
    destination_type: Literal["local", "volume"] | UnsetType = UNSET
    guest_format: Words | None = None
    device_type: Words | None = None
    disk_bus: Words | None = None
    boot_index: int | Annotated[str, Meta(pattern=r"^-?[0-9]+$")] | None = None
    virtual_name: Words | UnsetType = UNSET
    volume_size: Whole | UnsetType = UNSET
    device_name: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._/-]*$")] | UnsetType = UNSET
    delete_on_termination: Truth | UnsetType = UNSET
    no_device: Any = UNSET
    connection_info: str | UnsetType = UNSET
    tag: Tag | UnsetType = UNSET
    volume_type: Words | UnsetType | None = UNSET


class NewServer(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    flavor: FlavorRef = field(name="flavorRef")
    image: Uuid | Literal[""] = field(default="", name="imageRef")
    networks: Literal["none", "auto"] | list[RequestedNetwork] | UnsetType = UNSET
    security_groups: list[SecurityGroup] | UnsetType = UNSET
    key_name: Name | UnsetType = UNSET
    user_data: UserData | None = None
    config_drive: Truth | UnsetType = UNSET
    metadata: Metadata = {}
    availability_zone: Name | UnsetType = UNSET
    block_device_mapping: list[BlockDevice] | UnsetType = UNSET
    block_device_mapping_v2: list[BlockDevice] | UnsetType = UNSET
    disk_config: Literal["AUTO", "MANUAL"] = field(default="MANUAL", name="OS-DCF:diskConfig")
    access_ipv4: Address | UnsetType = field(default=UNSET, name="accessIPv4")
    access_ipv6: Address | UnsetType = field(default=UNSET, name="accessIPv6")
    admin_pass: str | UnsetType = field(default=UNSET, name="adminPass")
    personality: list[File] | UnsetType = UNSET
    min_count: Whole = 1
    max_count: Whole | UnsetType = UNSET
    return_reservation_id: Truth = False
    description: Words | UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=50)] | UnsetType = UNSET
    trusted_image_certificates: Annotated[list[str], Meta(min_length=1, max_length=50)] | UnsetType | None = UNSET
    host: HostName | UnsetType = UNSET
    hypervisor_hostname: HostName | UnsetType = UNSET
    hostname: HostName | UnsetType = UNSET


SINCE = {
    "description": 19,
    "tags": 52,
    "trusted_image_certificates": 63,
    "host": 74,
    "hypervisor_hostname": 74,
    "hostname": 90,
}
UNTIL = {"personality": 56}

Ids = str | list[str]
"""Checked in code: msgspec 0.22 corrupts memory on a text with a pattern in a union with a list or an object."""


class Hints(msgspec.Struct, kw_only=True):
    """The hints that are known; the rest is kept too and reaches whoever reads it (S2-28)."""

    group: Ids | UnsetType = UNSET
    different_host: Ids | UnsetType = UNSET
    same_host: Ids | UnsetType = UNSET
    query: str | list[Any] | dict[str, Any] | UnsetType = UNSET


class NewServerBody(Strict):
    server: NewServer
    hints: dict[str, Any] = field(default={}, name="os:scheduler_hints")
    old_hints: dict[str, Any] = field(default={}, name="OS-SCH-HNT:scheduler_hints")


class ServerChange(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    disk_config: Literal["AUTO", "MANUAL"] | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")
    access_ipv4: Address | UnsetType = field(default=UNSET, name="accessIPv4")
    access_ipv6: Address | UnsetType = field(default=UNSET, name="accessIPv6")
    description: Words | UnsetType | None = UNSET
    hostname: HostName | UnsetType = UNSET
    pinned_availability_zone: Name | UnsetType | None = UNSET


CHANGE_SINCE = {"description": 19, "hostname": 90, "pinned_availability_zone": 104}


class ServerChangeBody(Strict):
    server: ServerChange
