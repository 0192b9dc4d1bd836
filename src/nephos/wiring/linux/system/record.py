"""What the driver must remember about a host over its own restarts, in one file below the state directory."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from nephos.errors import HostFault
from nephos.wiring.linux.system import sysctl

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Remembered(msgspec.Struct):
    """The file's content. `sysctls` hold the values from before; `zones` the conntrack zone of each network, `local` the
    number of each local IP that leads to a port here,
    `tags` its VLAN inside Open vSwitch, `loaded` what `nft.Ruleset` knows of each namespace since the machine's `boot`."""

    namespaces: dict[str, str] = {}
    bridges: list[str] = []
    addresses: dict[str, str] = {}
    sysctls: dict[str, str] = {}
    zones: dict[str, int] = {}
    tags: dict[str, int] = {}
    local: dict[str, int] = {}
    loaded: dict[str, tuple[str, str, int]] = {}
    boot: str = ""


class Record:
    """Reads the file once and writes it, whole and durable, before anything that it must cover is done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.value = msgspec.json.decode(path.read_bytes(), type=Remembered)
        except FileNotFoundError:
            self.value = Remembered()
        except msgspec.DecodeError as problem:
            raise HostFault(f"{path}, which says what was made on this host, cannot be read: {problem}") from problem
        boot = _BOOT_ID.read_text().strip()
        if self.value.boot != boot:
            # The kernel counts from the beginning again: by chance its count would be the one that was noted.
            self.value.boot, self.value.loaded = boot, {}

    def save(self) -> None:
        part = self._path.with_suffix(".part")
        with part.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(msgspec.json.encode(self.value))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)

    def claim_namespace(self, name: str, owner: str) -> None:
        if self.value.namespaces.get(name) != owner:
            self.value.namespaces[name] = owner
            self.save()

    def forget_namespace(self, name: str) -> None:
        if self.value.namespaces.pop(name, None) is not None:
            self.save()

    def zone(self, network_id: str) -> int:
        """The conntrack zone of a network: the same as long as the host carries it, so that flows survive."""
        return self._number(self.value.zones, network_id, 65534)

    def tag(self, network_id: str) -> int:
        """The VLAN of a network inside this host's Open vSwitch. Raises HostFault when 4092 networks have one."""
        return self._number(self.value.tags, network_id, 4092)

    def local(self, led: str) -> int:
        """The number by which a local IP's connections are known, the same as long as it leads to its port."""
        return self._number(self.value.local, led, 65535)

    def _number(self, given: dict[str, int], network_id: str, most: int) -> int:
        if network_id not in given:
            used = set(given.values())
            number = next((number for number in range(1, most + 1) if number not in used), None)
            if number is None:
                raise HostFault(f"this host has {most} of these already, which is the most that it can")
            given[network_id] = number
            self.save()
        return given[network_id]

    def set_sysctl(self, name: str, value: str) -> None:
        """Change a setting of the host, remembering the value that was there first."""
        before = sysctl.read(name)
        if before is None or before == value:
            return
        if name not in self.value.sysctls:
            self.value.sysctls[name] = before
            self.save()
        sysctl.write(name, value)

    def restore_sysctls(self) -> None:
        for name, value in self.value.sysctls.items():
            sysctl.write(name, value)
        self.value.sysctls = {}
        self.save()

    def forget_all(self) -> None:
        """Remove the file: nothing on the host is ours any more."""
        self.value = Remembered()
        self._path.unlink(missing_ok=True)
