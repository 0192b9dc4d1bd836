"""Members of an image over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from nephos import errors
from nephos.image.images import actions as images
from nephos.image.images.actions import Image
from nephos.image.images.api import permit
from nephos.image.members import actions
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


class NewMember(msgspec.Struct):
    member: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class MemberStatus(msgspec.Struct):
    status: Literal["pending", "accepted", "rejected"]


def _show(row: Any) -> dict[str, Any]:
    return {
        "member_id": row.member_id,
        "image_id": row.image_id,
        "status": row.status,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "schema": "/v2/schemas/member",
    }


def _image(tx: Tx, call: Call) -> Image:
    """The image of the URL. Raises NotFound, and Forbidden for one that is not shared."""
    image = images.find(tx, call.who, call.params["image_id"])
    if image.row.visibility != "shared":
        raise errors.Forbidden("Only shared images have members.")
    return image


def _target(call: Call, image: Image) -> dict[str, Any]:
    """As policy target, with the member that the URL names where it is the caller."""
    found = image.target(call.who)
    if call.params.get("member_id", call.who.project_id) != call.who.project_id:
        found.pop("member_id", None)
    return found


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        image = _image(tx, call)
        rows = actions.members_of(tx, image, call.who)
    permit(call, image, "get_members")
    return Reply({"members": [_show(row) for row in rows], "schema": "/v2/schemas/members"})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        try:
            image = _image(tx, call)
        except errors.Forbidden as hidden:
            raise errors.NotFound(hidden.message) from hidden
        row = actions.get(tx, image, call.params["member_id"], call.who)
    permit(call, image, "get_member")
    return Reply(_show(row))


def create(call: Call) -> Reply:
    wanted = call.body(NewMember)
    with call.cloud.database.read() as tx:
        image = _image(tx, call)
    permit(call, image, "add_member")
    return Reply(_show(call.cloud.database.write(lambda tx: actions.add(tx, _image(tx, call), wanted.member))))


def update(call: Call) -> Reply:
    wanted = call.body(MemberStatus)
    member_id = call.params["member_id"]
    with call.cloud.database.read() as tx:
        image = _image(tx, call)
        actions.get(tx, image, member_id, call.who)
    call.permit(_target(call, image))
    changed = call.cloud.database.write(lambda tx: actions.answer(tx, _image(tx, call), member_id, wanted.status))
    return Reply(_show(changed))


def remove(call: Call) -> Reply:
    member_id = call.params["member_id"]
    with call.cloud.database.read() as tx:
        image = _image(tx, call)
    permit(call, image, "delete_member")
    call.cloud.database.write(lambda tx: actions.remove(tx, _image(tx, call), member_id))
    return Reply()


_ALL = "/v2/images/{image_id}/members"
_ONE = _ALL + "/{member_id}"
ROUTES = (
    Route("GET", _ALL, index, "get_members", target="later"),
    Route("POST", _ALL, create, "add_member", target="later"),
    Route("GET", _ONE, show, "get_member", target="later"),
    Route("PUT", _ONE, update, "modify_member", target="later"),
    Route("DELETE", _ONE, remove, "delete_member", 204, target="later"),
)
