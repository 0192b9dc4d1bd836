"""Guest images, made from Debian's own packages without mounting anything.

`build` makes the small guest for demos and tests: a qcow2 that boots by itself and a kernel, ramdisk and root for
direct kernel boot. `debian.build_debian` makes a Debian cloud image with cloud-init.
"""

from nephos.guestimage.builder import DEFAULT_SIZE_MB, DEFAULT_WORK, GuestImage, build

__all__ = ["DEFAULT_SIZE_MB", "DEFAULT_WORK", "GuestImage", "build"]
