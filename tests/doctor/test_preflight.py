"""The preflight names what is wrong, who holds it and what mends it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nephos.doctor import preflight


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are below a closed one."""
    folder = Path(tempfile.mkdtemp(prefix="nephos-preflight-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def listener(address: str, family: socket.AddressFamily = socket.AF_INET, port: int = 0) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen()
    return made


def test_a_taken_port_is_named_with_its_owner(open_folder: Path) -> None:
    with listener("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        (said,) = preflight.blocking(open_folder, ports=(port,), guests=False)
    name = Path("/proc/self/comm").read_text().strip()
    assert f"127.0.0.1:{port} is held by {name} (pid {os.getpid()})" in said
    assert "--listen" in said
    assert preflight.blocking(open_folder, ports=(port,), guests=False) == []


@pytest.mark.parametrize(
    ("family", "theirs", "mine", "clash"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
        (socket.AF_INET, "127.0.0.1", "0.0.0.0", True),
        (socket.AF_INET, "127.0.0.2", "127.0.0.1", False),
        (socket.AF_INET6, "::1", "127.0.0.1", False),
        (socket.AF_INET6, "::1", "::1", True),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_only_addresses_that_meet_clash(family: socket.AddressFamily, theirs: str, mine: str, clash: bool) -> None:
    with listener(theirs, family) as taken:
        port = taken.getsockname()[1]
        assert bool(preflight.ports.conflicts(mine, [port])) is clash


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask as another user")
def test_a_directory_that_the_user_cannot_enter_is_named(open_folder: Path) -> None:
    closed = open_folder / "closed"
    state = closed / "deeper" / "state"
    (closed / "deeper").mkdir(parents=True)
    nobody = pwd.getpwnam("nobody")
    assert preflight.closed_directory(state, nobody) is None
    closed.chmod(0o700)
    assert preflight.closed_directory(state, nobody) == closed
    assert preflight.closed_directory(state, pwd.getpwnam("root")) is None
    if preflight.SERVER_USER in {each.pw_name for each in pwd.getpwall()}:
        said = "\n".join(preflight.blocking(state, ports=(), guests=False))
        assert f"nephos cannot enter the directory {closed}," in said
        assert "--state" in said


def test_a_missing_user_and_a_missing_tool_say_how_to_get_them(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "SERVER_USER", "no-such-user")
    (said,) = preflight.blocking(open_folder, ports=(), guests=False)
    assert "user no-such-user: missing" in said
    assert "make install" in said
    (tool,) = preflight._tools({"no-such-tool": ("it does things", "some-package")})
    assert tool.state == "missing"
    assert "apt-get install some-package" in tool.mend


def test_a_full_disk_and_little_memory_are_seen(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MIN_DISK_MB", 1 << 40)
    monkeypatch.setattr(preflight, "MIN_MEMORY_MB", 1 << 40)
    states = {each.item.split(" ")[0]: each.state for each in preflight.check(open_folder, listen=(), guests=False)}
    assert states["disk"] == "missing"
    assert states["memory"] == "low"


@pytest.mark.host
def test_this_machine_has_what_guests_need_and_nothing_is_left_of_the_trials(open_folder: Path) -> None:
    found = preflight.check(open_folder, listen=())
    lacks = [str(each) for each in found if each.state == "missing"]
    assert lacks == []
    assert len([each for each in found if each.item.startswith("kernel feature")]) == len(preflight.features.FEATURES)
    assert list(Path("/sys/class/net").glob("nt-*")) == []
    assert not Path("/run/netns/nt-ns").exists()


@pytest.mark.host
def test_a_feature_that_the_kernel_lacks_is_named_with_the_kernels_words() -> None:
    real = next(each for each in preflight.features.FEATURES if each.name == "bridge")
    bogus = preflight.features.Feature("warp drive", "ip link add nt-x type warp", "it is fast", "warp")
    ((feature, words),) = preflight.features.absent((real, bogus))
    assert feature is bogus
    assert words
