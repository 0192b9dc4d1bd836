"""Images over HTTP (image API v2)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from nephos import errors
from nephos.image import notifications
from nephos.image.images import actions, filters, store, wire
from nephos.image.images.actions import Image
from nephos.image.parts import parts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call, Reply, decode
from nephos.kernel.http.routes import Route

IMPORT_METHODS = ("glance-direct",)
_VISIBILITY_RULES = {"public": "publicize_image", "community": "communitize_image"}


def create(call: Call) -> Reply:
    who = call.who
    new = wire.read_new(_json(call))
    owner = new.values.get("owner", who.project_id)
    visibility = new.values.get("visibility", "shared")
    target = {"project_id": owner, "tenant_id": owner, "owner": owner, "visibility": visibility}
    if owner != who.project_id and not call.allowed("add_image", target):
        raise errors.Forbidden(f"You are not permitted to create images owned by '{owner}'.")
    call.permit(target)
    if visibility in _VISIBILITY_RULES:
        call.permit(target, rule=_VISIBILITY_RULES[visibility])
    values = {
        "id": clock.uuid4(),
        "min_disk": 0,
        "min_ram": 0,
        **new.values,
        "owner": owner,
        "visibility": visibility,
    }

    def work(tx: Tx) -> Image:
        actions.create(tx, values, new.tags, new.properties)
        return actions.find(tx, who, values["id"])

    image = call.cloud.database.write(work)
    name = parts(call.cloud).store.name
    return Reply(
        wire.show(image, name),
        headers={
            "Location": f"{call.host_url}/image/v2/images/{image.row.id}",
            "OpenStack-image-import-methods": ",".join(IMPORT_METHODS),
            "OpenStack-image-store-ids": name,
        },
    )


def index(call: Call) -> Reply:
    if call.environ["PATH_INFO"].endswith("/"):
        raise errors.NotFound("Failed to find an image without an id.")
    who, query = call.who, call.query
    page = filters.page(query)
    seen = actions.seen_by(who, filters.visibility(query), filters.member_status(query))
    statement = select(store.image).where(seen, *filters.conditions(query))
    with call.cloud.database.read() as tx:
        if page.marker is not None:
            _check_marker(tx, call, page.marker)
        rows = tx.all(paginate(tx, statement, page, filters.SORT_KEYS, key=store.image.c.id))
        extras = store.extras_of(tx, [row.id for row in rows])
    images = [Image(row, extras[row.id], row.visibility == "shared" and row.owner != who.project_id) for row in rows]
    name = parts(call.cloud).store.name
    shown = [wire.show(each, name) for each in images if call.allowed("get_image", each.target(who))]
    first = query.without("marker")
    body: dict[str, Any] = {"images": shown, "schema": "/v2/schemas/images", "first": "/v2/images"}
    if first:
        body["first"] = query.next_link("/v2/images", "").rpartition("&marker=")[0]
    if rows and len(rows) == page.limit:
        body["next"] = query.next_link("/v2/images", rows[-1].id)
    return Reply(body)


def _check_marker(tx: Tx, call: Call, marker: str) -> None:
    try:
        actions.find(tx, call.who, marker)
    except errors.NotFound as missing:
        raise errors.BadRequest(f"No image found with ID {marker}: it cannot be a marker.") from missing


def show(call: Call) -> Reply:
    image = seen(call)
    return Reply(wire.show(image, parts(call.cloud).store.name))


def seen(call: Call, rule: str | None = None) -> Image:
    """The image of the URL, if the caller may see it and the rule allows it. Raises NotFound, Forbidden."""
    with call.cloud.database.read() as tx:
        image = actions.find(tx, call.who, call.params["image_id"])
    permit(call, image, rule)
    return image


def permit(call: Call, image: Image, rule: str | None = None) -> None:
    """Raises NotFound when the policy does not even let the caller see the image, Forbidden when only the rule says no."""
    target = image.target(call.who)
    if not call.allowed("get_image", target):
        raise errors.NotFound(f"Failed to find image {image.row.id}.")
    if rule is not None:
        call.permit(target, rule=rule)


def update(call: Call) -> Reply:
    who = call.who
    changes = wire.read_patch(call.environ.get("CONTENT_TYPE", ""), _json(call))
    image = seen(call)
    target = image.target(who)
    for change in changes:
        if change.name == "visibility" and change.value in _VISIBILITY_RULES:
            call.permit(target, rule=_VISIBILITY_RULES[change.value])
        call.permit(target)

    def work(tx: Tx) -> Image:
        current = actions.find(tx, who, image.row.id)
        patched = wire.apply(current, changes, admin=actions.is_admin(who))
        actions.replace_extras(tx, current, patched.tags, patched.properties)
        actions.change(tx, image.row.id, **patched.values)
        notifications.tell(tx, image.row.id, notifications.UPDATE)
        return actions.images_of(tx, [image.row.id])[image.row.id]

    changed = call.cloud.database.write(work) if changes else image
    return Reply(wire.show(changed, parts(call.cloud).store.name))


def remove(call: Call) -> Reply:
    image = seen(call, "delete_image")

    def work(tx: Tx) -> str | None:
        return actions.remove(tx, actions.find(tx, call.who, image.row.id))

    name = call.cloud.database.write(work)
    if name is not None:
        parts(call.cloud).store.delete(name)
    return Reply()


def remove_none(call: Call) -> Reply:
    """DELETE without an id. Clients expect of it what they expect of an id that is not there."""
    raise errors.NotFound("Failed to find an image without an id.")


def put_tag(call: Call) -> Reply:
    value = wire.checked("tags", [_tag(call)])[0]
    image = seen(call, "modify_image")
    call.cloud.database.write(lambda tx: actions.add_tag(tx, actions.find(tx, call.who, image.row.id), value))
    return Reply()


def delete_tag(call: Call) -> Reply:
    image = seen(call, "modify_image")
    call.cloud.database.write(lambda tx: actions.remove_tag(tx, actions.find(tx, call.who, image.row.id), _tag(call)))
    return Reply()


def deactivate(call: Call) -> Reply:
    return _set_active(call, "deactivate", active=False)


def reactivate(call: Call) -> Reply:
    return _set_active(call, "reactivate", active=True)


def _set_active(call: Call, rule: str, *, active: bool) -> Reply:
    image = seen(call, rule)
    call.cloud.database.write(
        lambda tx: actions.set_active(tx, actions.find(tx, call.who, image.row.id), active=active)
    )
    return Reply()


def delete_from_store(call: Call) -> Reply:
    """There is one store, and the last copy of an image goes only with the image."""
    name = parts(call.cloud).store.name
    image = seen(call, "delete_image_location")
    if call.params["store_id"] != name:
        raise errors.Conflict(f"The selected store {call.params['store_id']} is not available on this node.")
    if image.row.status != actions.ACTIVE:
        raise errors.Conflict("It's not allowed to remove image data from store if image status is not 'active'")
    raise errors.Forbidden(
        "Cannot delete image data from the only store containing it. Consider deleting the image instead."
    )


def _tag(call: Call) -> str:
    value = call.params["tag"]
    if "\x00" in value:
        raise errors.BadRequest("A tag holds no null character.")
    return value


def _json(call: Call) -> Any:
    if not call.raw:
        raise errors.BadRequest("Body expected in request.")
    return decode(call.raw, Any)


_ONE = "/v2/images/{image_id}"
ROUTES = (
    Route("POST", "/v2/images", create, "add_image", 201, target="later"),
    Route("GET", "/v2/images", index, "get_images"),
    Route("DELETE", "/v2/images", remove_none, "delete_image"),
    Route("GET", _ONE, show, "get_image", target="later"),
    Route("PATCH", _ONE, update, "modify_image", target="later"),
    Route("DELETE", _ONE, remove, "delete_image", 204, target="later"),
    Route("PUT", _ONE + "/tags/{tag}", put_tag, "modify_image", 204, target="later"),
    Route("DELETE", _ONE + "/tags/{tag}", delete_tag, "modify_image", 204, target="later"),
    Route("POST", _ONE + "/actions/deactivate", deactivate, "deactivate", 204, target="later"),
    Route("POST", _ONE + "/actions/reactivate", reactivate, "reactivate", 204, target="later"),
    Route(
        "DELETE", "/v2/stores/{store_id}/{image_id}", delete_from_store, "delete_image_location", 204, target="later"
    ),
)
