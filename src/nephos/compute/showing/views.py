"""How a server is shown. A view is all that a body depends on besides the server itself, so bodies can be kept encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nephos.compute.servers import states
from nephos.compute.wire import PREFIX, ROOT, fine_moment, moment
from nephos.kernel.http.call import Call

ATTRIBUTES = "os_compute_api:os-extended-server-attributes"
HOST_STATUS = "os_compute_api:servers:show:host_status"
SPECS = "os_compute_api:servers:show:flavor-extra-specs"


class View(NamedTuple):
    """`minor` is the microversion's; `attributes`, `host_status` and `specs` are what policy lets the caller see.

    `whole` false is the answer to an update before 2.75, which left much out; `groups` shows the server groups (2.71,
    never in lists).
    """

    url: str
    minor: int
    attributes: bool
    host_status: bool
    specs: bool
    whole: bool = True
    groups: bool = False


class Extras(NamedTuple):
    """What is shown of a server that stands in other tables. `addresses` is network name → addresses in order."""

    addresses: Mapping[str, Sequence[Mapping[str, Any]]] = {}
    security_groups: Sequence[str] = ()
    tags: Sequence[str] = ()
    host_status: str = ""


def of(call: Call, target: Mapping[str, Any] | None = None) -> View:
    """The caller's view of servers of `target`'s project."""
    minor = call.version.minor
    return View(
        call.host_url,
        minor,
        call.allowed(ATTRIBUTES, target),
        minor >= 16 and call.allowed(HOST_STATUS, target),
        minor >= 47 and call.allowed(SPECS, target),
    )


def basic(url: str, row: Any) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "links": links(url, row.id)}


def links(url: str, server_id: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{url}{ROOT}/servers/{server_id}"},
        {"rel": "bookmark", "href": f"{url}{PREFIX}/servers/{server_id}"},
    ]


def host_id(project_id: str, host_name: str | None) -> str:
    """A name for a host that tells a project only whether two servers share one."""
    return hashlib.sha224((project_id + host_name).encode()).hexdigest() if host_name else ""


def detailed(view: View, row: Any, extras: Extras) -> dict[str, Any]:
    """The whole server (S1-51), key by key as the microversion has it."""
    minor = view.minor
    status = states.status(row)
    shown: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "status": status,
        "tenant_id": row.project_id,
        "user_id": row.user_id,
        "metadata": row.metadata or {},
        "hostId": host_id(row.project_id, row.host_name),
        "image": _image(view, row),
        "flavor": _flavor(view, row),
        "created": moment(row.created_at),
        "updated": moment(row.updated_at),
        "addresses": _addresses(view, row, extras),
        "accessIPv4": row.access_ipv4 or "",
        "accessIPv6": row.access_ipv6 or "",
        "links": links(view.url, row.id),
        "OS-DCF:diskConfig": row.disk_config,
    }
    if status in states.WITH_PROGRESS:
        shown["progress"] = row.progress
    if row.fault and status in states.WITH_FAULT:
        shown["fault"] = _fault(view, row.fault)
    if view.whole:
        _whole(view, row, extras, shown)
    if minor >= 9:
        shown["locked"] = row.locked_by is not None
    if minor >= 19:
        shown["description"] = row.description
    if minor >= 26:
        shown["tags"] = list(extras.tags)
    if minor >= 63:
        shown["trusted_image_certificates"] = row.trusted_certs
    if view.groups and minor >= 71:
        shown["server_groups"] = [row.group_id] if row.group_id else []
    if minor >= 73:
        shown["locked_reason"] = row.locked_reason
    if minor >= 96 and view.whole:
        shown["pinned_availability_zone"] = row.wanted_zone
    if minor >= 100:
        shown["scheduler_hints"] = row.hints or {}
    return shown


def _whole(view: View, row: Any, extras: Extras, shown: dict[str, Any]) -> None:
    shown["OS-EXT-AZ:availability_zone"] = row.zone or row.wanted_zone or ""
    shown["config_drive"] = "True" if row.config_drive else ""
    shown["key_name"] = row.key_name
    shown["OS-SRV-USG:launched_at"] = fine_moment(row.launched_at)
    shown["OS-SRV-USG:terminated_at"] = fine_moment(row.terminated_at)
    if extras.security_groups:
        shown["security_groups"] = [{"name": each} for each in extras.security_groups]
    if view.attributes:
        _attributes(view, row, shown)
    elif view.minor >= 90:
        shown["OS-EXT-SRV-ATTR:hostname"] = row.hostname
    shown["OS-EXT-STS:task_state"] = row.task_state
    shown["OS-EXT-STS:vm_state"] = row.vm_state
    shown["OS-EXT-STS:power_state"] = row.power_state
    shown["os-extended-volumes:volumes_attached"] = []
    if view.host_status:
        shown["host_status"] = extras.host_status


def _attributes(view: View, row: Any, shown: dict[str, Any]) -> None:
    prefix = "OS-EXT-SRV-ATTR:"
    shown[prefix + "host"] = row.host_name
    shown[prefix + "instance_name"] = f"instance-{row.number:08x}"
    shown[prefix + "hypervisor_hostname"] = row.host_name
    if view.minor < 3:
        return
    properties = (row.image or {}).get("properties", {})
    shown[prefix + "hostname"] = row.hostname
    shown[prefix + "kernel_id"] = properties.get("kernel_id", "")
    shown[prefix + "ramdisk_id"] = properties.get("ramdisk_id", "")
    shown[prefix + "launch_index"] = row.launch_index
    shown[prefix + "reservation_id"] = row.reservation_id
    shown[prefix + "root_device_name"] = states.ROOT_DEVICE
    shown[prefix + "user_data"] = row.user_data


def _image(view: View, row: Any) -> Any:
    if not row.image_id:
        return ""
    link = {"rel": "bookmark", "href": f"{view.url}{PREFIX}/images/{row.image_id}"}
    shown: dict[str, Any] = {"id": row.image_id, "links": [link]}
    if view.minor >= 98:
        shown["properties"] = (row.image or {}).get("properties", {})
    return shown


def _flavor(view: View, row: Any) -> dict[str, Any]:
    flavor = row.flavor
    if view.minor < 47:
        link = {"rel": "bookmark", "href": f"{view.url}{PREFIX}/flavors/{row.flavor_id}"}
        return {"id": row.flavor_id, "links": [link]}
    shown = {
        "vcpus": flavor["vcpus"],
        "ram": flavor["ram_mb"],
        "disk": flavor["root_gb"],
        "ephemeral": flavor["ephemeral_gb"],
        "swap": flavor["swap_mb"],
        "original_name": flavor["name"],
    }
    if view.specs:
        shown["extra_specs"] = flavor.get("extra_specs") or {}
    return shown


def _addresses(view: View, row: Any, extras: Extras) -> dict[str, Any]:
    """Nova hides the addresses of a server that is being built."""
    if row.vm_state == states.BUILDING:
        return {}
    if view.whole:
        return {name: list(each) for name, each in extras.addresses.items()}
    plain = ("addr", "version")
    return {name: [{key: one[key] for key in plain} for one in each] for name, each in extras.addresses.items()}


def _fault(view: View, fault: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"code": fault["code"], "created": moment(fault["created"]), "message": fault["message"]}
    if fault.get("details") and (view.attributes or fault["code"] != 500):
        shown["details"] = fault["details"]
    return shown
