"""The body of the action `rescue`."""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from nephos.compute.wire import Strict, Uuid


class Means(Strict):
    """The image to boot, by default the one that the server was made from, and the password to log in with."""

    image: Uuid | UnsetType = field(default=UNSET, name="rescue_image_ref")
    admin_pass: str | UnsetType = field(default=UNSET, name="adminPass")


class Rescue(Strict):
    rescue: Means | None
