"""Finds out whether KVM works here, by booting the guest kernel under it.

That /dev/kvm exists proves little: under some hosts QEMU dies at the first register it sets, under others firmware and
real-mode code run but a Linux guest hangs. So the probe boots what guests boot, far enough to run a program.
"""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
from pathlib import Path
from typing import Literal

import msgspec

from nephos.errors import NephosError
from nephos.kernel import clock

QEMU = "qemu-system-x86_64"
KVM_DEVICE = Path("/dev/kvm")
GUEST_FOLDER = Path("/var/cache/nephos/guest")
"""Where `nephos image build` puts the guest whose kernel the probe boots."""

SIGN = b"guest: probe: running"
"""What the guest's ramdisk prints when it is started with nephos.probe."""

FIRST_WORD_SECONDS = 3.0
"""Until the kernel's first line: milliseconds under a KVM that works."""

WHOLE_SECONDS = 10.0


class Acceleration(msgspec.Struct, frozen=True, kw_only=True):
    """How guests will run: `kind` is kvm or tcg (software emulation); `why` says it in words."""

    kind: Literal["kvm", "tcg"]
    why: str
    seconds: float = 0.0
    """What finding out took; the cached answer keeps the first one's."""


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """How a probe boot ended."""

    ran: bool
    words: str
    seconds: float


def probe_kvm(cache_dir: Path, *, guest_folder: Path = GUEST_FOLDER) -> Acceleration:
    """kvm when a Linux guest really runs under it, else tcg with the reason.

    The answer is kept in `cache_dir`/acceleration.json and holds for this boot of this kernel with this QEMU. Builds
    the guest image into `guest_folder` if it is not there. Never raises for a machine without KVM; raises `HostFault`
    when the guest image cannot be built.
    """
    reason = _without_booting()
    if reason is not None:
        return Acceleration(kind="tcg", why=reason)
    key = _key()
    known = _read(cache_dir, key)
    if known is not None:
        return known
    from nephos import guestimage

    image = guestimage.build(guest_folder)
    boot = boot_guest(image.kernel, image.ramdisk, accelerator="kvm", cpu="host")
    if boot.ran:
        found = Acceleration(kind="kvm", why=f"a Linux guest ran under KVM ({boot.words})", seconds=boot.seconds)
    else:
        why = f"KVM is there, but a Linux guest does not run under it: {boot.words}; guests are emulated in software"
        found = Acceleration(kind="tcg", why=why, seconds=boot.seconds)
    _write(cache_dir, key, found)
    return found


def boot_guest(
    kernel: Path,
    ramdisk: Path,
    *,
    accelerator: Literal["kvm", "tcg"],
    cpu: str,
    first_word_seconds: float = FIRST_WORD_SECONDS,
    whole_seconds: float = WHOLE_SECONDS,
) -> Boot:
    """Boots kernel and ramdisk until the ramdisk's first program speaks; the QEMU is gone when this returns.

    Without any disk or network. `first_word_seconds` is how long the kernel may take to print its first line.
    """
    command_line = "console=ttyS0 earlyprintk=ttyS0 panic=-1 nephos.probe"
    argv = [QEMU, "-accel", accelerator, "-cpu", cpu, "-machine", "q35", "-m", "128", "-nodefaults", "-display", "none",
            "-no-reboot", "-serial", "stdio", "-sandbox", "on", "-kernel", str(kernel), "-initrd", str(ramdisk),
            "-append", command_line]  # fmt: skip
    start = clock.monotonic()
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        return Boot(ran=False, words=f"{QEMU} does not start: {error}", seconds=0.0)
    try:
        said, ended = _listen(process, start, first_word_seconds, whole_seconds)
    finally:
        _kill(process)
    seconds = round(clock.monotonic() - start, 2)
    if SIGN in said:
        return Boot(ran=True, words=f"its first program ran after {seconds} s", seconds=seconds)
    return Boot(ran=False, words=_verdict(said, ended, seconds), seconds=seconds)


def _listen(process: subprocess.Popen[bytes], start: float, first: float, whole: float) -> tuple[bytes, bool]:
    """What the guest and QEMU said until the sign, an end or a limit; and whether QEMU ended by itself."""
    assert process.stdout is not None
    said = b""
    while SIGN not in said:
        limit = whole if b"Linux version" in said else first
        left = start + limit - clock.monotonic()
        if left <= 0:
            return said, False
        ready, _, _ = select.select([process.stdout], [], [], left)
        if ready:
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return said, True
            said += piece
    return said, False


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


def _verdict(said: bytes, ended: bool, seconds: float) -> str:
    lines = [line for line in said.decode(errors="replace").replace("\r", "\n").split("\n") if line.strip()]
    if ended:
        complaint = next((line for line in lines if "error" in line), lines[-1] if lines else "without a word")
        return f"QEMU ended by itself: {complaint.removeprefix(QEMU + ': ').strip()}"
    if b"Linux version" in said:
        return f"the kernel started but ran no program within {seconds:.0f} s"
    return f"the guest kernel hung before its first line ({seconds:.0f} s)"


def _without_booting() -> str | None:
    """Why KVM is out of the question, or None when only a boot can tell."""
    if not KVM_DEVICE.exists():
        return f"{KVM_DEVICE} does not exist; guests are emulated in software"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return f"{KVM_DEVICE} may not be opened by this user; guests are emulated in software"
    return None


def _key() -> str:
    """What a cached answer depends on: this boot, this kernel, this QEMU."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    try:
        said = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        said = []
    return " / ".join([boot, platform.release(), said[0] if said else "no QEMU"])


def _read(cache_dir: Path, key: str) -> Acceleration | None:
    try:
        kept = json.loads((cache_dir / "acceleration.json").read_text(encoding="utf-8"))
        return msgspec.convert(kept["answer"], Acceleration) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError):
        return None


def _write(cache_dir: Path, key: str, found: Acceleration) -> None:
    cache_dir.mkdir(parents=True, exist_ok=True)
    fresh = cache_dir / "acceleration.json.new"
    fresh.write_text(json.dumps({"key": key, "answer": msgspec.to_builtins(found)}), encoding="utf-8")
    fresh.replace(cache_dir / "acceleration.json")


def safely(cache_dir: Path) -> Acceleration:
    """Like `probe_kvm`, but a guest image that cannot be built means software emulation, not an error."""
    try:
        return probe_kvm(cache_dir)
    except NephosError as error:
        return Acceleration(
            kind="tcg", why=f"KVM could not be tried ({error.message}); guests are emulated in software"
        )
