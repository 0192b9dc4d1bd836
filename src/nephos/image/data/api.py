"""An image's bytes over HTTP: upload, download, staging."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

from nephos import errors
from nephos.image.data import actions, receive
from nephos.image.data.receive import Incoming
from nephos.image.images import actions as images
from nephos.image.images.actions import Image
from nephos.image.images.api import permit, seen
from nephos.image.parts import Parts, parts
from nephos.image.transfers import Transfer
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)


def upload(call: Call) -> Reply:
    """The bytes become the image's, whole or not at all."""

    def take(incoming: Incoming) -> None:
        _check_type(call)
        image = seen(call, "upload_image")
        part = parts(call.cloud)
        wanted = call.header("X-Image-Meta-Store")
        if wanted is not None and wanted != part.store.name:
            raise errors.BadRequest(f"Store for identifier {wanted} not found")
        size = _told_size(call)
        _check_room(part, size)
        name = image.row.id
        upload_id = _begin(call, image, images.SAVING)
        try:
            blocks = receive.capped(incoming.blocks(), size)
            received = receive.take(part.store, name, blocks, image.row.disk_format, image.row.container_format)
            incoming.finish()
            kept = call.cloud.database.write(lambda tx: actions.saved(tx, image.row.id, upload_id, name, received))
        except BaseException:
            _forget(call, image, upload_id, name)
            raise
        if not kept:
            part.store.delete(name)
            raise _gone(image)

    return _incoming(call, take)


def stage(call: Call) -> Reply:
    """The bytes wait beside the store until they are imported."""

    def take(incoming: Incoming) -> None:
        _check_type(call)
        image = seen(call, "modify_image")
        part = parts(call.cloud)
        size = _told_size(call)
        _check_room(part, size)
        name = image.row.id + actions.STAGED
        upload_id = _begin(call, image, images.UPLOADING)
        try:
            count = receive.keep(part.store, name, receive.capped(incoming.blocks(), size))
            incoming.finish()
            kept = call.cloud.database.write(lambda tx: actions.staged(tx, image.row.id, upload_id, name, count))
        except BaseException:
            _forget(call, image, upload_id, name)
            raise
        if not kept:
            part.store.delete(name)
            raise _gone(image)

    return _incoming(call, take)


def _incoming(call: Call, take: Callable[[Incoming], None]) -> Reply:
    """Run `take` with the request's body, in one of the places for transfers; read what it refused to read."""
    environ = call.environ
    incoming = Incoming(call.stream, _length(environ.get("CONTENT_LENGTH") or None), int(environ["SERVER_PORT"]))
    with parts(call.cloud).transfers.begin():
        try:
            take(incoming)
        except errors.NephosError:
            incoming.drain()
            raise
    return Reply()


def _forget(call: Call, image: Image, upload_id: str, name: str) -> None:
    parts(call.cloud).store.delete(name)
    call.cloud.database.write(lambda tx: actions.give_up(tx, image.row.id, upload_id))


def _begin(call: Call, image: Image, status: str) -> str:
    upload_id = clock.uuid4()

    def work(tx: Tx) -> None:
        actions.begin(tx, images.find(tx, call.who, image.row.id), upload_id, status)

    call.cloud.database.write(work)
    return upload_id


def _gone(image: Image) -> errors.Gone:
    return errors.Gone(
        f"Image {image.row.id} could not be found after upload. The image may have been deleted during the upload, "
        "cleaning up the chunks uploaded."
    )


def _check_type(call: Call) -> None:
    kind = call.environ.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
    if kind != "application/octet-stream":
        raise errors.UnsupportedMedia(
            f"An image's bytes are sent as application/octet-stream, not {kind or 'nothing'}."
        )


def _length(text: str | None) -> int | None:
    """Raises BadRequest for what is no length."""
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise errors.BadRequest("Invalid or missing image size in request headers.")
    return None if text is None else int(text)


def _told_size(call: Call) -> int | None:
    """How large the image is said to be; None when nobody says. Raises BadRequest."""
    told = _length(call.header("X-OpenStack-Image-Size"))
    return _length(call.environ.get("CONTENT_LENGTH") or None) if told is None else told


def _check_room(part: Parts, size: int | None) -> None:
    if size is not None and size > part.store.free():
        raise errors.TooLarge(f"The image store has no room for {size} bytes.")


def download(call: Call) -> Reply:
    """The bytes or a range of them (RFC 9110); 204 while the image has none."""
    with call.cloud.database.read() as tx:
        image = images.find(tx, call.who, call.params["image_id"])
    permit(call, image)
    row = image.row
    if row.status == images.DEACTIVATED and not images.is_admin(call.who):
        raise errors.Forbidden("The requested image has been deactivated. Image data download is forbidden.")
    permit(call, image, "download_image")
    if row.status not in (images.ACTIVE, images.DEACTIVATED):
        return Reply(status=204)
    part = parts(call.cloud)
    first, last = _range(call.header("Range"), row.size)
    transfer = part.transfers.begin()
    try:
        file = part.store.open(row.bytes_name)
        file.seek(first)
    except BaseException:
        transfer.end()
        raise
    count = last - first + 1
    headers = {"Content-Length": str(count), "Accept-Ranges": "bytes"}
    if count == row.size:
        headers["Content-MD5"] = row.checksum
    if call.header("Range"):
        headers["Content-Range"] = f"bytes {first}-{last}/{row.size}"
    return Reply(
        status=206 if call.header("Range") else 200,
        headers=headers,
        content_type="application/octet-stream",
        stream=Body(file, count, transfer),
    )


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First and last byte that are wanted. Raises RangeNotSatisfiable."""
    if not header:
        return 0, size - 1
    found = _RANGE.fullmatch(header)
    if found is None or not (found[1] or found[2]) or len(found[1]) > 18 or len(found[2]) > 18:
        raise _unsatisfiable(header, size)
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(int(found[2]), size - 1) if found[2] else size - 1
    if first > last:
        raise _unsatisfiable(header, size)
    return first, last


def _unsatisfiable(header: str, size: int) -> errors.NephosError:
    wrong = errors.BadRequest(
        f"Invalid range {header!r} for an image of {size} bytes.",
        detail={"headers": {"Content-Range": f"bytes */{size}"}},
    )
    wrong.status = 416
    return wrong


class Body:
    """The bytes of a download, with the place among the transfers that it takes until it is closed."""

    def __init__(self, file: BinaryIO, count: int, transfer: Transfer) -> None:
        self._file, self._left, self._transfer = file, count, transfer

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        block = self._file.read(min(receive.BLOCK, self._left)) if self._left > 0 else b""
        if not block:
            self.close()
            raise StopIteration
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._file.close()
        self._transfer.end()


_ONE = "/v2/images/{image_id}"
ROUTES = (
    Route("PUT", _ONE + "/file", upload, "upload_image", 204, target="later", streams=True),
    Route("GET", _ONE + "/file", download, "download_image", target="later"),
    Route("PUT", _ONE + "/stage", stage, "modify_image", 204, target="later", streams=True),
)
