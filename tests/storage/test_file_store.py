"""The file store: whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from nephos import errors
from nephos.storage.base import ImageStore
from nephos.storage.file import FileStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return FileStore(tmp_path / "images")


def put(store: ImageStore, name: str, data: bytes) -> None:
    writer = store.create(name)
    writer.write(data)
    writer.finish()
    writer.abandon()


def test_bytes_are_there_only_when_finished(store: ImageStore, tmp_path: Path) -> None:
    writer = store.create("a")
    writer.write(b"one")
    writer.write(b"two")
    assert store.names() == set()
    with pytest.raises(errors.NotFound):
        store.open("a")
    writer.finish()
    with store.open("a") as file:
        assert file.read() == b"onetwo"
    assert store.path("a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700
    assert store.names() == {"a"}


def test_what_is_abandoned_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    writer = store.create("a")
    writer.write(b"half")
    with pytest.raises(errors.Conflict):
        store.create("a")
    writer.abandon()
    assert list((tmp_path / "images").iterdir()) == []
    put(store, "a", b"whole")


def test_a_crash_is_swept(store: ImageStore) -> None:
    put(store, "a", b"whole")
    store.create("b").write(b"half")
    assert store.sweep() == ["b.part"]
    assert store.sweep() == []
    put(store, "b", b"")
    assert store.names() == {"a", "b"}


def test_rename_and_delete(store: ImageStore) -> None:
    put(store, "a.staged", b"x")
    store.rename("a.staged", "a")
    assert store.names() == {"a"}
    with pytest.raises(errors.NotFound):
        store.rename("a.staged", "a")
    store.delete("a")
    store.delete("a")
    assert store.names() == set()


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "", ".a", "a/b", "a.part", "ä", "a" * 300])
def test_a_name_never_leaves_the_directory(store: ImageStore, name: str) -> None:
    for call in (store.create, store.open, store.path, store.delete):
        with pytest.raises(ValueError, match="no name"):
            call(name)


def test_a_full_store_says_so(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = store.create("a")

    class Full:
        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(writer, "_file", Full())
    with pytest.raises(errors.TooLarge, match="full"):
        writer.write(b"x")
    writer.abandon()
    assert store.names() == set()
    assert store.free() > 0
