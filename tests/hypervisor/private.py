"""A libvirtd of a test's own: in its own network and mount namespace, gone with the test."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nephos import guestimage
from nephos.hypervisor import daemon
from nephos.hypervisor.base import Boot, ImageFile
from nephos.hypervisor.libvirt import LibvirtHypervisor

IMAGE = Path("/var/tmp/nephos-test-guest")


class Host:
    """A network namespace with a libvirtd in it. `folder` is short and open to QEMU's user, unlike pytest's."""

    def __init__(self, folder: Path, hostname: str = "") -> None:
        self.folder = folder
        self._hostname = hostname
        self.netns = "nt" + folder.name[-8:]
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.daemon = self.start()
        self._drivers: list[LibvirtHypervisor] = []

    def start(self) -> daemon.Daemon:
        enter = ["nsenter", f"--net=/run/netns/{self.netns}", "--"]
        if self._hostname:
            enter += ["unshare", "--uts", "sh", "-c", f'hostname {self._hostname}; exec "$@"', "sh"]
        return daemon.private(self.folder / "libvirt", kvm=False, enter=enter)

    def driver(self, cloud_id: str = "cloud-a", state: str = "state") -> LibvirtHypervisor:
        made = LibvirtHypervisor(
            self.daemon.socket,
            state_dir=self.folder / state,
            cloud_id=cloud_id,
            acceleration="tcg",
            lib_dir=self.daemon.lib_dir,
        )
        self._drivers.append(made)
        return made

    def tap(self, name: str) -> None:
        subprocess.run(["ip", "-n", self.netns, "tuntap", "add", name, "mode", "tap"], check=True)
        subprocess.run(["ip", "-n", self.netns, "link", "set", name, "up"], check=True)

    def taps(self) -> str:
        words = ["ip", "-n", self.netns, "-br", "link", "show", "type", "tun"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def virsh(self, *words: str) -> str:
        uri = f"qemu+unix:///system?socket={self.daemon.socket}"
        done = subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()
        for name in self.virsh("list", "--name").split():
            self.virsh("destroy", name)
        daemon.stop(self.daemon)
        subprocess.run(["ip", "netns", "del", self.netns], check=True)


@contextlib.contextmanager
def host(hostname: str = "") -> Iterator[Host]:
    """`hostname` makes it another machine to libvirt, which moves no guest to where it is."""
    folder = Path(tempfile.mkdtemp(prefix="nephos-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        made = Host(folder, hostname)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder)


def small_guest() -> tuple[Boot, guestimage.GuestImage]:
    """The small guest for direct kernel boot: built once, kept for the next run."""
    image = guestimage.build(IMAGE)
    root, kernel, ramdisk = (
        ImageFile(id=path.name, path=path, format="raw") for path in (image.root, image.kernel, image.ramdisk)
    )
    return Boot(root=root, kernel=kernel, ramdisk=ramdisk), image
