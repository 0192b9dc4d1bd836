"""The image service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.image.links import Key
from nephos.image.parts import Parts
from nephos.image.transfers import Transfers
from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service
from nephos.storage.file import FileStore

SERVICE = Service(name="image", prefixes=("/image",), routes=(), dialect=faults.image)


def compose(cloud: Cloud) -> None:
    """Put the image store, the links' key and the count of transfers into the cloud."""
    directory = cloud.settings.server_dir
    cloud.parts["image"] = Parts(FileStore(directory / "images"), Key(directory / "image-links.key"), Transfers())


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with; again: nothing. `passwords` are those of the first users, by name."""
