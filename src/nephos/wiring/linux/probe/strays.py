"""What guests send as somebody else while a probe looks: it is dropped, and they wonder why nothing answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from nephos.wiring.linux.probe.capture import Frame
from nephos.wiring.linux.probe.places import Place, Places
from nephos.wiring.linux.rules.firewall import sources
from nephos.wiring.probe import At, Fault

MOST = 4


class Strays:
    """Looks at the frames that come from guests' devices with port security."""

    def __init__(self, found: Sequence[Place], places: Places) -> None:
        self._allowed: dict[int, dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]]] = {}
        self._seen: dict[tuple[int, str], None] = {}
        for number, place in enumerate(found):
            port = places.desired.ports.get(place.point.id) if place.point.at is At.TAP else None
            if port is not None and port.port_security:
                self._allowed[number] = {
                    mac: [ipaddress.ip_network(cidr) for cidr in cidrs] for mac, cidrs in sources(port).items()
                }

    def look(self, frame: Frame) -> None:
        allowed = self._allowed.get(frame.place)
        if allowed is None or frame.leaving or len(self._seen) >= MOST or len(frame.data) < 42:
            return
        mac, kind = frame.data[6:12].hex(":"), frame.data[12:14]
        if mac not in allowed:
            self._seen[frame.place, f"as {mac}"] = None
            return
        if kind == b"\x08\x00":
            raw = frame.data[26:30]
        elif kind == b"\x08\x06":
            raw = frame.data[28:32]
        elif kind == b"\x86\xdd":
            raw = frame.data[22:38]
        else:
            return
        source = ipaddress.ip_address(raw)
        if int(source) and not any(source in network for network in allowed[mac]):
            self._seen[frame.place, f"from {source}"] = None

    def faults(self) -> Iterator[Fault]:
        for place, words in self._seen:
            mend = "give the guest its own address, or openstack port set --allowed-address ip-address=… PORT"
            yield Fault(point=place, words=f"the guest sends {words}, which is not its port's: dropped as spoofed", mend=mend)
