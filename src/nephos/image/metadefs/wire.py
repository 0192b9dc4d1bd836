"""Metadata definitions on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.http.call import Call, decode

OBJECT, PROPERTY, TAG, RESOURCE_TYPE = "object", "property", "tag", "resource_type"
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
_Owner = Annotated[str, msgspec.Meta(max_length=255)]
_Text = Annotated[str, msgspec.Meta(max_length=500)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Kind = Literal["array", "boolean", "integer", "number", "object", "string"]
_NONE = msgspec.UNSET
_Unset = msgspec.UnsetType


class Items(msgspec.Struct, forbid_unknown_fields=False, omit_defaults=True):
    type: _Kind | _Unset = _NONE
    enum: list[Any] | _Unset = _NONE


class PropertyType(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What a property may hold, in the words of JSON schema."""

    title: str
    type: _Kind
    name: _Name | _Unset = _NONE
    description: str | _Unset = _NONE
    operators: list[str] | _Unset = _NONE
    required: list[str] | _Unset = _NONE
    minimum: float | int | _Unset = _NONE
    maximum: float | int | _Unset = _NONE
    maxLength: _Count | _Unset = _NONE  # noqa: N815
    minLength: _Count | _Unset = _NONE  # noqa: N815
    pattern: str | _Unset = _NONE
    enum: list[Any] | _Unset = _NONE
    readonly: bool | _Unset = _NONE
    default: Any = _NONE
    items: Items | _Unset = _NONE
    maxItems: _Count | _Unset = _NONE  # noqa: N815
    minItems: _Count | _Unset = _NONE  # noqa: N815
    uniqueItems: bool | _Unset = _NONE  # noqa: N815
    additionalItems: bool | _Unset = _NONE  # noqa: N815


class NamedProperty(PropertyType, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    name: _Name


class MetaObject(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    name: _Name
    description: str | _Unset = _NONE
    required: list[str] | _Unset = _NONE
    properties: dict[str, PropertyType] | _Unset = _NONE


class Tag(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name


class Tags(msgspec.Struct, forbid_unknown_fields=True):
    tags: list[Tag]


class Association(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    name: _Name
    prefix: _Name | _Unset = _NONE
    properties_target: _Name | _Unset = _NONE


class Namespace(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A namespace as clients send it, with what it holds when it is made."""

    namespace: _Name
    display_name: _Name | None = None
    description: _Text | None = None
    visibility: Literal["public", "private"] = "private"
    protected: bool = False
    owner: _Owner | None = None
    resource_type_associations: list[Association] = []
    properties: dict[_Name, PropertyType] = {}
    objects: list[MetaObject] = []
    tags: list[Tag] = []

    def items(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(kind, name, body) of all that it holds. Raises BadRequest for what is named twice."""
        found = [(RESOURCE_TYPE, each.name, plain(each)) for each in self.resource_type_associations]
        found += [(PROPERTY, name, plain(each)) for name, each in self.properties.items()]
        found += [(OBJECT, each.name, plain(each)) for each in self.objects]
        found += [(TAG, each.name, {}) for each in self.tags]
        if len({(kind, name) for kind, name, _ in found}) != len(found):
            raise errors.BadRequest("Couldn't create metadata namespace: something in it is named twice.")
        return found


READ_ONLY = ("self", "schema", "created_at", "updated_at")


def read(call: Call, kind: type[Any]) -> Any:
    """The body. Raises BadRequest, and Forbidden for what only the service sets."""
    if not call.raw:
        raise errors.BadRequest("Body expected in request.")
    body = decode(call.raw, Any)
    if isinstance(body, dict):
        for name in READ_ONLY:
            if name in body:
                raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    return decode(call.raw, kind)


def plain(value: Any) -> dict[str, Any]:
    """A struct as JSON, without its name."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    found.pop("name", None)
    return found


def path(namespace: str) -> str:
    return f"/v2/metadefs/namespaces/{namespace}"


def times(row: Any) -> dict[str, Any]:
    return {"created_at": clock.iso(row.created_at), "updated_at": clock.iso(row.updated_at)}


def show_namespace(row: Any, items: Sequence[Any] = ()) -> dict[str, Any]:
    """A namespace; with what it holds, of what there is any."""
    body: dict[str, Any] = {
        "namespace": row.namespace,
        "visibility": row.visibility,
        "protected": row.protected,
        "owner": row.owner,
        "self": path(row.namespace),
        "schema": "/v2/schemas/metadefs/namespace",
        **times(row),
    }
    for name in ("display_name", "description"):
        if getattr(row, name) is not None:
            body[name] = getattr(row, name)
    of: dict[str, list[Any]] = {kind: [each for each in items if each.kind == kind] for kind in KINDS}
    shown = {
        "resource_type_associations": [show(row, each) for each in of[RESOURCE_TYPE]],
        "properties": {each.name: each.body for each in of[PROPERTY]},
        "objects": [show(row, each) for each in of[OBJECT]],
        "tags": [{"name": each.name} for each in of[TAG]],
    }
    return {**body, **{name: value for name, value in shown.items() if value}}


def show(row: Any, each: Any) -> dict[str, Any]:
    """One thing of a namespace."""
    body: dict[str, Any] = {"name": each.name, **(each.body or {})}
    if each.kind == OBJECT:
        body.setdefault("properties", {})
        body.setdefault("required", [])
        body["self"] = f"{path(row.namespace)}/objects/{each.name}"
        body["schema"] = "/v2/schemas/metadefs/object"
    return body if each.kind == PROPERTY else {**body, **times(each)}


def show_all(row: Any, kind: str, items: Sequence[Any]) -> dict[str, Any]:
    """Everything of a kind in a namespace."""
    if kind == PROPERTY:
        return {"properties": {each.name: show(row, each) for each in items}}
    plural, schema = KINDS[kind]
    shown = [{"name": each.name} if kind == TAG else show(row, each) for each in items]
    body: dict[str, Any] = {plural: shown}
    if schema:
        body["schema"] = schema
        body["first"] = f"{path(row.namespace)}/{plural}"
    return body


KINDS: Mapping[str, tuple[str, str]] = {
    OBJECT: ("objects", "/v2/schemas/metadefs/objects"),
    PROPERTY: ("properties", ""),
    TAG: ("tags", "/v2/schemas/metadefs/tags"),
    RESOURCE_TYPE: ("resource_type_associations", ""),
}
