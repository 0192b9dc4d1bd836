"""What ethtool(8) sets of a device, by the same ioctl (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GET_TX_CHECKSUM, _SET_TX_CHECKSUM = 0x16, 0x17


def finish_frames(device: str) -> bool:
    """Let the kernel finish frames before the device gets them: checksums done, large segments cut. Whether it did not.

    Without transmit checksums a device does no segmentation either. Raises OSError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
        if not _ask(handle, device, _GET_TX_CHECKSUM, 0):
            return False
        _ask(handle, device, _SET_TX_CHECKSUM, 0)
        return True


def _ask(handle: socket.socket, device: str, command: int, value: int) -> int:
    """One ETHTOOL_G… or ETHTOOL_S… command with a number; the number that came back."""
    word = array.array("I", [command, value])
    fcntl.ioctl(handle, _SIOCETHTOOL, struct.pack("16sP8x", device.encode(), word.buffer_info()[0]))
    return word[1]
