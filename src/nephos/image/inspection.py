"""Looks into an image while its bytes pass by, before anything ever opens the file.

A disk image names other files (a qcow2's backing or data file, a VMDK's extents), and a guest's root disk that is
opened as a format that its owner did not say would read them from the host. So the content must be of the claimed
format and must name nothing outside (OSSA-2024-001, OSSA-2024-002).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nephos import errors

if TYPE_CHECKING:
    from oslo_utils.imageutils.format_inspector import FileInspector

_WRAPPERS = frozenset(("ovf", "ova", "docker", "compressed"))
_SAME_BYTES = frozenset(("gpt", "iso", "luks"))
"""What a raw disk may well hold: partitions, a bootable ISO, an encrypted volume. Opened as raw it is what it is."""

_BOOT_FILES = frozenset(("aki", "ari"))
"""Handed to the hypervisor's loader, never opened as a disk. A kernel begins with a boot sector, which looks like the
start of a partition table."""


def _inspectors() -> Any:
    """oslo.utils' module, imported when the first image comes: it costs 8 MB and 50 ms."""
    from oslo_utils.imageutils import format_inspector

    return format_inspector


class Inspection:
    """`blocks()` passes the bytes on; `virtual_size()` judges them when all have passed."""

    def __init__(self, blocks: Iterable[bytes], disk_format: str, container_format: str) -> None:
        self._claimed = disk_format
        self._wrapped = container_format in _WRAPPERS
        source: Any = iter(blocks)
        self._inspect = _inspectors().InspectWrapper(source)

    def blocks(self) -> Iterator[bytes]:
        return iter(self._inspect)

    def virtual_size(self) -> int | None:
        """What a guest would see as the disk's size in bytes; None where the format does not tell.

        Raises UnsupportedMedia with the reason when the content is not what was claimed, or is not safe to open.
        """
        found = self._found()
        name = str(found)
        if name == "gpt" and self._claimed in _BOOT_FILES:
            return None
        if name != "raw":
            self._check_safe(found, name)
        if self._wrapped:
            return None
        if name == self._claimed or (self._claimed == "raw" and name in _SAME_BYTES):
            size: int = found.virtual_size if name == self._claimed else found.actual_size
            return size
        if name == "raw" and self._claimed not in _inspectors().ALL_FORMATS:
            return None
        raise errors.UnsupportedMedia(
            f"Image disk_format {self._claimed} does not match stream data: the content is {name}."
        )

    def _found(self) -> FileInspector:
        by_name: dict[str, FileInspector] = {str(each): each for each in self._inspect.formats or ()}
        if by_name.keys() == {"iso", "gpt"}:
            return by_name["iso"]
        if len(by_name) != 1:
            names = ", ".join(sorted(by_name)) or "none"
            raise errors.UnsupportedMedia(f"Image content matches more than one format or none: {names}.")
        return next(iter(by_name.values()))

    def _check_safe(self, found: FileInspector, name: str) -> None:
        inspectors = _inspectors()
        try:
            found.safety_check()
        except inspectors.SafetyCheckFailed as unsafe:
            reasons = "; ".join(f"{check}: {reason}" for check, reason in sorted(unsafe.failures.items()))
            raise errors.UnsupportedMedia(f"Image failed safety checks of {name}: {reasons}.") from unsafe
        except inspectors.ImageFormatError as wrong:
            raise errors.UnsupportedMedia(f"Image of format {name} cannot be checked: {wrong}") from wrong
