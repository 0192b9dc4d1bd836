"""A guest without a machine: opens a tap as QEMU does and is a network namespace behind it.

usage: pretend_guest.py TAP MAC MTU FOLDER — run in the host's network namespace with the system's python3. Prints
"ready" and relays frames until it is killed; its namespace is entered by its process id. Its /etc/resolv.conf is
FOLDER/resolv.conf.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
from pathlib import Path

TUNSETIFF, TAP, NO_PI = 0x400454CA, 0x0002, 0x1000


def open_tap(name: str) -> int:
    handle = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_PI))
    return handle


def main() -> None:
    tap, mac, mtu, folder = sys.argv[1:]
    if not Path(f"/sys/class/net/{tap}").exists():
        sys.exit(f"there is no tap {tap}")
    outer = open_tap(tap)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000 | 0x00020000):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    inner = open_tap("eth0")
    resolv_conf = f"{folder}/resolv.conf"
    Path(resolv_conf).touch()
    for command in (
        "mount --make-rprivate /",
        "mount -t sysfs sysfs /sys",
        f"mount --bind {resolv_conf} /etc/resolv.conf",
        "ip link set lo up",
        "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 net.ipv6.conf.eth0.dad_transmits=0",
        f"ip link set eth0 address {mac} mtu {mtu} up",
    ):
        subprocess.run(command.split(), check=True)
    print("ready", flush=True)
    for handle in (outer, inner):
        os.set_blocking(handle, False)
    other = {outer: inner, inner: outer}
    while True:
        for handle in select.select([outer, inner], [], [])[0]:
            try:
                frame = os.read(handle, 65536)
            except BlockingIOError:
                continue
            with contextlib.suppress(OSError):
                os.write(other[handle], frame)


main()
