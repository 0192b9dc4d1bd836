"""The image service accepts what the builder makes, as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nephos import errors, guestimage
from nephos.doctor.acceleration import GUEST_FOLDER
from nephos.image.inspection import Inspection

pytestmark = pytest.mark.host


def inspect(path: Path, disk_format: str, container_format: str) -> int | None:
    with path.open("rb") as file:
        inspection = Inspection(iter(lambda: file.read(65536), b""), disk_format, container_format)
        for _ in inspection.blocks():
            pass
    return inspection.virtual_size()


def test_each_file_is_taken_for_what_it_is() -> None:
    image = guestimage.build(GUEST_FOLDER)
    assert inspect(image.kernel, "aki", "aki") is None
    assert inspect(image.ramdisk, "ari", "ari") is None
    assert inspect(image.root, "raw", "bare") == image.root.stat().st_size
    assert inspect(image.qcow2, "qcow2", "bare") == guestimage.DEFAULT_SIZE_MB << 20


def test_a_disk_is_still_no_kernel_and_a_kernel_no_disk() -> None:
    image = guestimage.build(GUEST_FOLDER)
    with pytest.raises(errors.UnsupportedMedia):
        inspect(image.qcow2, "aki", "aki")
    with pytest.raises(errors.UnsupportedMedia):
        inspect(image.kernel, "qcow2", "bare")
