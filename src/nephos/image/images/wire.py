"""Images on the wire: the image API's JSON, and its two forms of JSON patch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from nephos import errors
from nephos.image.images.actions import QUEUED, Image
from nephos.kernel import clock

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
VISIBILITIES = ("community", "public", "private", "shared")
READ_ONLY = frozenset(
    (
        *("created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file"),
        *("schema", "stores", "os_hash_algo", "os_hash_value"),
    )
)
RESERVED = frozenset(("location", "locations", "deleted", "deleted_at"))
RESERVED_PREFIX = "os_glance"
PATCHES = {
    "application/openstack-images-v2.0-json-patch": 4,
    "application/openstack-images-v2.1-json-patch": 10,
}

_Text = Annotated[str, msgspec.Meta(max_length=255)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2147483647)]
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
_Visibility = Literal["community", "public", "private", "shared"]
_Disk = Literal["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"]
_Container = Literal["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"]
_BASE: dict[str, Any] = {
    "id": Annotated[str, msgspec.Meta(pattern=_UUID)],
    "name": _Text | None,
    "visibility": _Visibility,
    "protected": bool,
    "os_hidden": bool,
    "owner": _Text | None,
    "container_format": _Container | None,
    "disk_format": _Disk | None,
    "min_ram": _Size,
    "min_disk": _Size,
    "tags": list[_Text],
}
_ATTRIBUTES = (
    *("name", "disk_format", "container_format", "visibility", "size", "virtual_size", "status", "checksum"),
    *("protected", "min_ram", "min_disk", "owner", "os_hidden", "os_hash_algo", "os_hash_value", "id"),
)


def show(image: Image, store: str) -> dict[str, Any]:
    """An image as the API answers it. `store` names the store that holds active images."""
    row = image.row
    body: dict[str, Any] = dict(image.extras.properties)
    for name in _ATTRIBUTES:
        body[name] = getattr(row, name)
    body["created_at"] = clock.iso(row.created_at)
    body["updated_at"] = clock.iso(row.updated_at)
    body["tags"] = image.extras.tags
    body["self"] = f"/v2/images/{row.id}"
    body["file"] = f"/v2/images/{row.id}/file"
    body["schema"] = "/v2/schemas/image"
    if row.status in ("active", "deactivated"):
        body["stores"] = store
    return body


class New(NamedTuple):
    """A create request: the columns it sets, its tags and its custom properties."""

    values: dict[str, Any]
    tags: list[str]
    properties: dict[str, str]


def read_new(body: Any) -> New:
    """Raises BadRequest for what is malformed, Forbidden for names that a client may not set."""
    if not isinstance(body, dict):
        raise errors.BadRequest("Expected an image as a JSON object.")
    values: dict[str, Any] = {}
    properties: dict[str, str] = {}
    for name, value in body.items():
        if name in _BASE:
            values[name] = checked(name, value)
        else:
            _may_set(name)
            properties[name] = checked(name, value)
    return New(values, values.pop("tags", []), properties)


def checked(name: str, value: Any) -> Any:
    """A value that is fit for an attribute or custom property. Raises BadRequest."""
    if name in _BASE:
        try:
            return msgspec.convert(value, _BASE[name])
        except msgspec.ValidationError as wrong:
            raise errors.BadRequest(f"Provided object does not match schema 'image': {name}: {wrong}") from wrong
    if not isinstance(value, str):
        raise errors.BadRequest(f"Provided object does not match schema 'image': {name}: {value!r} is not a string")
    return value


def _may_set(name: str) -> None:
    if name in READ_ONLY:
        raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise errors.Forbidden(f"Attribute '{name}' is reserved.")
    if len(name) > 255:
        raise errors.BadRequest("Custom property should not be greater than 255 characters.")


class Change(NamedTuple):
    """One operation of a patch. `fresh` tells that `add` must not replace (the older form)."""

    op: str
    name: str
    value: Any
    fresh: bool


def read_patch(content_type: str, body: Any) -> list[Change]:
    """Raises UnsupportedMedia for another content type, BadRequest for what is malformed, Forbidden for names that a
    client may not change."""
    form = PATCHES.get(content_type.split(";")[0].strip().lower())
    if form is None:
        allowed = ", ".join(sorted(PATCHES))
        raise errors.UnsupportedMedia(
            f"Image PATCH expects Content-Type one of: {allowed}", detail={"headers": {"Accept-Patch": allowed}}
        )
    if not isinstance(body, list):
        raise errors.BadRequest("Request body must be a JSON array of operation objects.")
    return [_change(item, form) for item in body]


def _change(item: Any, form: int) -> Change:
    if not isinstance(item, dict):
        raise errors.BadRequest("Operations must be JSON objects.")
    if form == 10:
        op, path = item.get("op"), item.get("path")
        if op not in ("add", "remove", "replace"):
            raise errors.BadRequest(
                f"Invalid operation: `{op}`. It must be one of the following: add, remove, replace."
            )
    else:
        named = [each for each in ("add", "remove", "replace") if each in item]
        if len(named) != 1:
            raise errors.BadRequest(
                'Operation objects must contain exactly one member named "add", "remove", or "replace".'
            )
        op, path = named[0], item[named[0]]
    if not isinstance(path, str):
        raise errors.BadRequest("Unable to find 'path' in JSON Schema change: it must be a string.")
    name = _pointer(path)
    if name == "id" or name in READ_ONLY:
        raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    _may_set(name)
    if op == "remove":
        return Change(op, name, None, False)
    if "value" not in item:
        raise errors.BadRequest(f'Operation "{op}" requires a member named "value".')
    return Change(op, name, checked(name, item["value"]), form == 4)


def _pointer(path: str) -> str:
    """The one name that a JSON pointer (RFC 6901) of depth one holds. Raises BadRequest."""
    if not path.startswith("/"):
        raise errors.BadRequest(f'Pointer `{path}` does not start with "/".')
    if re.search(r"~(?![01])", path):
        raise errors.BadRequest(f'Pointer `{path}` contains "~" not part of a recognized escape sequence.')
    parts = path[1:].split("/")
    name = parts[0].replace("~1", "/").replace("~0", "~").strip()
    if name == "locations":
        raise errors.Forbidden("It's not allowed to change the locations of an image here.")
    if len(parts) != 1 or not name:
        raise errors.BadRequest(f"Invalid JSON pointer for this resource: '{path}'")
    return name


class Patched(NamedTuple):
    """What a patch makes of an image: the columns that it sets, all tags and all custom properties."""

    values: dict[str, Any]
    tags: list[str]
    properties: dict[str, str]


def apply(image: Image, changes: Iterable[Change], *, admin: bool) -> Patched:
    """Raises Forbidden or Conflict for a change that this image does not allow."""
    values: dict[str, Any] = {}
    tags = list(image.extras.tags)
    properties = dict(image.extras.properties)
    for op, name, value, fresh in changes:
        if name in _BASE:
            if op == "remove":
                raise errors.Forbidden(f"Property {name} may not be removed.")
            if op == "add" and fresh:
                raise errors.Conflict(f"Property {name} already present.")
            _allowed(image, name, admin)
            if name == "tags":
                tags = list(dict.fromkeys(value))
            else:
                values[name] = value
        elif op == "remove":
            if name not in properties:
                raise errors.Conflict(f"Property {name} does not exist.")
            del properties[name]
        elif op == "replace" and name not in properties:
            raise errors.Conflict(f"Property {name} does not exist.")
        elif fresh and op == "add" and name in properties:
            raise errors.Conflict(f"Property {name} already present.")
        else:
            properties[name] = value
    return Patched(values, tags, properties)


def _allowed(image: Image, name: str, admin: bool) -> None:
    if name == "owner" and not admin:
        raise errors.Forbidden("Owner can't be updated by non admin.")
    if name in ("disk_format", "container_format") and image.row.status != QUEUED:
        raise errors.Forbidden(f"Attribute {name} can be only replaced for a queued image.")
