"""The body of the action `rebuild` in each microversion."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from nephos.compute.servers.wire import Address, File, HostName, UserData, Words
from nephos.compute.wire import Metadata, Name, Strict, Truth, Uuid


class Rebuild(Strict):
    """What is not given stays as it is, but for the password and the files to inject, which are made anew or are none."""

    image: Uuid = field(name="imageRef")
    name: Name | UnsetType = UNSET
    admin_pass: str | UnsetType = field(default=UNSET, name="adminPass")
    metadata: Metadata | UnsetType = UNSET
    preserve_ephemeral: Truth = False
    disk_config: Literal["AUTO", "MANUAL"] | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")
    access_ipv4: Address | UnsetType = field(default=UNSET, name="accessIPv4")
    access_ipv6: Address | UnsetType = field(default=UNSET, name="accessIPv6")
    personality: list[File] | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET
    key_name: Name | UnsetType | None = UNSET
    user_data: UserData | UnsetType | None = UNSET
    trusted_image_certificates: Annotated[list[str], Meta(min_length=1, max_length=50)] | UnsetType | None = UNSET
    hostname: HostName | UnsetType = UNSET


SINCE = {"description": 19, "key_name": 54, "user_data": 57, "trusted_image_certificates": 63, "hostname": 90}
UNTIL = {"personality": 56}


class RebuildBody(Strict):
    rebuild: Rebuild
