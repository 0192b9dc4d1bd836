"""The image cache: once, whole, verified, and nothing that could name another file of the host."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from nephos.agent import images
from nephos.agent.images import BLOCK, ImageCache
from nephos.errors import HostFault
from nephos.hypervisor.base import ImageFile

ID = "0b3e9d3c-5f7a-4a3e-9a52-7d5f4a0e1c11"


class Source:
    """An image as the server holds it. Counts what is asked for; fails once at `fail_at` if set."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.fail_at: int | None = None
        self.slow = 0.0

    def read(self, offset: int, length: int) -> bytes:
        time.sleep(self.slow)
        self.asked.append((offset, length))
        if self.fail_at is not None and offset >= self.fail_at:
            self.fail_at = None
            raise HostFault("the connection broke")
        return self.content[offset : offset + length]

    def get(self, cache: ImageCache, format: str = "raw", image_id: str = ID, **given: str) -> ImageFile:
        return cache.get(
            image_id,
            size=len(self.content),
            format=format,
            read_range=self.read,
            **(given or {"sha256": hashlib.sha256(self.content).hexdigest()}),
        )


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "images")


@pytest.fixture
def source() -> Source:
    return Source(os.urandom(1024) * (2 * BLOCK // 1024) + b"the end")


def files(cache: ImageCache) -> list[str]:
    return sorted(path.name for path in cache._directory.iterdir())


def qcow2(folder: Path, *options: str) -> bytes:
    path = folder / "made.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "16M"], check=True)
    return path.read_bytes()


def test_an_image_is_downloaded_once_and_is_roots(cache: ImageCache, source: Source) -> None:
    file = source.get(cache)
    assert file.path.read_bytes() == source.content
    assert file.format == "raw"
    assert [offset for offset, _ in source.asked] == [0, BLOCK, 2 * BLOCK]
    status = file.path.stat()
    assert status.st_uid == os.getuid()
    assert status.st_mode & 0o222 == 0, "nobody writes to it"
    assert source.get(cache) == file
    assert source.get(ImageCache(cache._directory)) == file
    assert len(source.asked) == 3


def test_those_who_ask_at_once_share_one_download(cache: ImageCache, source: Source) -> None:
    source.slow = 0.02
    got: list[ImageFile] = []
    threads = [threading.Thread(target=lambda: got.append(source.get(cache))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 8
    assert len({file.path for file in got}) == 1
    assert len(source.asked) == 3


def test_a_download_goes_on_where_it_stopped(cache: ImageCache, source: Source) -> None:
    source.fail_at = 2 * BLOCK
    with pytest.raises(HostFault, match="the connection broke"):
        source.get(cache)
    source.asked.clear()
    assert source.get(cache).path.read_bytes() == source.content
    assert [offset for offset, _ in source.asked] == [2 * BLOCK]


def test_a_damaged_rest_of_an_earlier_run_is_fetched_anew(cache: ImageCache, source: Source) -> None:
    source.fail_at = 2 * BLOCK
    with pytest.raises(HostFault):
        source.get(cache)
    (part,) = cache._directory.iterdir()
    with part.open("r+b") as handle:
        handle.write(b"\0" * 4096)
    assert source.get(cache).path.read_bytes() == source.content


def test_other_bytes_than_promised_are_refused(cache: ImageCache, source: Source) -> None:
    with pytest.raises(HostFault, match=f"image {ID} was damaged on its way"):
        source.get(cache, sha256="0" * 64)
    assert files(cache) == []
    short = Source(source.content)
    short.read = lambda offset, length: source.content[offset : offset + length][: 2 * BLOCK - offset]  # type: ignore[method-assign]
    with pytest.raises(HostFault, match=f"ended after {2 * BLOCK} of {len(source.content)} bytes"):
        short.get(cache)


def test_sha512_is_taken_as_well(cache: ImageCache, source: Source) -> None:
    file = source.get(cache, os_hash_value=hashlib.sha512(source.content).hexdigest())
    assert file.path.read_bytes() == source.content


def test_a_plain_qcow2_is_kept_as_it_is(cache: ImageCache, tmp_path: Path) -> None:
    file = Source(qcow2(tmp_path)).get(cache, "qcow2")
    assert file.format == "qcow2"
    assert file.path.suffix == ".qcow2"


@pytest.mark.parametrize(
    ("format", "options", "why"),
    [
        ("qcow2", ["-b", "/etc/shadow", "-F", "raw", "-u"], "backing"),
        ("qcow2", ["-o", "data_file={folder}/data"], "data_file"),
        ("raw", [], "was said to be raw, its content is qcow2"),
        ("ami", [], "was said to be ami, its content is qcow2"),
        ("iso", [], "was said to be iso, its content is qcow2"),
    ],
)
def test_a_qcow2_that_names_files_or_hides_is_refused(
    cache: ImageCache, tmp_path: Path, format: str, options: list[str], why: str
) -> None:
    content = qcow2(tmp_path, *[option.format(folder=tmp_path) for option in options])
    with pytest.raises(HostFault, match=why):
        Source(content).get(cache, format)
    assert files(cache) == []


def test_a_vmdk_descriptor_is_refused_under_any_name(cache: ImageCache) -> None:
    descriptor = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 20480 FLAT "/etc/shadow" 0\n'
    content = descriptor + b"\0" * (1024 * 1024)
    for format in ("raw", "qcow2"):
        with pytest.raises(HostFault, match="its content is a vmdk descriptor"):
            Source(content).get(cache, format)
    with pytest.raises(HostFault, match="'vmdk', which hosts do not open"):
        Source(content).get(cache, "vmdk")


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "a/b", "", ".", "x" * 65])
def test_an_id_cannot_name_a_path(cache: ImageCache, source: Source, image_id: str) -> None:
    with pytest.raises(HostFault):
        source.get(cache, image_id=image_id)
    with pytest.raises(HostFault):
        source.get(cache, sha256="../" + "0" * 61)
    assert source.asked == []


def test_room_is_made_from_what_nobody_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.ImageCache, "grace", 100.0)
    cache = ImageCache(tmp_path / "images", limit=2500)
    sources = [Source(bytes([number]) * 1000) for number in range(4)]
    kept = [each.get(cache).path for each in sources[:3]]
    for age, path in enumerate(reversed(kept), 2):
        os.utime(path, (time.time() - 1000 * age,) * 2)
    used, old, newer = kept
    os.link(used, tmp_path / "a guest's link")
    sources[3].get(cache)
    assert used.exists(), "a guest uses it"
    assert not old.exists(), "the longest unused goes first"
    assert newer.exists(), "then there was room"
    young = [each.get(cache).path for each in sources]
    cache.trim(10**6)
    assert all(path.exists() for path in young), "what was just asked for is about to be used"
