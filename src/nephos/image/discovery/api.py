"""What this image service is: versions, schemas, stores, ways to import."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.image.discovery.schemas import SCHEMAS
from nephos.image.images import actions as images
from nephos.image.images.api import IMPORT_METHODS
from nephos.image.metadefs.schemas import SCHEMAS as METADEF_SCHEMAS
from nephos.image.parts import parts
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

CURRENT = "2.17"
SUPPORTED = ("2.15", *(f"2.{minor}" for minor in range(13, -1, -1)))
"""2.14, 2.16 and 2.18 are about a cache of images, which this service does not have."""


def versions(call: Call) -> Reply:
    return Reply(_versions(call), status=300)


def explicit_versions(call: Call) -> Reply:
    return Reply(_versions(call))


def _versions(call: Call) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{call.host_url}/image/v2/"}]
    shown = [{"id": f"v{CURRENT}", "status": "CURRENT", "links": links}]
    shown += [{"id": f"v{each}", "status": "SUPPORTED", "links": links} for each in SUPPORTED]
    return {"versions": shown}


def schema(call: Call) -> Reply:
    found = SCHEMAS.get(call.params["name"])
    if found is None:
        raise errors.NotFound(f"There is no schema {call.params['name']!r}.")
    return Reply(found)


def metadef_schema(call: Call) -> Reply:
    found = METADEF_SCHEMAS.get(call.params["name"])
    if found is None:
        raise errors.NotFound(f"There is no schema of metadata definitions called {call.params['name']!r}.")
    return Reply(found)


def import_methods(call: Call) -> Reply:
    return Reply(
        {
            "import-methods": {
                "description": "Import methods available.",
                "type": "array",
                "value": list(IMPORT_METHODS),
            }
        }
    )


def stores(call: Call) -> Reply:
    return Reply({"stores": [{"id": parts(call.cloud).store.name, "default": "true"}]})


def stores_detail(call: Call) -> Reply:
    store = parts(call.cloud).store
    detail = {"id": store.name, "default": "true", "type": "file", "weight": 0, "properties": {}}
    return Reply({"stores": [detail]})


def usage(call: Call) -> Reply:
    """What the caller's project uses of each limit; -1 is no limit."""
    with call.cloud.database.read() as tx:
        used = images.usage_of_project(tx, call.who.project_id or "")
    return Reply({"usage": {name: {"limit": -1, "usage": value} for name, value in used.items()}})


ROUTES = (
    Route("GET", "", versions, None),
    Route("GET", "/versions", explicit_versions, None),
    Route("GET", "/v2/schemas/{name}", schema, "get_images"),
    Route("GET", "/v2/schemas/metadefs/{name}", metadef_schema, "get_images"),
    Route("GET", "/v2/info/import", import_methods, "get_images"),
    Route("GET", "/v2/info/stores", stores, "get_images"),
    Route("GET", "/v2/info/stores/detail", stores_detail, "stores_info_detail"),
    Route("GET", "/v2/info/usage", usage, "get_images"),
)
