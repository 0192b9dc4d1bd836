"""The image service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service

SERVICE = Service(name="image", prefixes=("/image",), routes=(), dialect=faults.image)


def compose(cloud: Cloud) -> None:
    """Register operations, desired items and notices."""


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with; again: nothing. `passwords` are those of the first users, by name."""
