"""What the image service keeps in memory: its store, the key of its links, and the count of transfers."""

from __future__ import annotations

from typing import NamedTuple

from nephos.image.links import Key
from nephos.image.transfers import Transfers
from nephos.kernel.cloud import Cloud
from nephos.storage.base import ImageStore


class Parts(NamedTuple):
    store: ImageStore
    key: Key
    transfers: Transfers


def parts(cloud: Cloud) -> Parts:
    found: Parts = cloud.parts["image"]
    return found
