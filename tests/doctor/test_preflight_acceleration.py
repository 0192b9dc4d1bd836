"""Whether KVM works is found out by booting; these tests boot too."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nephos import guestimage
from nephos.doctor import acceleration

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def image() -> guestimage.GuestImage:
    return guestimage.build(acceleration.GUEST_FOLDER)


def qemus_of_this_process() -> list[str]:
    said = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [line for line in said.stdout.splitlines() if acceleration.QEMU in line]


def test_a_guest_that_runs_is_recognised(image: guestimage.GuestImage) -> None:
    boot = acceleration.boot_guest(
        image.kernel, image.ramdisk, accelerator="tcg", cpu="qemu64", first_word_seconds=60, whole_seconds=120
    )
    assert boot.ran, boot.words
    assert qemus_of_this_process() == []


def test_a_guest_that_is_silent_is_killed_in_time(image: guestimage.GuestImage) -> None:
    boot = acceleration.boot_guest(
        image.kernel, image.ramdisk, accelerator="tcg", cpu="qemu64", first_word_seconds=0.05
    )
    assert not boot.ran
    assert "hung before its first line" in boot.words
    assert boot.seconds < 5
    assert qemus_of_this_process() == []


def test_a_guest_that_stops_half_way_is_told_from_one_that_never_began(image: guestimage.GuestImage) -> None:
    boot = acceleration.boot_guest(
        image.kernel, Path("/dev/null"), accelerator="tcg", cpu="qemu64", first_word_seconds=60, whole_seconds=60
    )
    assert not boot.ran
    assert "Kernel panic" in boot.words or "ran no program" in boot.words or "QEMU ended by itself" in boot.words


def test_what_qemu_complains_of_is_passed_on(image: guestimage.GuestImage) -> None:
    boot = acceleration.boot_guest(image.kernel, image.ramdisk, accelerator="tcg", cpu="no-such-cpu")
    assert not boot.ran
    assert "no-such-cpu" in boot.words


@pytest.mark.skipif(not acceleration.KVM_DEVICE.exists(), reason="this machine has no /dev/kvm")
def test_a_kvm_of_any_kind_is_judged_within_its_limits(image: guestimage.GuestImage) -> None:
    begin = time.monotonic()
    boot = acceleration.boot_guest(image.kernel, image.ramdisk, accelerator="kvm", cpu="qemu64")
    assert time.monotonic() - begin < acceleration.WHOLE_SECONDS + 3
    assert boot.words
    assert qemus_of_this_process() == []


def test_the_answer_is_kept_until_something_changes(
    image: guestimage.GuestImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots: list[str] = []
    real = acceleration.boot_guest

    def counted(*args: Any, **words: Any) -> acceleration.Boot:
        boots.append(words["accelerator"])
        return real(*args, **{**words, "accelerator": "tcg", "cpu": "qemu64", "first_word_seconds": 60.0})

    monkeypatch.setattr(acceleration, "boot_guest", counted)
    monkeypatch.setattr(acceleration, "_without_booting", lambda: None)
    first = acceleration.probe_kvm(tmp_path)
    assert (first.kind, boots) == ("kvm", ["kvm"])
    assert acceleration.probe_kvm(tmp_path) == first
    assert boots == ["kvm"]
    monkeypatch.setattr(acceleration, "_key", lambda: "another boot of this machine")
    acceleration.probe_kvm(tmp_path)
    assert boots == ["kvm", "kvm"]
    (tmp_path / "acceleration.json").write_text("torn")
    acceleration.probe_kvm(tmp_path)
    assert boots == ["kvm"] * 3


def test_without_the_device_nothing_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "KVM_DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(acceleration, "boot_guest", None)
    found = acceleration.probe_kvm(tmp_path)
    assert found.kind == "tcg"
    assert "does not exist" in found.why
