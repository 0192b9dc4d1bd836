"""What an image store does: keep bytes under a name, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol


class Writer(Protocol):
    """Bytes on their way in. Nothing is there under the name before `finish`, everything is durable after it.

    All raise TooLarge when the store is full and Unavailable when it cannot be written.
    """

    def write(self, block: bytes) -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None:
        """Leave nothing behind; after `finish` it does nothing."""
        ...


class ImageStore(Protocol):
    """Names are of letters, digits, hyphens and dots; they are ids, never what a user typed."""

    name: str

    def create(self, name: str) -> Writer:
        """Raises Conflict when bytes of this name are on their way already."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Raises NotFound."""
        ...

    def path(self, name: str) -> Path:
        """The file that holds the bytes, to be read only. Raises NotFound."""
        ...

    def rename(self, name: str, other: str) -> None:
        """Raises NotFound. What was under the other name is gone."""
        ...

    def delete(self, name: str) -> None:
        """A name that is not there is no error."""
        ...

    def names(self) -> set[str]:
        """Everything that is there whole."""
        ...

    def sweep(self) -> list[str]:
        """Remove what a crash left half written; answers what it was. To be called when nobody writes."""
        ...

    def free(self) -> int:
        """Bytes that still fit."""
        ...
