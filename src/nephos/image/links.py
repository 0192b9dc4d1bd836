"""Links by which a host fetches an image's bytes: signed, short-lived, good for one image, one task and one host."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

import msgspec

from nephos import errors
from nephos.image.images import store
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.storage.base import ImageStore

SECONDS = 3600
_MAC = 32


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    image_id: str
    task_id: str
    host_id: str
    until: int


class Key:
    """The secret that signs links: 32 bytes, made when first needed, readable by the server's user only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secret: bytes | None = None

    @property
    def secret(self) -> bytes:
        if self._secret is None:
            self._secret = self._load()
        return self._secret

    def _load(self) -> bytes:
        part = self._path.with_name(f"{self._path.name}.{clock.hex_id()}")
        if not self._path.exists():
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.touch(mode=0o600)
            part.write_bytes(clock.token_bytes(32))
            try:
                os.link(part, self._path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return self._path.read_bytes()


def link(cloud: Cloud, task_id: str, host_id: str, image_id: str) -> str:
    """A text safe in a URL's path that opens the image's bytes for an hour. Reads no row: fit for a unit of work."""
    until = clock.now_us() // 1_000_000 + SECONDS
    claim = msgspec.msgpack.encode(_Claim(image_id, task_id, host_id, until))
    return base64.urlsafe_b64encode(_sign(cloud, claim) + claim).decode().rstrip("=")


def open_link(cloud: Cloud, link: str, host_id: str | None = None) -> tuple[Path, int]:
    """Where the bytes are, to be read only, and how many.

    Raises Forbidden for a link that is not ours, is over, or is another host's than `host_id`; NotFound when the image
    is gone or has no bytes.
    """
    claim = _read(cloud, link)
    if claim.until * 1_000_000 < clock.now_us():
        raise errors.Forbidden("This image link is over: it is good for an hour.")
    if host_id is not None and not hmac.compare_digest(host_id.encode(), claim.host_id.encode()):
        raise errors.Forbidden("This image link is another host's.")
    with cloud.database.read() as tx:
        row = tx.first(store.by_id, {"id": claim.image_id})
    if row is None or row.bytes_name is None or row.status not in ("active", "deactivated"):
        raise errors.NotFound(f"Image {claim.image_id} has no bytes any more.")
    bytes_store: ImageStore = cloud.parts["image"].store
    return bytes_store.path(row.bytes_name), row.size


def _read(cloud: Cloud, link: str) -> _Claim:
    try:
        raw = base64.urlsafe_b64decode(link + "=" * (-len(link) % 4))
        claim = msgspec.msgpack.decode(raw[_MAC:], type=_Claim)
    except (ValueError, binascii.Error, msgspec.DecodeError) as wrong:
        raise errors.Forbidden("This is no image link of this cloud.") from wrong
    if not hmac.compare_digest(raw[:_MAC], _sign(cloud, raw[_MAC:])):
        raise errors.Forbidden("This is no image link of this cloud.")
    return claim


def _sign(cloud: Cloud, claim: bytes) -> bytes:
    key: Key = cloud.parts["image"].key
    return hmac.new(key.secret, b"nephos-image-link:" + claim, hashlib.sha256).digest()
