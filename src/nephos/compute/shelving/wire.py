"""The body of the action `unshelve`, which since 2.77 may say where to."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from nephos.compute.wire import Name, Strict


class Place(Strict):
    """`availability_zone` None lets the server be in any (2.91). `host` is an administrator's choice (2.91)."""

    availability_zone: Name | UnsetType | None = UNSET
    host: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class Unshelve(Strict):
    unshelve: Place | None
