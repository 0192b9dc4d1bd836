"""Kernel modules: which others each needs, and in which order to load them.

The dependency list is read from the modules themselves, so no depmod is needed here and no modprobe in the guest:
the guest loads what a ready-made list says.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

from nephos.errors import HostFault

SIGNATURE_MARK = b"~Module signature appended~\n"
SIGNATURE_INFO = 12
"""Bytes of the structure before the mark; its last four are the signature's length, big-endian."""

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def name_of(path: Path) -> str:
    """The kernel's name of a module: hyphens are underscores."""
    return path.name.removesuffix(".ko").replace("-", "_")


def unsigned(module: bytes) -> bytes:
    """A module without its signature: checking RSA signatures under emulation costs more than the module does."""
    if not module.endswith(SIGNATURE_MARK):
        return module
    end = len(module) - len(SIGNATURE_MARK)
    (length,) = struct.unpack(">I", module[end - 4 : end])
    return module[: end - SIGNATURE_INFO - length]


class ModuleTree:
    """The modules below `folder` (lib/modules/VERSION)."""

    def __init__(self, folder: Path) -> None:
        self._paths = {name_of(path): path for path in folder.rglob("*.ko")}

    def order(self, name: str) -> list[Path]:
        """The modules to load for `name`, itself last. Raises `HostFault` when one does not exist."""
        ordered: list[Path] = []
        self._visit(name.replace("-", "_"), ordered)
        return ordered

    def _visit(self, name: str, ordered: list[Path]) -> None:
        path = self._paths.get(name)
        if path is None:
            raise HostFault(f"The guest kernel's package has no module {name}.")
        if path in ordered:
            return
        found = _DEPENDS.search(path.read_bytes())
        for needed in found.group(1).decode().split(",") if found else []:
            if needed:
                self._visit(needed.replace("-", "_"), ordered)
        ordered.append(path)


def install(tree: ModuleTree, names: Iterable[str], folder: Path) -> None:
    """Copies the modules for `names` into `folder` and writes folder/order/NAME, a "name:file" for each to load."""
    (folder / "order").mkdir(parents=True, exist_ok=True)
    for name in names:
        order = tree.order(name)
        for path in order:
            (folder / path.name).write_bytes(unsigned(path.read_bytes()))
        words = " ".join(f"{name_of(path)}:{path.name}" for path in order)
        (folder / "order" / name).write_text(words + "\n", encoding="utf-8")
