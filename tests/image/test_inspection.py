"""Hostile and mistaken images, as small as they can be."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from nephos import errors
from nephos.image.inspection import Inspection

GIB = 1 << 30


def qcow2(*, backing: bytes = b"", incompatible: int = 0, size: int = GIB) -> bytes:
    """A qcow2 header, version 3, one cluster long."""
    at, length = (512, len(backing)) if backing else (0, 0)
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, at, length, 16, size, 0, 1, 196608, 65536, 1, 0, 0, incompatible, 0, 0, 4, 104),
    )
    return (head.ljust(512, b"\0") + backing).ljust(65536 * 3, b"\0")


def mbr() -> bytes:
    entry = struct.pack("<B3sB3sII", 0x80, b"\x20\x21\x00", 0x83, b"\xfe\xff\xff", 2048, 4096)
    return (bytes(446) + entry + bytes(48) + b"\x55\xaa").ljust(1 << 20, b"\0")


def judge(data: bytes, disk_format: str, container_format: str = "bare") -> int | None:
    def blocks() -> Iterator[bytes]:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    inspection = Inspection(blocks(), disk_format, container_format)
    assert b"".join(inspection.blocks()) == data
    return inspection.virtual_size()


def test_sizes() -> None:
    assert judge(qcow2(), "qcow2") == GIB
    assert judge(b"anything" * 100, "raw") == 800
    assert judge(b"", "raw") == 0
    assert judge(b"kernel" * 1000, "aki", "aki") is None
    assert judge(b"kernel" * 1000, "ari", "ari") is None
    assert judge(b"\x1f\x8b" + bytes(2000), "qcow2", "compressed") is None


def test_a_raw_disk_may_hold_partitions() -> None:
    assert judge(mbr(), "raw") == 1 << 20


@pytest.mark.parametrize("claimed", ["qcow2", "raw", "vmdk", "aki"])
@pytest.mark.parametrize("container", ["bare", "ovf"])
def test_a_backing_file_is_refused_whatever_is_claimed(claimed: str, container: str) -> None:
    with pytest.raises(errors.UnsupportedMedia, match="backing_file: Image has a backing file"):
        judge(qcow2(backing=b"/etc/passwd"), claimed, container)


def test_a_data_file_is_refused() -> None:
    with pytest.raises(errors.UnsupportedMedia, match="data_file"):
        judge(qcow2(incompatible=4), "qcow2")


def test_features_that_nobody_knows_are_refused() -> None:
    with pytest.raises(errors.UnsupportedMedia, match="unknown_features"):
        judge(qcow2(incompatible=1 << 40), "qcow2")


@pytest.mark.parametrize(
    ("data", "claimed", "found"),
    [
        (qcow2(), "raw", "qcow2"),
        (qcow2(), "vmdk", "qcow2"),
        (qcow2(), "aki", "qcow2"),
        (b"text" * 300, "qcow2", "raw"),
        (b"text" * 300, "iso", "raw"),
        (b"text" * 300, "vhd", "raw"),
        (qcow2()[:60], "qcow2", "raw"),
    ],
)
def test_what_is_not_as_claimed_is_refused(data: bytes, claimed: str, found: str) -> None:
    with pytest.raises(errors.UnsupportedMedia, match=f"{claimed} does not match stream data: the content is {found}"):
        judge(data, claimed)


def test_two_formats_at_once_are_refused() -> None:
    iso = bytearray(qcow2(size=GIB))
    iso[0x8000:0x8006] = b"\x01CD001"
    with pytest.raises(errors.UnsupportedMedia, match="more than one format"):
        judge(bytes(iso), "qcow2")
