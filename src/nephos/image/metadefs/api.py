"""Metadata definitions over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from nephos import errors
from nephos.image.images.actions import is_admin
from nephos.image.images.filters import DEFAULT_LIMIT, MOST
from nephos.image.metadefs import actions, store, wire
from nephos.image.metadefs.wire import KINDS, OBJECT, PROPERTY, RESOURCE_TYPE, TAG
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page
from nephos.kernel.http.routes import Route

_n = store.namespace
_BODIES: dict[str, type[Any]] = {
    OBJECT: wire.MetaObject,
    PROPERTY: wire.NamedProperty,
    TAG: wire.Tag,
    RESOURCE_TYPE: wire.Association,
}


def _target(row: Any) -> dict[str, Any]:
    return {"project_id": row.owner, "tenant_id": row.owner, "visibility": row.visibility}


def _permit(call: Call, row: Any) -> None:
    """Raises NotFound when the caller may not see the namespace, Forbidden when it may not do this with it."""
    if not call.allowed("get_metadef_namespace", _target(row)):
        raise errors.NotFound(f"Namespace {row.namespace} not found.")
    call.permit(_target(row))


def _page(call: Call) -> Page:
    query = call.query
    limit = query.integer("limit")
    name, direction = query.one("sort_key") or "created_at", query.one("sort_dir") or "desc"
    if name not in ("namespace", "created_at", "updated_at", "visibility", "owner", "protected"):
        raise errors.BadRequest(f"Invalid sort key: {name}")
    if direction not in ("asc", "desc"):
        raise errors.BadRequest(f"Invalid sort direction: {direction}")
    limit = min(MOST, DEFAULT_LIMIT if limit is None else limit)
    return Page(limit, query.one("marker"), ((name, direction == "desc"),))


def index(call: Call) -> Reply:
    page, visibility = _page(call), call.query.one("visibility")
    if visibility and visibility not in ("public", "private"):
        raise errors.BadRequest(f"Invalid visibility value: {visibility}")
    chosen = select(_n).where(actions.seen_by(call.who))
    if visibility:
        chosen = chosen.where(_n.c.visibility == visibility)
    types = [each for each in (call.query.one("resource_types") or "").split(",") if each]
    if types:
        of_types = select(store.item.c.namespace_id).where(
            store.item.c.kind == RESOURCE_TYPE, store.item.c.name.in_(types)
        )
        chosen = chosen.where(_n.c.id.in_(of_types))
    with call.cloud.database.read() as tx:
        rows = tx.all(paginate(tx, chosen, page, dict(_n.c.items()), key=_n.c.namespace))
        items = actions.items_of(tx, [row.id for row in rows], RESOURCE_TYPE)
    shown = [
        wire.show_namespace(row, [each for each in items if each.namespace_id == row.id])
        for row in rows
        if call.allowed("get_metadef_namespace", _target(row))
    ]
    body: dict[str, Any] = {"namespaces": shown, "first": "/v2/metadefs/namespaces"}
    body["schema"] = "/v2/schemas/metadefs/namespaces"
    if rows and len(rows) == page.limit:
        body["next"] = call.query.next_link("/v2/metadefs/namespaces", rows[-1].namespace)
    return Reply(body)


def _values(call: Call, wanted: wire.Namespace) -> dict[str, Any]:
    values = {
        name: getattr(wanted, name) for name in ("namespace", "display_name", "description", "visibility", "protected")
    }
    values["owner"] = wanted.owner or call.who.project_id
    return values


def create(call: Call) -> Reply:
    wanted: wire.Namespace = wire.read(call, wire.Namespace)
    if wanted.owner not in (None, call.who.project_id) and not is_admin(call.who):
        raise errors.Forbidden(f"You are not permitted to create namespaces owned by '{wanted.owner}'.")
    items = wanted.items()

    def work(tx: Tx) -> tuple[Any, Any]:
        row = actions.create(tx, _values(call, wanted), items)
        return row, actions.items_of(tx, [row.id])

    row, made = call.cloud.database.write(work)
    location = f"{call.host_url}/image{wire.path(row.namespace)}"
    return Reply(wire.show_namespace(row, made), headers={"Location": location})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = actions.find(tx, call.who, call.params["namespace"])
        items = actions.items_of(tx, [row.id])
    _permit(call, row)
    return Reply(_prefixed(wire.show_namespace(row, items), call.query.one("resource_type")))


def _prefixed(body: dict[str, Any], resource_type: str | None) -> dict[str, Any]:
    """With the names that properties have on a resource type, by the association's prefix."""
    prefixes = [
        each.get("prefix", "") for each in body.get("resource_type_associations", ()) if each["name"] == resource_type
    ]
    if not prefixes or not prefixes[0]:
        return body
    prefix = prefixes[0]
    if "properties" in body:
        body["properties"] = {prefix + name: each for name, each in body["properties"].items()}
    for each in body.get("objects", ()):
        each["properties"] = {prefix + name: one for name, one in each["properties"].items()}
        each["required"] = [prefix + name for name in each["required"]]
    return body


def update(call: Call) -> Reply:
    wanted: wire.Namespace = wire.read(call, wire.Namespace)
    _look(call)
    row = _write(call, lambda tx, row: actions.change(tx, row, _values(call, wanted)))
    return Reply(wire.show_namespace(row))


def remove(call: Call) -> Reply:
    _look(call)
    _write(call, actions.remove)
    return Reply()


def _look(call: Call) -> Any:
    """The namespace of the URL, if the caller may do with it what the route says."""
    with call.cloud.database.read() as tx:
        row = actions.find(tx, call.who, call.params["namespace"])
    _permit(call, row)
    return row


def _write(call: Call, work: Callable[[Tx, Any], Any]) -> Any:
    return call.cloud.database.write(lambda tx: work(tx, actions.find(tx, call.who, call.params["namespace"])))


def resource_types(call: Call) -> Reply:
    call.permit({**call.own, "visibility": "public"})
    with call.cloud.database.read() as tx:
        names = actions.resource_types(tx)
    return Reply({"resource_types": [{"name": name} for name in names]})


def _list(kind: str) -> Callable[[Call], Reply]:
    def index_items(call: Call) -> Reply:
        row = _look(call)
        limit, marker = call.query.integer("limit"), call.query.one("marker")
        with call.cloud.database.read() as tx:
            items = list(actions.items_of(tx, [row.id], kind))
        if marker is not None:
            names = [each.name for each in items]
            if marker not in names:
                raise errors.NotFound(f"The marker {marker} was not found in namespace {row.namespace}.")
            items = items[names.index(marker) + 1 :]
        return Reply(wire.show_all(row, kind, items[:limit]))

    return index_items


def _show(kind: str) -> Callable[[Call], Reply]:
    def show_item(call: Call) -> Reply:
        row = _look(call)
        with call.cloud.database.read() as tx:
            return Reply(wire.show(row, actions.item(tx, row, kind, call.params["name"])))

    return show_item


def _add(kind: str) -> Callable[[Call], Reply]:
    def add_item(call: Call) -> Reply:
        wanted = wire.read(call, _BODIES[kind])
        row = _look(call)
        made = _write(call, lambda tx, row: actions.add(tx, row, kind, wanted.name, wire.plain(wanted)))
        return Reply(wire.show(row, made))

    return add_item


def _replace(kind: str) -> Callable[[Call], Reply]:
    def replace_item(call: Call) -> Reply:
        wanted, name = wire.read(call, _BODIES[kind]), call.params["name"]
        row = _look(call)
        made = _write(call, lambda tx, row: actions.replace(tx, row, kind, name, wanted.name, wire.plain(wanted)))
        return Reply(wire.show(row, made))

    return replace_item


def _remove(kind: str) -> Callable[[Call], Reply]:
    def remove_item(call: Call) -> Reply:
        _look(call)
        _write(call, lambda tx, row: actions.remove_item(tx, row, kind, call.params["name"]))
        return Reply()

    return remove_item


def _remove_all(kind: str) -> Callable[[Call], Reply]:
    def remove_items(call: Call) -> Reply:
        _look(call)
        _write(call, lambda tx, row: actions.remove_all(tx, row, kind))
        return Reply()

    return remove_items


def add_tag(call: Call) -> Reply:
    """A tag is made by its URL alone."""
    name = call.params["name"]
    if not 1 <= len(name) <= 80 or "\x00" in name:
        raise errors.BadRequest("A tag's name has 1 to 80 characters, none of them null.")
    row = _look(call)
    return Reply(wire.show(row, _write(call, lambda tx, row: actions.add(tx, row, TAG, name, {}))))


def set_tags(call: Call) -> Reply:
    """All tags of a namespace at once; with `X-Openstack-Append: True` beside those that are there."""
    wanted: wire.Tags = wire.read(call, wire.Tags)
    names = [each.name for each in wanted.tags]
    if len(set(names)) != len(names):
        raise errors.Conflict("A tag is named twice.")
    append = (call.header("X-Openstack-Append") or "").lower() == "true"
    _look(call)

    def work(tx: Tx, row: Any) -> None:
        if not append:
            actions.remove_all(tx, row, TAG)
        for name in names:
            actions.add(tx, row, TAG, name, {})

    _write(call, work)
    return Reply({"tags": [{"name": name} for name in names], "schema": KINDS[TAG][1]})


_ALL = "/v2/metadefs/namespaces"
_ONE = _ALL + "/{namespace}"
_LATER = "later"


def _routes(kind: str, plural: str, rules: tuple[str, str, str, str, str]) -> tuple[Route, ...]:
    """List, make, show, change and delete; `rules` in this order."""
    many, one = f"{_ONE}/{plural}", f"{_ONE}/{plural}/{{name}}"
    listed, added, shown, changed, removed = rules
    return (
        Route("GET", many, _list(kind), listed, target=_LATER),
        Route("POST", many, _add(kind), added, 201, target=_LATER),
        Route("GET", one, _show(kind), shown, target=_LATER),
        Route("PUT", one, _replace(kind), changed, target=_LATER),
        Route("DELETE", one, _remove(kind), removed, 204, target=_LATER),
    )


_TAGS, _TYPES = _ONE + "/tags", _ONE + "/resource_types"
ROUTES = (
    Route("GET", "/v2/metadefs/resource_types", resource_types, "list_metadef_resource_types", target=_LATER),
    Route("GET", _ALL, index, "get_metadef_namespaces"),
    Route("POST", _ALL, create, "add_metadef_namespace", 201),
    Route("GET", _ONE, show, "get_metadef_namespace", target=_LATER),
    Route("PUT", _ONE, update, "modify_metadef_namespace", target=_LATER),
    Route("DELETE", _ONE, remove, "delete_metadef_namespace", 204, target=_LATER),
    *_routes(
        OBJECT,
        "objects",
        (
            *("get_metadef_objects", "add_metadef_object", "get_metadef_object"),
            *("modify_metadef_object", "delete_metadef_object"),
        ),
    ),
    Route("DELETE", _ONE + "/objects", _remove_all(OBJECT), "delete_metadef_namespace", 204, target=_LATER),
    *_routes(
        PROPERTY,
        "properties",
        (
            *("get_metadef_properties", "add_metadef_property", "get_metadef_property"),
            *("modify_metadef_property", "remove_metadef_property"),
        ),
    ),
    Route("DELETE", _ONE + "/properties", _remove_all(PROPERTY), "delete_metadef_namespace", 204, target=_LATER),
    Route("GET", _TAGS, _list(TAG), "get_metadef_tags", target=_LATER),
    Route("POST", _TAGS, set_tags, "add_metadef_tags", 201, target=_LATER),
    Route("DELETE", _TAGS, _remove_all(TAG), "delete_metadef_tags", 204, target=_LATER),
    Route("GET", _TAGS + "/{name}", _show(TAG), "get_metadef_tag", target=_LATER),
    Route("POST", _TAGS + "/{name}", add_tag, "add_metadef_tag", 201, target=_LATER),
    Route("PUT", _TAGS + "/{name}", _replace(TAG), "modify_metadef_tag", target=_LATER),
    Route("DELETE", _TAGS + "/{name}", _remove(TAG), "delete_metadef_tag", 204, target=_LATER),
    Route("GET", _TYPES, _list(RESOURCE_TYPE), "get_metadef_resource_type", target=_LATER),
    Route("POST", _TYPES, _add(RESOURCE_TYPE), "add_metadef_resource_type_association", 201, target=_LATER),
    Route(
        "DELETE",
        _TYPES + "/{name}",
        _remove(RESOURCE_TYPE),
        "remove_metadef_resource_type_association",
        204,
        target=_LATER,
    ),
)
