"""Images as the compute API showed them until 2.35, and their metadata until 2.38, for old clients. The image service keeps
them, and its policy decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.details.metadata import ItemBody, MetadataBody
from nephos.compute.servers import actions as servers
from nephos.compute.wire import PREFIX, ROOT
from nephos.image import notifications
from nephos.image.images import actions, lookups
from nephos.image.images.actions import Image
from nephos.image.images.lookups import Wanted
from nephos.image.parts import parts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version

_STATUS = {"active": "ACTIVE", "queued": "SAVING", "saving": "SAVING"}
_PROGRESS = {"queued": 25, "saving": 50, "active": 100}
_PROPERTY = "property-"
_AS_PROPERTY = {"server": "instance_uuid", "type": "image_type"}


def _find(call: Call, tx: Tx, rule: str = "get_image") -> Image:
    """The image of the URL. Raises NotFound for one that the caller may not see, Forbidden when the rule says no."""
    try:
        image = actions.find(tx, call.who, call.params["image"])
    except errors.NotFound as missing:
        raise errors.NotFound("Image not found.") from missing
    target = image.target(call.who)
    if not call.allowed("get_image", target):
        raise errors.NotFound("Image not found.")
    call.permit(target, rule=rule)
    return image


# --- images ----------------------------------------------------------------------------------------------------------


def index(call: Call) -> Reply:
    return _list(call, "images", _basic)


def detail(call: Call) -> Reply:
    return _list(call, "images/detail", _detailed)


def _list(call: Call, path: str, show: Callable[[Call, Image], dict[str, Any]]) -> Reply:
    limit = call.query.integer("limit")
    most = call.cloud.settings.api.max_limit
    page = Page(most if limit is None else min(limit, most), call.query.one("marker"))
    wanted = _wanted(call)
    with call.cloud.database.read() as tx:
        found = lookups.listed(tx, call.who, wanted, marker=page.marker, limit=page.limit or 0)
    seen = [each for each in found if call.allowed("get_image", each.target(call.who))]
    body: dict[str, Any] = {"images": [show(call, each) for each in seen]}
    following = common.next_links(call, path, [each.row.id for each in found], page)
    if following:
        body["images_links"] = following
    return Reply(body)


def _wanted(call: Call) -> Wanted:
    """The filters of a query; a server may be given by its URL. Raises BadRequest for what is malformed."""
    query = call.query
    properties = {name.removeprefix(_PROPERTY): query[name][-1] for name in query if name.startswith(_PROPERTY)}
    for name, property_ in _AS_PROPERTY.items():
        value = query.one(name)
        if value is not None:
            properties[property_] = value.rpartition("/")[2] if name == "server" else value
    status, since = query.one("status"), query.one("changes-since")
    return Wanted(
        name=query.one("name"),
        statuses=None if status is None else [own for own, shown in _STATUS.items() if shown == status.upper()],
        changed_since=None if since is None else common.parse_moment(since, "changes-since"),
        min_ram=query.integer("minRam"),
        min_disk=query.integer("minDisk"),
        properties=properties,
    )


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"image": _detailed(call, _find(call, tx))})


def delete(call: Call) -> Reply:
    name = call.cloud.database.write(lambda tx: actions.remove(tx, _find(call, tx, "delete_image")))
    if name is not None:
        parts(call.cloud).store.delete(name)
    return Reply()


def delete_none(call: Call) -> Reply:
    """DELETE without an id is answered as one whose id is not there."""
    raise errors.NotFound("Image not found.")


def _basic(call: Call, image: Image) -> dict[str, Any]:
    row = image.row
    alternate = {"rel": "alternate", "type": "application/vnd.openstack.image"}
    links = [*common.links(call, "images", row.id), {**alternate, "href": f"{call.host_url}/image/images/{row.id}"}]
    return {"id": row.id, "name": row.name, "links": links}


def _detailed(call: Call, image: Image) -> dict[str, Any]:
    row, properties = image.row, image.extras.properties
    shown = _basic(call, image) | {
        "minRam": row.min_ram,
        "minDisk": row.min_disk,
        "metadata": properties,
        "created": common.moment(row.created_at),
        "updated": common.moment(row.updated_at),
        "status": _STATUS.get(row.status, "UNKNOWN"),
        "progress": _PROGRESS.get(row.status, 0),
        "OS-EXT-IMG-SIZE:size": row.size,
    }
    server = properties.get("instance_uuid")
    if server is not None:
        links = [
            {"rel": "self", "href": f"{call.host_url}{ROOT}/servers/{server}"},
            {"rel": "bookmark", "href": f"{call.host_url}{PREFIX}/servers/{server}"},
        ]
        shown["server"] = {"id": server, "links": links}
    if "auto_disk_config" in properties:
        shown["OS-DCF:diskConfig"] = "AUTO" if common.truth(properties["auto_disk_config"]) else "MANUAL"
    return shown


# --- their metadata --------------------------------------------------------------------------------------------------


def metadata(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"metadata": _find(call, tx).extras.properties})


def show_item(call: Call) -> Reply:
    key = call.params["key"]
    with call.cloud.database.read() as tx:
        found = _find(call, tx).extras.properties
    if key not in found:
        raise errors.NotFound("The resource could not be found.")
    return Reply({"meta": {key: found[key]}})


def merge(call: Call) -> Reply:
    given = call.body(MetadataBody).metadata
    return Reply({"metadata": _change(call, lambda old: {**old, **given})})


def replace(call: Call) -> Reply:
    given = call.body(MetadataBody).metadata
    return Reply({"metadata": _change(call, lambda old: given)})


def put_item(call: Call) -> Reply:
    given, key = call.body(ItemBody).meta, call.params["key"]
    if key not in given:
        raise errors.BadRequest("Request body and URI mismatch")
    _change(call, lambda old: {**old, key: given[key]})
    return Reply({"meta": given})


def delete_item(call: Call) -> Reply:
    key = call.params["key"]

    def without(old: Mapping[str, str]) -> Mapping[str, str]:
        if key not in old:
            raise errors.NotFound("Invalid metadata key")
        return {name: value for name, value in old.items() if name != key}

    _change(call, without)
    return Reply()


def _change(call: Call, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Mapping[str, str]:
    """Change the image's own properties; answers what they are then. Raises Forbidden when there are too many."""

    def work(tx: Tx) -> Mapping[str, str]:
        image = _find(call, tx, "modify_image")
        new = dict(change(image.extras.properties))
        servers.check_metadata(tx, call.cloud, call.who.project_id or "", new)
        actions.replace_extras(tx, image, image.extras.tags, new)
        actions.change(tx, image.row.id)
        notifications.tell(tx, image.row.id, notifications.UPDATE)
        return new

    return call.cloud.database.write(work)  # type: ignore[no-any-return]


_ALL, _ONE, _METADATA = "/v2.1/images", "/v2.1/images/{image}", "/v2.1/images/{image}/metadata"
_UNTIL, _METADATA_UNTIL = Version(2, 35), Version(2, 38)

ROUTES = (
    Route("GET", _ALL, index, "get_images", until=_UNTIL),
    Route("GET", _ALL + "/detail", detail, "get_images", until=_UNTIL),
    Route("DELETE", _ALL, delete_none, "delete_image", 204, until=_UNTIL),
    Route("GET", _ONE, show, "get_image", target="later", until=_UNTIL),
    Route("DELETE", _ONE, delete, "delete_image", 204, target="later", until=_UNTIL),
    Route("GET", _METADATA, metadata, "get_image", target="later", until=_METADATA_UNTIL),
    Route("POST", _METADATA, merge, "modify_image", target="later", until=_METADATA_UNTIL),
    Route("PUT", _METADATA, replace, "modify_image", target="later", until=_METADATA_UNTIL),
    Route("GET", _METADATA + "/{key}", show_item, "get_image", target="later", until=_METADATA_UNTIL),
    Route("PUT", _METADATA + "/{key}", put_item, "modify_image", target="later", until=_METADATA_UNTIL),
    Route("DELETE", _METADATA + "/{key}", delete_item, "modify_image", 204, target="later", until=_METADATA_UNTIL),
)
