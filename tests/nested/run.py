"""The tests of the switches under a kernel that has everything: Debian's own, in an emulated machine.

    sudo .venv/bin/python tests/nested/run.py [--keep] [PYTEST ARGUMENTS]

VLAN, GRE, Geneve and Open vSwitch in the kernel are modules that the machine which runs the tests may lack. So this
makes a disk of the machine's own programs, this checkout and Debian's cloud kernel, boots it, and runs the tests of
wiring there that need no guest. It takes minutes: everything is emulated.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nephos.guestimage import packages

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/hosts/test_switches.py",)
_PROGRAMS = ("bin", "sbin", "lib/x86_64-linux-gnu", "lib/python3", "lib/python3.11", "lib64", "libexec",
             "lib/openvswitch-common", "lib/openvswitch-switch",
             "share/openvswitch", "share/zoneinfo", "share/xtables")  # fmt: skip
_SETTINGS = ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.conf", "ld.so.conf.d", "ld.so.cache", "alternatives",
             "protocols", "services", "iproute2", "mke2fs.conf")  # fmt: skip
_CHECKOUT = (".venv", "src", "tests", "bench", "pyproject.toml")
_DONE = "NESTED TESTS ENDED WITH"
_INIT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tmpfs -o size=1g tmp /tmp; mount -t tmpfs run /run; mkdir -p /run/netns /var/tmp /root
for module in tun br_netfilter veth nf_tables; do modprobe $module; done
ip link set lo up; hostname nested; uname -r
for kind in vlan gretap geneve vxlan; do modprobe -q rtnl-link-$kind && echo "kernel has $kind"; done
cd {root}
.venv/bin/python -m pytest -v -W ignore -p no:cacheprovider --basetemp=/tmp/t --durations=15 {tests}
echo "{done} $?"
sync; echo o > /proc/sysrq-trigger; sleep 60
"""


def disk(folder: Path, tests: list[str]) -> tuple[Path, Path]:
    """(kernel, file system) of the machine."""
    name = packages.kernel_package()
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
    for part in _CHECKOUT:
        subprocess.run(["cp", "-a", str(ROOT / part), str(tree / ROOT.relative_to("/") / part)], check=True)
    for link in ("bin", "sbin", "lib", "lib64"):
        (tree / link).symlink_to(f"usr/{link}")
    for place in ("proc", "sys", "dev", "tmp", "run", "root", "var/tmp", "var/cache"):
        (tree / place).mkdir(parents=True)
    shutil.copytree(modules, tree / "usr/lib/modules" / modules.name)
    subprocess.run(["depmod", "-b", str(tree), modules.name], check=True)
    init = tree / "init"
    init.write_text(_INIT.format(root=ROOT, tests=shlex.join(tests), done=_DONE))
    init.chmod(0o755)
    image = folder / "root.ext4"
    size = int(subprocess.run(["du", "-sm", str(tree)], capture_output=True, text=True, check=True).stdout.split()[0])
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image), f"{size + 600}M"], check=True)
    shutil.rmtree(tree)
    return next((folder / "kernel/boot").glob("vmlinuz-*")), image


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true", help="leave the disk where it is")
    options, tests = parser.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="nephos-nested-", dir="/var/tmp"))
    try:
        kernel, image = disk(folder, tests or list(TESTS))
        words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
                 "-m", "3072", "-nographic", "-no-reboot", "-nic", "none", "-kernel", str(kernel),
                 "-append", "root=/dev/nvme0n1 rw init=/init console=ttyS0 quiet panic=-1",
                 "-drive", f"file={image},if=none,id=root,format=raw,cache=unsafe", "-device", "nvme,drive=root,serial=1"]  # fmt: skip
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
        assert machine.stdout is not None
        status = 1
        for line in machine.stdout:
            print(line, end="", flush=True)
            if _DONE in line:
                status = int(line.rsplit(maxsplit=1)[1])
        machine.wait()
        return status
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
