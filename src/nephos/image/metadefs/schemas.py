"""The JSON schemas of metadata definitions, published at /v2/schemas/metadefs."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_TYPES = ["array", "boolean", "integer", "number", "object", "string", None]
_COUNT = {"$ref": "#/definitions/positiveInteger"}
_STRING: Schema = {"type": "string"}
_READ_ONLY: Schema = {"type": "string", "readOnly": True}
_NAME: Schema = {"type": "string", "maxLength": 80}
_TIMES: Schema = {
    name: {"type": "string", "readOnly": True, "format": "date-time", "description": "Date and time, ISO 8601, UTC"}
    for name in ("created_at", "updated_at")
}
_DEFINITIONS: Schema = {
    "positiveInteger": {"type": "integer", "minimum": 0},
    "positiveIntegerDefault0": {"allOf": [_COUNT, {"default": 0}]},
    "stringArray": {"type": "array", "items": _STRING, "uniqueItems": True},
}
_PROPERTY: Schema = {
    "name": _NAME,
    "title": _STRING,
    "description": _STRING,
    "operators": {"type": "array", "items": _STRING},
    "type": {"type": "string", "enum": _TYPES},
    "required": {"$ref": "#/definitions/stringArray"},
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "maxLength": _COUNT,
    "minLength": {"$ref": "#/definitions/positiveIntegerDefault0"},
    "pattern": {"type": "string", "format": "regex"},
    "enum": {"type": "array"},
    "readonly": {"type": "boolean"},
    "default": {},
    "items": {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": _TYPES}, "enum": {"type": "array"}},
    },
    "maxItems": _COUNT,
    "minItems": {"$ref": "#/definitions/positiveIntegerDefault0"},
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": {"type": "boolean"},
}
_PROPERTIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": "object", "required": ["title", "type"], "properties": _PROPERTY},
}
_WITH_PROPERTY: Schema = {**_DEFINITIONS, "property": _PROPERTIES}
_OBJECT: Schema = {
    "name": _NAME,
    "description": _STRING,
    "required": {"$ref": "#/definitions/stringArray"},
    "properties": {"$ref": "#/definitions/property"},
    "schema": _READ_ONLY,
    "self": _READ_ONLY,
    **_TIMES,
}
_ASSOCIATION: Schema = {"name": _NAME, "prefix": _NAME, "properties_target": _NAME, **_TIMES}
_TAG: Schema = {"name": _NAME, **_TIMES}
_NAMESPACE: Schema = {
    "namespace": {"type": "string", "maxLength": 80, "description": "The unique name"},
    "display_name": _NAME,
    "description": {"type": "string", "maxLength": 500},
    "visibility": {"type": "string", "enum": ["public", "private"]},
    "protected": {"type": "boolean", "description": "If true, the namespace cannot be deleted."},
    "owner": {"type": "string", "maxLength": 255},
    **_TIMES,
    "schema": _READ_ONLY,
    "self": _READ_ONLY,
    "resource_type_associations": {
        "type": "array",
        "items": {"type": "object", "properties": dict.fromkeys(("name", "prefix", "properties_target"), _STRING)},
    },
    "properties": {"$ref": "#/definitions/property"},
    "objects": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {name: _OBJECT[name] for name in ("name", "description", "required", "properties")},
        },
    },
    "tags": {"type": "array", "items": {"type": "object", "properties": {"name": _STRING}}},
}


def _schema(name: str, properties: Schema, required: list[str], definitions: Schema | None = None) -> Schema:
    found: Schema = {"name": name, "properties": properties, "additionalProperties": False, "required": required}
    return found if definitions is None else {**found, "definitions": definitions}


def _list_of(name: str, item: Schema, definitions: Schema | None = None, *, by_name: bool = False) -> Schema:
    plain = {key: value for key, value in item.items() if key != "definitions"}
    items: Schema = {"type": "object", "additionalProperties": plain} if by_name else {"type": "array", "items": plain}
    links = [{"rel": rel, "href": f"{{{key}}}"} for rel, key in (("first", "first"), ("next", "next"))]
    found: Schema = {
        "name": name,
        "properties": {name: items, "first": _STRING, "next": _STRING, "schema": _STRING},
        "links": [*links, {"rel": "describedby", "href": "{schema}"}],
    }
    return found if definitions is None else {**found, "definitions": definitions}


_namespace = _schema("namespace", _NAMESPACE, ["namespace"], _WITH_PROPERTY)
_object = _schema("object", _OBJECT, ["name"], _WITH_PROPERTY)
_property = _schema("property", _PROPERTY, ["type", "title", "name"], _DEFINITIONS)
_tag = _schema("tag", _TAG, ["name"])
_association = _schema("resource_type_association", _ASSOCIATION, ["name"])

SCHEMAS: dict[str, Schema] = {
    "namespace": _namespace,
    "namespaces": _list_of("namespaces", _namespace, _WITH_PROPERTY),
    "object": _object,
    "objects": _list_of("objects", _object, _WITH_PROPERTY),
    "property": _property,
    "properties": _list_of("properties", {**_property, "required": ["type", "title"]}, _DEFINITIONS, by_name=True),
    "tag": _tag,
    "tags": _list_of("tags", _tag),
    "resource_type": _association,
    "resource_types": _list_of("resource_type_associations", _association),
}
