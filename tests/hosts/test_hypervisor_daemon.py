"""The libvirtd that Nephos starts where none runs, in namespaces that stand for the whole machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nephos.errors import HostFault
from nephos.hypervisor import daemon

pytestmark = pytest.mark.host

# Runs in a network, mount and PID namespace of its own, with empty directories over libvirt's.
MACHINE = """
import json, subprocess, sys
from pathlib import Path
import msgspec
from nephos.hypervisor import daemon

folder = Path(sys.argv[1])
for name, target in {**daemon._BINDS, "pids": Path("/proc")}.items():
    target.mkdir(parents=True, exist_ok=True)
    if name == "pids":
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    elif name != "etc":
        (folder / name).mkdir()
        subprocess.run(["mount", "--bind", str(folder / name), str(target)], check=True)

def virsh(*words):
    done = subprocess.run(["virsh", "-q", "-c", "qemu:///system", *words], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()

exec(sys.argv[2])
"""


def machine(script: str) -> Any:
    """Run a script on a machine without libvirtd; `say(value)` is its answer."""
    with tempfile.TemporaryDirectory(prefix="nephos-", dir="/tmp") as folder:
        words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"]
        done = subprocess.run(
            [*words, sys.executable, "-c", MACHINE, folder, script],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def test_a_libvirtd_is_started_where_none_runs_and_only_ours_is_stopped() -> None:
    found = machine(
        """
etc = {path.name: path.read_text() for path in Path("/etc/libvirt").glob("*.conf")}
first = daemon.system(folder / "ours", kvm=False)
answer = {"version": virsh("version"), "host": virsh("hostname"), "list": virsh("list", "--all")}
answer["modes"] = {
    path.name: oct(path.stat().st_mode & 0o777) for path in Path("/run/libvirt").iterdir() if path.is_socket()
}
again = daemon.system(folder / "ours", kvm=False)
stranger = daemon.system(folder / "others", kvm=False)
daemon.stop(stranger)
answer["after stranger"] = virsh("hostname")
daemon.stop(again)
answer["after stop"] = virsh("hostname")
answer["untouched"] = etc == {path.name: path.read_text() for path in Path("/etc/libvirt").glob("*.conf")}
answer["said"] = [first.said, again.said, stranger.said]
answer["ours"] = [first.ours, again.ours, stranger.ours]
print(json.dumps(answer))
"""
    )
    assert "QEMU" in found["version"]
    assert found["list"] == ""
    assert set(found["modes"].values()) == {"0o700"}, "root alone"
    assert found["ours"] == [True, True, False]
    assert found["said"][0].startswith("no libvirtd ran on this machine: started one with Nephos' own configuration")
    assert found["said"][1].startswith("using the libvirtd that Nephos started earlier (pid ")
    assert found["said"][2].startswith("using the libvirt that runs on this machine (")
    assert found["after stranger"] == found["host"]
    assert "Failed to connect" in found["after stop"]
    assert found["untouched"], "/etc/libvirt is the machine's"


def test_a_kvm_that_does_not_work_is_hidden() -> None:
    if not Path("/dev/kvm").exists():
        pytest.skip("this machine has no /dev/kvm to hide")
    found = machine(
        """
daemon.system(folder / "ours", kvm=False)
answer = {"types": virsh("capabilities").count("<domain type='kvm'"), "mode": oct(Path("/dev/kvm").stat().st_mode)}
print(json.dumps(answer))
"""
    )
    assert found["types"] == 0
    assert found["mode"] == oct(Path("/dev/kvm").stat().st_mode), "for that libvirtd alone"


def test_the_daemons_own_words_come_whole() -> None:
    found = machine(
        """
daemon._libvirtd_conf = lambda directory: 'max_workers = "many"\\n'
try:
    daemon.system(folder / "ours", kvm=False)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    )
    assert found[0] == "HostFault"
    assert "instead of starting: " in found[1]
    assert "max_workers" in found[1]


def test_after_a_reboot_of_the_host_guests_are_off_not_crashed() -> None:
    found = machine(
        """
from nephos.hypervisor.base import Boot, Guest
from nephos.hypervisor.libvirt import LibvirtHypervisor
import os

folder.chmod(0o711)
made = Guest(id="83679162-1378-4288-a2d4-70e13ec132aa", name="instance-00000001", vcpus=1, ram_mb=64, root_gb=1)
answer = []
for boot in ("first", "second"):
    ours = daemon.private(folder / "ours", kvm=False)
    driver = LibvirtHypervisor(ours.socket, state_dir=folder / "state", cloud_id="c", acceleration="tcg")
    if boot == "first":
        driver.create(made, Boot(), lambda mark: None)
    answer.append(driver.guests()[made.id])
    driver.close()
    daemon.stop(ours)
    (folder / "ours" / "boot").write_text("the boot before")
    for path in Path("/proc").glob("[0-9]*/comm"):
        if path.read_text().startswith("qemu-system"):
            os.kill(int(path.parent.name), 9)
print(json.dumps(answer))
"""
    )
    assert found == ["running", "shutdown"]


@pytest.fixture
def long_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nephos-" + "x" * 90, dir="/tmp") as folder:
        yield Path(folder)


def test_a_path_too_long_for_a_socket_is_refused_with_words(long_folder: Path) -> None:
    with pytest.raises(HostFault, match="may have 107 characters at most"):
        daemon.private(long_folder / "libvirt", kvm=False)


def test_a_pid_file_that_names_a_stranger_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "libvirtd.pid"
    path.write_text(str(os.getpid()))
    daemon.stop(daemon.Daemon(socket=tmp_path / "none", ours=True, directory=tmp_path))
    assert not path.exists()
