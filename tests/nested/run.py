"""The tests of the data plane under a kernel that has everything: Debian's own, in an emulated machine.

    sudo .venv/bin/python tests/nested/run.py [--resume] [--fresh] [PYTEST ARGUMENTS]

VLAN, GRE, Geneve and Open vSwitch in the kernel are modules that the machine which runs the tests may lack. So this makes
a disk of the machine's own programs, the test environment and Debian's cloud kernel, and keeps it for the next time;
boots it with this checkout on a second disk, and runs there the tests of wiring that need no real guest. At the end a
table tells each cell of `tests/hosts/test_matrix.py`. It takes minutes: everything is emulated. A run that was broken
off, or had failures, goes on with `--resume`: what passed is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nephos import guestimage
from nephos.guestimage import packages

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path("/var/cache/nephos/nested")
TESTS = ("tests/hosts/test_matrix.py", "tests/hosts/test_detour.py", "tests/hosts/test_reboot.py",
         "tests/hosts/test_switches.py", "tests/hosts/test_seed_walk.py")  # fmt: skip
_PROGRAMS = ("bin", "sbin", "lib/x86_64-linux-gnu", "lib/python3", "lib/python3.11", "lib64", "libexec",
             "lib/openvswitch-common", "lib/openvswitch-switch",
             "share/openvswitch", "share/zoneinfo", "share/xtables", "share/libvirt", "share/qemu", "share/seabios",
             "lib/ipxe")  # fmt: skip
_SETTINGS = ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.conf", "ld.so.conf.d", "ld.so.cache", "alternatives",
             "protocols", "services", "iproute2", "mke2fs.conf", "libvirt")  # fmt: skip
_GUEST = Path("/var/cache/nephos/guest")
_CHECKOUT = ("src", "tests", "bench", "scripts", "pyproject.toml")
_ENVIRONMENT = "/venv"
"""Where the test environment is in the machine; the checkout's `.venv` leads there."""
_DONE = "NESTED TESTS ENDED WITH"
_RESULT = re.compile(r"^(?:\x1b\[\S*)?(tests/\S+?::\S+) (PASSED|FAILED|SKIPPED|ERROR)\b")
_CELL = re.compile(r"test_matrix\.py::test_cell\[(\w+)-(\w+)-(\w+)\]")
_SHOWN = {"PASSED": "ok", "FAILED": "FAILED", "ERROR": "FAILED", "SKIPPED": "-"}
_INIT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb NEPHOS_TESTS_SLOWER=6
export NEPHOS_PREFIX={root}/.venv  # the product is this checkout
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tmpfs -o size=1g tmp /tmp; mount -t tmpfs run /run; mount -t tmpfs -o size=1g vartmp /var/tmp
mkdir -p /run/netns
for module in tun br_netfilter veth nf_tables openvswitch; do modprobe $module; done
ip link set lo up; hostname nested; uname -r
for kind in vlan gretap geneve vxlan; do modprobe -q rtnl-link-$kind && echo "kernel has $kind"; done
test -d /sys/module/openvswitch && echo "kernel has openvswitch"
mount -t ext4 /dev/nvme1n1 {root} && cd {root} && bash .nested
echo "{done} $?"
sync; echo o > /proc/sysrq-trigger; sleep 60
"""
_RUN = """exec .venv/bin/python -m pytest -v --tb=short -p tests.nested.now -W ignore -p no:cacheprovider --basetemp=/tmp/t --durations=15 {tests}
"""


def _make(tree: Path, image: Path, spare: int) -> None:
    """An ext4 file system of a folder, with room for so many MB more."""
    size = int(subprocess.run(["du", "-sm", str(tree)], capture_output=True, text=True, check=True).stdout.split()[0])
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image), f"{size * 11 // 10 + spare}M"]
    subprocess.run(words, check=True, capture_output=True)


def system(fresh: bool) -> tuple[Path, Path]:
    """(kernel, file system) of the machine, without the checkout: as made before while nothing that is on it changed."""
    name = packages.kernel_package()
    known = [name, guestimage.build(_GUEST).key, _INIT, *(str(part) for part in (_PROGRAMS, _SETTINGS))]
    known += [Path("/var/lib/dpkg/status").read_text(), *sorted(str(one) for one in _libraries().iterdir())]
    stamp = hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
    kept = CACHE / stamp
    if fresh or not kept.is_dir():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _system(name, Path(folder))
            (Path(folder) / "made").rename(kept)
    return kept / "vmlinuz", kept / "root.ext4"


def _libraries() -> Path:
    return next((ROOT / ".venv/lib").glob("python3*/site-packages"))


def _system(name: str, folder: Path) -> None:
    packages.unpack(packages.fetch([name], folder / "packages"), folder / "kernel")
    modules = next((folder / "kernel/lib/modules").iterdir())
    tree = folder / "tree"
    for part in _PROGRAMS:
        if (Path("/usr") / part).is_dir():
            (tree / "usr" / part).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", f"/usr/{part}", str(tree / "usr" / part)], check=True)
    (tree / "etc").mkdir()
    for part in _SETTINGS:
        if (Path("/etc") / part).exists():
            subprocess.run(["cp", "-a", f"/etc/{part}", str(tree / "etc" / part)], check=True)
    (tree / "etc/resolv.conf").touch()
    (tree / ROOT.relative_to("/")).mkdir(parents=True)
    subprocess.run(["cp", "-a", str(ROOT / ".venv"), str(tree / _ENVIRONMENT[1:])], check=True)
    shutil.copytree(_GUEST, tree / _GUEST.relative_to("/"))
    for link in ("bin", "sbin", "lib", "lib64"):
        (tree / link).symlink_to(f"usr/{link}")
    for place in ("proc", "sys", "dev", "tmp", "run", "root", "var/tmp", "var/cache", "var/lib/libvirt", "var/log"):
        (tree / place).mkdir(parents=True, exist_ok=True)
    shutil.copytree(modules, tree / "usr/lib/modules" / modules.name)
    subprocess.run(["depmod", "-b", str(tree), modules.name], check=True)
    init = tree / "init"
    init.write_text(_INIT.format(root=ROOT, done=_DONE))
    init.chmod(0o755)
    made = folder / "made"
    made.mkdir()
    _make(tree, made / "root.ext4", 100)
    shutil.copy(next((folder / "kernel/boot").glob("vmlinuz-*")), made / "vmlinuz")


def checkout(folder: Path, tests: list[str]) -> Path:
    """The file system with this checkout and what to run."""
    tree = folder / "checkout"
    tree.mkdir()
    for part in _CHECKOUT:
        subprocess.run(["cp", "-a", str(ROOT / part), str(tree / part)], check=True)
    (tree / ".venv").symlink_to(_ENVIRONMENT)
    (tree / ".nested").write_text(_RUN.format(tests=shlex.join(tests)))
    image = folder / "checkout.ext4"
    _make(tree, image, 50)
    return image


def boot(kernel: Path, disks: list[Path], results: dict[str, str], kept: Path) -> int:
    """Run the machine to its end, show what it says and keep each test's result; the tests' status."""
    words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
             "-m", "4096", "-nographic", "-no-reboot", "-nic", "none", "-kernel", str(kernel),
             "-append", "root=/dev/nvme0n1 rw init=/init console=ttyS0 quiet panic=-1 mitigations=off"]  # fmt: skip
    for number, disk in enumerate(disks):
        words += ["-drive", f"file={disk},if=none,id=disk{number},format=raw,cache=unsafe,snapshot=on"]
        words += ["-device", f"nvme,drive=disk{number},serial={number}"]
    machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
    status = 1
    try:
        assert machine.stdout is not None
        for line in machine.stdout:
            print(line, end="", flush=True)
            if found := _RESULT.match(line):
                results[found[1]] = found[2]
                kept.write_text(json.dumps(results, indent=1))
            if _DONE in line:
                status = int(line.rsplit(maxsplit=1)[1])
    finally:
        machine.kill()
        machine.wait()
    return status


def table(results: dict[str, str]) -> str:
    """The cells of the matrix: a line for each switch and network type."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, result in results.items():
        if found := _CELL.search(name):
            cells.setdefault((found[1], found[3]), {})[found[2]] = _SHOWN[result]
    checks = list(dict.fromkeys(check for row in cells.values() for check in row))
    lines = [f"{'':<24}" + "".join(f"{check:<10}" for check in checks)] if cells else []
    for (switch, kind), row in cells.items():
        lines.append(f"{switch + ' ' + kind:<24}" + "".join(f"{row.get(check, '?'):<10}" for check in checks))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resume", action="store_true", help="leave out what passed in the run before")
    parser.add_argument("--fresh", action="store_true", help="make the machine's disk anew")
    options, tests = parser.parse_known_args()
    kernel, disk = system(options.fresh)
    kept = CACHE / "results.json"
    results: dict[str, str] = json.loads(kept.read_text()) if options.resume and kept.exists() else {}
    passed = [f"--deselect={name}" for name, result in results.items() if result == "PASSED"]
    with tempfile.TemporaryDirectory(prefix="nephos-nested-", dir="/var/tmp") as folder:
        image = checkout(Path(folder), [*(tests or TESTS), *passed])
        status = boot(kernel, [disk, image], results, kept)
    print(table(results))
    return status


if __name__ == "__main__":
    sys.exit(main())
