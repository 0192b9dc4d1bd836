"""The bodies of the actions `createImage` and `createBackup`."""

from __future__ import annotations

from msgspec import field

from nephos.compute.wire import Metadata, Name, Strict, Whole


class NewImage(Strict):
    name: Name
    metadata: Metadata = {}


class CreateImage(Strict):
    image: NewImage = field(name="createImage")


class NewBackup(Strict):
    """`rotation` is how many backups of the type the server keeps."""

    name: Name
    backup_type: str
    rotation: Whole
    metadata: Metadata = {}


class CreateBackup(Strict):
    backup: NewBackup = field(name="createBackup")
