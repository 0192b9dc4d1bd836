"""A guest's files: whole or not there, thin, and reachable for QEMU's user only as far as needed."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from nephos.errors import HostFault
from nephos.hypervisor.base import Boot, Guest, ImageFile
from nephos.hypervisor.libvirt import console, disk

ID = "83679162-1378-4288-a2d4-70e13ec132aa"


def guest(**values: Any) -> Guest:
    given = {"id": ID, "name": "instance-0000002a", "vcpus": 1, "ram_mb": 64, "root_gb": 1, **values}
    return Guest(**given)


def info(path: Path) -> dict[str, Any]:
    words = ["qemu-img", "info", "--output=json", str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return found


@pytest.fixture
def raw(tmp_path: Path) -> ImageFile:
    path = tmp_path / "image.raw"
    path.write_bytes(b"x" * 1_000_000)
    path.chmod(0o440)
    return ImageFile(id="raw", path=path, format="raw")


def blkid(path: Path, tag: str) -> str:
    words = ["blkid", "-p", "-o", "value", "-s", tag, str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("guest_id", ["../x", "", "..", ID.upper(), ID + "/..", "{" + ID + "}", ID.replace("-", "")])
def test_an_id_cannot_name_a_path(guest_id: str) -> None:
    with pytest.raises(HostFault, match="not a guest's id"):
        disk.directory(Path("/state"), guest_id)


def test_the_root_disk_is_a_thin_overlay_of_the_flavors_size(tmp_path: Path, raw: ImageFile) -> None:
    home = tmp_path / ID
    (root,) = disk.make_disks(home, guest(root_gb=10), Boot(root=raw)).disks
    found = info(root.path)
    assert found["virtual-size"] == 10 * disk.GIB
    assert found["format"] == "qcow2"
    assert found["backing-filename"] == str(home / "image")
    assert found["backing-filename-format"] == "raw"
    assert found["actual-size"] < 1024 * 1024
    assert (home / "image").samefile(raw.path), "shared with the cache, not copied"
    own = disk.make_disks(tmp_path / "own", guest(root_gb=0), Boot(root=raw)).disks[0]
    assert info(own.path)["virtual-size"] == 1_000_448, "the image's size, in whole sectors"


def test_made_again_the_guests_data_stays(tmp_path: Path, raw: ImageFile) -> None:
    home = tmp_path / ID
    (root,) = disk.make_disks(home, guest(), Boot(root=raw)).disks
    before = root.path.stat()
    (home / "disk.eph0.part").write_bytes(b"a kill left this")
    disks = disk.make_disks(home, guest(ephemeral_gb=1), Boot(root=raw)).disks
    assert disks[0].path.stat() == before
    assert blkid(disks[1].path, "TYPE") == "ext4"
    assert not list(home.glob("*.part"))


def test_ephemeral_and_swap_disks_are_ready_to_use_and_sparse(tmp_path: Path, raw: ImageFile) -> None:
    _, ephemeral, swap = disk.make_disks(tmp_path / ID, guest(ephemeral_gb=20, swap_mb=512), Boot(root=raw)).disks
    assert blkid(ephemeral.path, "LABEL") == "ephemeral0"
    assert blkid(swap.path, "TYPE") == "swap"
    assert ephemeral.path.stat().st_size == 20 * disk.GIB
    assert ephemeral.path.stat().st_blocks * 512 < 64 * disk.MIB
    assert swap.path.stat().st_size == 512 * disk.MIB


def test_an_image_that_does_not_fit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "big.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "3G"], check=True)
    image = ImageFile(id="big", path=path, format="qcow2")
    with pytest.raises(HostFault, match=r"\(3 GiB\), the guest's root disk has 2 GiB"):
        disk.make_disks(tmp_path / ID, guest(root_gb=2), Boot(root=image))


def test_an_iso_comes_with_an_empty_disk(tmp_path: Path) -> None:
    path = tmp_path / "installer.iso"
    disk.make_config_drive(path, {"hello": b"world"})
    image = ImageFile(id="iso", path=path, format="iso")
    root, iso = disk.make_disks(tmp_path / ID, guest(root_gb=3), Boot(root=image)).disks
    assert info(root.path)["virtual-size"] == 3 * disk.GIB
    assert "backing-filename" not in info(root.path)
    assert (iso.device, iso.readonly, iso.shared) == ("cdrom", True, True)
    with pytest.raises(HostFault, match="nor a size for its root disk"):
        disk.make_disks(tmp_path / "none", guest(root_gb=0), Boot())


def test_the_config_drive_keeps_names_and_bytes(tmp_path: Path) -> None:
    files = {
        "openstack/latest/meta_data.json": b"{}",
        "openstack/2012-08-10/meta_data.json": b"older",
        "openstack/latest/user_data": bytes(range(256)) * 100,
        "openstack/content/0000": b"",
        "ec2/2009-04-04/meta-data.json": b"{}",
        "ec2/latest/meta-data.json": b"{}",
    }
    path = tmp_path / "disk.config"
    for _ in range(2):
        made = disk.make_config_drive(path, files)
    assert made.path == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert blkid(path, "LABEL") == "config-2"
    assert blkid(path, "TYPE") == "iso9660"
    for names in ("rr_path", "joliet_path"):
        iso = pycdlib.PyCdlib()
        iso.open(str(path))
        for name, content in files.items():
            output = io.BytesIO()
            iso.get_file_from_iso_fp(output, **{names: f"/{name}"})
            assert output.getvalue() == content
        iso.close()


def test_a_directory_that_qemu_cannot_pass_is_named(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    inner = shut / "inner"
    inner.mkdir(parents=True)
    for place in (shut, inner):
        place.chmod(0o711)
    open_above = [place for place in tmp_path.parents if not place.stat().st_mode & 0o001]
    if not open_above and tmp_path.stat().st_mode & 0o001:
        disk.check_reachable(inner, "nobody")
    shut.chmod(0o700)
    with pytest.raises(HostFault, match=r"which may not pass through /\S+ to the guests' disks"):
        disk.check_reachable(inner, "nobody")
    disk.check_reachable(inner, "root")


def test_a_console_log_is_bounded_and_read_across_its_parts(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    with log.open("ab") as writer:
        writer.write(b"first boot\n" * 100)
        writer.flush()
        console.bound(tmp_path, 2000)
        assert console.read(tmp_path, None) == b"first boot\n" * 100
        console.bound(tmp_path, 1000)
        assert log.stat().st_size == 0
        writer.write(b"and on")
    assert console.read(tmp_path, None) == b"first boot\n" * 100 + b"and on"
    assert console.read(tmp_path, 9) == b"ot\nand on"
    console.bound(tmp_path / "gone", 1)
    assert console.read(tmp_path / "gone", None) == b""
