"""The JSON schemas that the image API publishes at /v2/schemas."""

from __future__ import annotations

from typing import Any

from nephos.image.images.wire import CONTAINER_FORMATS, DISK_FORMATS, VISIBILITIES

Schema = dict[str, Any]
_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _string(description: str, *, null: bool = False, most: int | None = None, read_only: bool = False) -> Schema:
    found: Schema = {"type": ["null", "string"] if null else "string", "description": description}
    if most is not None:
        found["maxLength"] = most
    if read_only:
        found["readOnly"] = True
    return found


def _one_of(description: str, choices: tuple[str | None, ...], *, read_only: bool = False) -> Schema:
    found: Schema = {
        "type": ["null", "string"] if None in choices else "string",
        "description": description,
        "enum": list(choices),
    }
    if read_only:
        found["readOnly"] = True
    return found


def _size(description: str) -> Schema:
    return {"type": ["null", "integer"], "readOnly": True, "description": description}


_TIME = "Date and time, ISO 8601, UTC"
_STATUSES = (
    *("queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete", "deactivated"),
)
_IMAGE: Schema = {
    "id": {**_string("An identifier for the image"), "pattern": _UUID},
    "name": _string("Descriptive name for the image", null=True, most=255),
    "status": _one_of("Status of the image", _STATUSES, read_only=True),
    "visibility": _one_of("Scope of image accessibility", VISIBILITIES),
    "protected": {"type": "boolean", "description": "If true, the image cannot be deleted."},
    "os_hidden": {"type": "boolean", "description": "If true, the image is left out of the default list."},
    "checksum": _string("MD5 of the image's bytes", null=True, most=32, read_only=True),
    "os_hash_algo": _string("Algorithm of os_hash_value", null=True, most=64, read_only=True),
    "os_hash_value": _string("Hash of the image's bytes, hexadecimal", null=True, most=128, read_only=True),
    "owner": _string("Project that owns the image", null=True, most=255),
    "size": _size("Size of the image's bytes"),
    "virtual_size": _size("Size in bytes of the disk that a guest sees"),
    "container_format": _one_of("Format of the container", (None, *CONTAINER_FORMATS)),
    "disk_format": _one_of("Format of the disk", (None, *DISK_FORMATS)),
    "created_at": _string(_TIME, read_only=True),
    "updated_at": _string(_TIME, read_only=True),
    "tags": {
        "type": "array",
        "description": "Words that belong to the image",
        "items": {"type": "string", "maxLength": 255},
    },
    "direct_url": _string("URL of the bytes in the store", read_only=True),
    "min_ram": {"type": "integer", "description": "Memory in MiB that the image needs to boot"},
    "min_disk": {"type": "integer", "description": "Disk in GiB that the image needs to boot"},
    "self": _string("URL of the image", read_only=True),
    "file": _string("URL of the image's bytes", read_only=True),
    "stores": _string("Stores that hold the bytes, separated by commas", read_only=True),
    "schema": _string("URL of this schema", read_only=True),
    "locations": {
        "type": "array",
        "description": "URLs of the bytes in their stores",
        "items": {
            "type": "object",
            "required": ["url", "metadata"],
            "properties": {"url": {"type": "string", "maxLength": 255}, "metadata": {"type": "object"}},
        },
    },
}
_MEMBER: Schema = {
    "member_id": _string("The project that the image is shared with"),
    "image_id": {**_string("The image"), "pattern": _UUID},
    "created_at": _string(_TIME),
    "updated_at": _string(_TIME),
    "status": _one_of("What the member said to the offer", ("pending", "accepted", "rejected")),
    "schema": {"readOnly": True, "type": "string"},
}
_TASK: Schema = {
    "id": {**_string("An identifier for the task"), "pattern": _UUID},
    "type": _one_of("What the task does", ("import", "api_image_import", "location_import")),
    "status": _one_of("How far it is", ("pending", "processing", "success", "failure")),
    "input": {"description": "What it was asked for", "type": ["null", "object"]},
    "result": {"description": "What came of it", "type": ["null", "object"]},
    "owner": _string("The project that asked for it"),
    "message": _string("Why it failed"),
    "image_id": _string("The image"),
    "request_id": _string("The request that asked for it"),
    "user_id": _string("The user who asked for it"),
    "expires_at": _string("When its record may go", null=True),
    "created_at": _string(_TIME),
    "updated_at": _string(_TIME),
    "self": {"readOnly": True, "type": "string"},
    "schema": {"readOnly": True, "type": "string"},
}
_IMAGE_LINKS = [
    {"rel": "self", "href": "{self}"},
    {"rel": "enclosure", "href": "{file}"},
    {"rel": "describedby", "href": "{schema}"},
]
_LIST_LINKS = [
    {"rel": "first", "href": "{first}"},
    {"rel": "next", "href": "{next}"},
    {"rel": "describedby", "href": "{schema}"},
]


def _list_of(name: str, item: Schema, *, paged: bool) -> Schema:
    pages: Schema = {"first": {"type": "string"}, "next": {"type": "string"}} if paged else {}
    return {
        "name": name,
        "properties": {name: {"type": "array", "items": item}, **pages, "schema": {"type": "string"}},
        "links": _LIST_LINKS if paged else _LIST_LINKS[-1:],
    }


_image: Schema = {
    "name": "image",
    "properties": _IMAGE,
    "additionalProperties": {"type": "string"},
    "links": _IMAGE_LINKS,
}
_member: Schema = {"name": "member", "properties": _MEMBER}
_task: Schema = {"name": "task", "properties": _TASK}
_stub: Schema = {
    "name": "task",
    "properties": {name: each for name, each in _TASK.items() if name not in ("input", "result", "message")},
}

SCHEMAS: dict[str, Schema] = {
    "image": _image,
    "images": _list_of("images", _image, paged=True),
    "member": _member,
    "members": _list_of("members", _member, paged=False),
    "task": _task,
    "tasks": _list_of("tasks", _stub, paged=True),
}
