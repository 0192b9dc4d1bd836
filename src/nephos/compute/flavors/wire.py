"""Flavors on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from nephos.compute.wire import Name, Strict, Truth, Whole, links, since
from nephos.kernel.http.call import Call

Description = Annotated[str, Meta(max_length=65535)] | None
SpecKey = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9\-_:. ]{1,255}$")]
Specs = dict[SpecKey, Annotated[str, Meta(max_length=255)] | int | float]


class NewFlavor(Strict):
    name: Name
    ram: Whole
    vcpus: Whole
    disk: Whole
    id: (
        Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^(?! )[a-zA-Z0-9. _-]+(?<! )$")]
        | int
        | float
        | None
    ) = None
    ephemeral: Whole = field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    swap: Whole = 0
    rxtx_factor: (
        Annotated[float, Meta(gt=0, le=3.40282e38)]
        | Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=40)]
        | UnsetType
    ) = UNSET
    public: Truth = field(default=True, name="os-flavor-access:is_public")
    description: Description | UnsetType = UNSET


class NewFlavorBody(Strict):
    flavor: NewFlavor


class FlavorChange(Strict):
    description: Description


class FlavorChangeBody(Strict):
    flavor: FlavorChange


class SpecsBody(Strict):
    extra_specs: Specs


class Tenant(Strict):
    tenant: Annotated[str, Meta(min_length=1, max_length=255)]


class AddAccess(Strict):
    add: Tenant = field(name="addTenantAccess")


class RemoveAccess(Strict):
    remove: Tenant = field(name="removeTenantAccess")


def basic(call: Call, row: Any) -> dict[str, Any]:
    shown = {"id": row.id, "name": row.name, "links": links(call, "flavors", row.id)}
    if since(call, 55):
        shown["description"] = row.description
    return shown


def detailed(call: Call, row: Any, *, specs: bool) -> dict[str, Any]:
    """`specs` shows the extra specs, which a policy rule decides (2.61)."""
    shown: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "ram": row.ram_mb,
        "disk": row.root_gb,
        "swap": row.swap_mb or (0 if since(call, 75) else ""),
        "OS-FLV-EXT-DATA:ephemeral": row.ephemeral_gb,
        "vcpus": row.vcpus,
        "os-flavor-access:is_public": row.public,
        "links": links(call, "flavors", row.id),
    }
    if not since(call, 102):
        shown["OS-FLV-DISABLED:disabled"] = row.disabled
        shown["rxtx_factor"] = row.rxtx_factor
    if since(call, 55):
        shown["description"] = row.description
    if specs and since(call, 61):
        shown["extra_specs"] = row.extra_specs or {}
    return shown
