"""What the parts of the driver share: the host's own stack, what is remembered, the mark, the namespaces held open."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nephos.errors import HostFault
from nephos.wiring.base import Physical, WiringSettings
from nephos.wiring.linux.system import netns
from nephos.wiring.linux.system.names import Mark
from nephos.wiring.linux.system.netlink import Link
from nephos.wiring.linux.system.nft import Ruleset
from nephos.wiring.linux.system.record import Record
from nephos.wiring.linux.system.stack import Stack


class Room:
    """A namespace that Nephos made, entered: its devices and its ruleset. Its `lo` is up and carries the mark."""

    def __init__(self, name: str, record: Record) -> None:
        self.stack = Stack(name)
        self.ruleset = Ruleset(name, record)

    def close(self) -> None:
        self.stack.close()
        self.ruleset.close()


class Host:
    """One host, for one cloud."""

    def __init__(self, settings: WiringSettings, folder: Path, cloud: str) -> None:
        self.settings = settings
        self.folder = folder
        self.cloud = cloud
        self.record = Record(folder / "host.json")
        self.stack = Stack(None)
        self._rooms: dict[str, Room] = {}
        self._gone = 0

    def mark(self, kind: str, identifier: str) -> Mark:
        return Mark(self.cloud, kind, identifier)

    def room(self, name: str, owner: Mark) -> tuple[Room, bool]:
        """The namespace of that name, made when it is missing, and whether it was made now."""
        room = self._rooms.get(name)
        if room is not None and room.stack.identity == netns.identity(name) is not None:
            room.stack.load()
            return room, False
        self.close_room(name)
        self.record.claim_namespace(name, str(owner))
        made = netns.identity(name) is None
        if made:
            netns.create(name)
        room = self._rooms[name] = Room(name, self.record)
        room.stack.load()
        if made:
            room.ruleset.forget()
        room.stack.ensure(room.stack.links["lo"], mark=owner)
        return room, made

    def uplink(self, interface: str, bridge: str) -> Link:
        """A device that shall be a bridge's uplink. Raises HostFault when there is none or it has the host's addresses:
        those are never moved (S0-28)."""
        port = self.stack.links.get(interface)
        if port is None:
            raise HostFault(f"uplink {interface} does not exist on this host")
        if any(index == port.index for index, _ in self.stack.netlink.addresses()):
            raise HostFault(
                f"uplink {interface} is in use: it has addresses, and the host's own address is never moved; make "
                f"bridge {bridge} yourself or choose another interface"
            )
        return port

    def bridge_mac(self, physical: Physical) -> str:
        """The MAC of a physical network's bridge: its uplink's, which no other host has there; one that is always the same
        where there is none, so that guests' ARP entries for the host stay good."""
        uplink = self.stack.links.get(physical.interface or "")
        if uplink is not None:
            return uplink.mac
        digest = hashlib.sha256(f"{self.cloud}/{physical.bridge}".encode()).digest()
        return "02:" + digest[:5].hex(":")

    def give_address(self, cidr: str, link: Link) -> None:
        """Put an address on a bridge, remembering that it was not there before."""
        if (link.index, cidr) in self.stack.netlink.addresses():
            return
        if cidr not in self.record.value.addresses:
            self.record.value.addresses[cidr] = link.name
            self.record.save()
        self.stack.netlink.change_address(link.index, cidr, add=True)
        self.stack.changes += 1

    @property
    def changes(self) -> int:
        """How many things were changed on this host since the driver started."""
        rooms = sum(room.stack.changes + room.ruleset.loads for room in self._rooms.values())
        return self.stack.changes + rooms + self._gone

    def close_room(self, name: str) -> None:
        room = self._rooms.pop(name, None)
        if room is not None:
            self._gone += room.stack.changes + room.ruleset.loads + 1
            room.close()

    def delete_room(self, name: str) -> None:
        room = self._rooms.get(name)
        if room is not None:
            room.ruleset.forget()
        self.close_room(name)
        netns.delete(name)
        self.record.forget_namespace(name)

    def close(self) -> None:
        for name in list(self._rooms):
            self.close_room(name)
        self.stack.close()
