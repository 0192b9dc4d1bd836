"""The import as an operation: one step, done outside of any transaction, safe to do again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from nephos import errors
from nephos.image.data import actions as data
from nephos.image.data import receive
from nephos.image.images import actions as images
from nephos.image.imports import actions
from nephos.image.parts import parts
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Outside, Step
from nephos.storage.base import ImageStore

_SLOWEST = 20_000_000
"""Bytes a second that hashing and reading are counted on to do, for the lease."""


def kind(cloud: Cloud) -> Kind:
    """The kind `image.import`: inspect and hash what was staged, give it its name in the store."""
    store = parts(cloud).store

    def save(tx: Tx, operation: Operation) -> Outcome:
        image = images.images_of(tx, [operation.noun_id]).get(operation.noun_id)
        if image is None:
            raise errors.NotFound(f"Image {operation.noun_id} was deleted.")
        row = image.row
        return Outside(
            lambda: msgspec.to_builtins(_store(store, row.id, row.disk_format, row.container_format)),
            lease=60 + (row.size or 0) / _SLOWEST,
        )

    def saved(tx: Tx, operation: Operation, result: object) -> None:
        image_id = operation.noun_id
        if not data.imported(tx, image_id, image_id, msgspec.convert(result, receive.Received)):
            tx.after_commit(lambda: store.delete(image_id))

    def failed(tx: Tx, operation: Operation, why: errors.NephosError) -> None:
        if images.images_of(tx, [operation.noun_id]):
            data.not_imported(tx, operation.noun_id)
            actions.remember_failure(tx, operation.noun_id, store.name)
        tx.after_commit(lambda: store.delete(operation.noun_id + data.STAGED))

    return Kind(actions.KIND, "import", (Step("save", save, saved),), deadline=6 * 3600, failed=failed)


def _store(store: ImageStore, image_id: str, disk_format: str, container_format: str) -> receive.Received:
    """Look at the staged bytes and rename them. When that was done before a crash, they have their name already."""
    staged = image_id + data.STAGED
    try:
        file, name = store.open(staged), staged
    except errors.NotFound:
        file, name = store.open(image_id), image_id
    try:
        with file:
            received = receive.look(_blocks(file), disk_format, container_format)
    except errors.NephosError:
        store.delete(name)
        raise
    if name == staged:
        store.rename(staged, image_id)
    return received


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(receive.BLOCK):
        yield block
