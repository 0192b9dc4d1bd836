"""The image service: its routes, and what it adds to the cloud."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from nephos.image.data import actions as data
from nephos.image.data import api as data_api
from nephos.image.discovery import api as discovery_api
from nephos.image.images import actions as images
from nephos.image.images import api as images_api
from nephos.image.imports import actions as imports
from nephos.image.imports import api as imports_api
from nephos.image.imports import steps
from nephos.image.links import Key
from nephos.image.members import api as members_api
from nephos.image.metadefs import api as metadefs_api
from nephos.image.parts import Parts, parts
from nephos.image.transfers import Transfers
from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service
from nephos.storage.file import FileStore

log = logging.getLogger(__name__)

SERVICE = Service(
    name="image",
    prefixes=("/image",),
    routes=(
        *discovery_api.ROUTES,
        *images_api.ROUTES,
        *data_api.ROUTES,
        *members_api.ROUTES,
        *imports_api.ROUTES,
        *metadefs_api.ROUTES,
    ),
    dialect=faults.image,
)


def compose(cloud: Cloud) -> None:
    """Put the image store, the links' key and the count of transfers into the cloud; register the import."""
    directory = cloud.settings.server_dir
    cloud.parts["image"] = Parts(FileStore(directory / "images"), Key(directory / "image-links.key"), Transfers())
    cloud.operations.register([steps.kind(cloud)])
    cloud.sweeps += [images.sweep, imports.sweep]


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """No image comes with a new cloud. What uploads and deletes of an earlier life left half done is put right here:
    the one server that writes to this store is just starting, so nobody is at it."""
    store = parts(cloud).store
    lost = cloud.database.write(data.forget_uploads)
    with cloud.database.read() as tx:
        owned = data.names(tx)
    left = store.sweep()
    for name in sorted(store.names() - owned):
        if name + data.STAGED in owned:
            continue  # an import had renamed the staged bytes; the operation goes on from there
        store.delete(name)
        left.append(name)
    if lost or left:
        log.warning("%d uploads had broken off; removed %s", lost, ", ".join(left) or "nothing")
