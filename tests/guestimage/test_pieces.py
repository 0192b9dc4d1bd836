"""The parts of the image builder that can be judged without booting."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

from nephos import guestimage
from nephos.errors import HostFault, SettingsError
from nephos.guestimage import archive, disk, modules, packages, tiny


def module(path: Path, depends: str, signature: bytes = b"") -> None:
    body = b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"
    if signature:
        body += signature + bytes(8) + struct.pack(">I", len(signature)) + modules.SIGNATURE_MARK
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def test_modules_come_after_what_they_need_and_lose_their_signatures(tmp_path: Path) -> None:
    source = tmp_path / "6.1.0"
    module(source / "a/virtio-net.ko", "net-failover,virtio_ring", b"S" * 300)
    module(source / "b/net_failover.ko", "failover")
    module(source / "b/failover.ko", "")
    module(source / "c/virtio_ring.ko", "virtio")
    module(source / "c/virtio.ko", "")
    modules.install(modules.ModuleTree(source), ["virtio-net"], tmp_path / "out")
    order = (tmp_path / "out/order/virtio-net").read_text().split()
    assert order == [
        "failover:failover.ko",
        "net_failover:net_failover.ko",
        "virtio:virtio.ko",
        "virtio_ring:virtio_ring.ko",
        "virtio_net:virtio-net.ko",
    ]
    kept = (tmp_path / "out/virtio-net.ko").read_bytes()
    assert kept.endswith(b"retpoline=Y\0")
    with pytest.raises(HostFault, match="no module no_such"):
        modules.ModuleTree(source).order("no-such")


def test_the_archive_is_what_cpio_expects(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_bytes(b"x" * 5)
    (tree / "bin/tool").chmod(0o755)
    (tree / "bin/link").symlink_to("tool")
    (tree / "empty").write_bytes(b"")
    data = archive.newc(tree)
    assert data == archive.newc(tree)
    entries = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        at = (at + 110 + length + 3) // 4 * 4
        if name == archive.TRAILER:
            break
        entries[name] = (oct(mode), data[at : at + size])
        at = (at + size + 3) // 4 * 4
    assert entries["bin/tool"] == ("0o100755", b"xxxxx")
    assert entries["bin/link"] == ("0o120777", b"tool")
    assert entries["empty"][1] == b""
    assert sorted(entries) == ["bin", "bin/link", "bin/tool", "empty"]


def test_the_partition_table_is_read_back_by_others(tmp_path: Path) -> None:
    size = 64 << 20
    table = disk.partition_table(size, bytes(range(16)))
    raw = tmp_path / "disk"
    raw.write_bytes(bytes(440) + table)
    os.truncate(raw, size)
    said = json.loads(subprocess.run(["sfdisk", "--json", raw], capture_output=True, check=True).stdout)
    (partition,) = said["partitiontable"]["partitions"]
    assert (partition["start"], partition["size"], partition["type"]) == (2048, size // 512 - 2048, "83")
    assert partition["bootable"]


def flatten(document: object, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "document.json"
    file.write_text(json.dumps(document) if not isinstance(document, str) else document)
    busybox = tmp_path / "busybox"
    if not busybox.exists():
        raw = tmp_path / "raw"
        packages.unpack(packages.fetch([packages.STATIC], tmp_path / "debs"), raw)
        busybox.symlink_to(raw / "bin/busybox")
    argv = [str(busybox), "awk", "-f", str(tiny.FILES / "json.awk"), str(file)]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
    return dict(line.split("\t", 1) for line in lines)


@pytest.mark.host
def test_the_guest_reads_metadata_as_json_and_not_by_guessing(tmp_path: Path) -> None:
    document = {
        "uuid": "u-1",
        "nested": {"uuid": "wrong", "list": [1, {"deep": True}, None, -2.5e3]},
        "public_keys": {'a "quoted\\" name': "ssh-ed25519 AAAA user@host\n", "b": "ssh-rsa BBBB"},
        "text": 'tab\tand "quotes" and \\ and {braces}, [brackets]: fine',
        "empty": "",
        "none": {},
    }
    found = flatten(document, tmp_path)
    assert found["uuid"] == "u-1"
    assert found["nested/uuid"] == "wrong"
    assert found["nested/list/0"] == "1"
    assert found["nested/list/1/deep"] == "true"
    assert found["nested/list/3"] == "-2500.0"
    assert found['public_keys/a "quoted\\" name'] == "ssh-ed25519 AAAA user@host"
    assert found["public_keys/b"] == "ssh-rsa BBBB"
    assert found["text"] == 'tab and "quotes" and \\ and {braces}, [brackets]: fine'
    assert found["empty"] == ""
    for torn in ('{"uuid": "u-1", "x": [1, 2', '{"uuid": "u-1", "x": "never ends', "<html>404</html>", ""):
        assert flatten(torn, tmp_path).get("uuid") in ("u-1", None)


def test_a_size_that_cannot_hold_the_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="too small"):
        guestimage.build(tmp_path, size_mb=8)


@pytest.mark.host
def test_a_second_build_returns_at_once_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = guestimage.build(tmp_path / "out", work_dir=work)
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert guestimage.build(tmp_path / "out", work_dir=tmp_path / "nowhere") == first
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps
    assert not (tmp_path / "nowhere").exists()
    contents = {path.name: path.read_bytes() for path in (first.kernel, first.ramdisk)}
    first.ramdisk.unlink()
    again = guestimage.build(tmp_path / "out", work_dir=work)
    assert {path.name: path.read_bytes() for path in (again.kernel, again.ramdisk)} == contents
    assert sorted(path.name for path in work.iterdir()) == ["packages"]
    check = subprocess.run(["e2fsck", "-f", "-n", again.root], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


@pytest.mark.host
def test_the_owners_and_modes_inside_are_right(tmp_path: Path) -> None:
    from nephos.doctor.acceleration import GUEST_FOLDER

    image = guestimage.build(GUEST_FOLDER)

    def stat(path: str) -> str:
        argv = ["debugfs", "-R", f"stat {path}", image.root]
        words = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        return " ".join(words[words.index("Mode:") + 1 :][i] for i in (0,)) + " " + words[words.index("User:") + 1]

    assert stat("/etc/shadow") == "0600 0"
    assert stat("/home/cirros") == "0755 1000"
    assert stat("/home/cirros/.ssh") == "0700 1000"
    assert stat("/usr/libexec/guest-setpriv") == "04750 0"
    assert stat("/tmp") == "01777 0"
    for path in (image.qcow2, image.kernel, image.ramdisk, image.root):
        assert path.stat().st_mode & 0o777 == 0o444
