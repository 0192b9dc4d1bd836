"""One watch on one host: listen, send when the guest lives here, and say what was seen and what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress

from nephos.errors import HostFault
from nephos.kernel import clock
from nephos.wiring.base import Desired, Network
from nephos.wiring.linux.probe import faults, frames, rules
from nephos.wiring.linux.probe.capture import Capture
from nephos.wiring.linux.probe.places import Places
from nephos.wiring.linux.probe.rules import Tracing
from nephos.wiring.linux.probe.sender import Sender
from nephos.wiring.linux.probe.strays import Strays
from nephos.wiring.linux.system import names, netns
from nephos.wiring.linux.system.host import Host
from nephos.wiring.linux.system.names import Mark
from nephos.wiring.probe import Arp, Echo, Sighting, Solicit, Syn, Watch, Watched

LEAD_SECONDS = 0.5
"""Before the first packet, so that every host on the way listens."""
PACE_SECONDS = 0.25
"""From one packet to the next: whom it goes to is wanted before what goes there."""
_TOKEN = frozenset("0123456789abcdef")
_one_at_a_time = threading.Semaphore(4)


class Prober:
    """Follows packets on this host, for one cloud. Touches nothing that is there, and removes what it makes, also what an
    agent that was killed meanwhile left behind."""

    def __init__(self, host: Host) -> None:
        self._settings = host.settings
        self._cloud = host.cloud
        _sweep(host)

    def follow(
        self, request: Watch, desired: Desired, uplinks: Mapping[str, str], switch: Callable[[Network], Iterable[str]]
    ) -> Watched:
        """Takes `request.seconds`. `switch` is `networks.Switch.faults`. Raises HostFault when the guest's device is missing,
        or too many probes run."""
        if not (1 <= len(request.token) <= 8 and set(request.token) <= _TOKEN):
            raise HostFault("a probe's token is one to eight hexadecimal digits")
        if not _one_at_a_time.acquire(timeout=1):
            raise HostFault("too many probes run on this host already")
        try:
            return self._follow(request, Places(self._settings, desired, uplinks, switch))
        finally:
            _one_at_a_time.release()

    def _follow(self, request: Watch, places: Places) -> Watched:
        until = clock.monotonic() + min(request.seconds, 8.0)
        found = [places.of(point) for point in request.points]
        sightings: list[Sighting] = []
        strays = Strays(found, places)
        capture = Capture()
        tracings: list[Tracing] = []
        eaten, wrong = [], []
        with ExitStack() as stack:
            for number, place in enumerate(found):
                if place.device:
                    with suppress(OSError):
                        capture.listen(number, place.device, place.namespace)
            rooms = dict.fromkeys(place.namespace for place in found if place.namespace)
            for namespace in (None, *rooms):
                if namespace is None or netns.exists(namespace):
                    tracing = Tracing(request.token, request.packets, self._settings.tunnel_port, namespace)
                    tracing.start()
                    tracings.append(tracing)
            try:
                # While the hosts already listen: a switch takes its time to say how it is.
                wrong = [fault for number, place in enumerate(found) for fault in faults.at(number, place, places)]
                sender = None
                if request.port_id is not None:
                    mark = Mark(self._cloud, "probe", request.token)
                    tap = names.tap(request.port_id)
                    sender = stack.enter_context(Sender(request.token, tap, mark))
                self._run(request, capture, sender, until, sightings, strays)
            finally:
                eaten = [each for tracing in tracings for each in tracing.stop()]
                lost = capture.close()
        return Watched(
            devices=tuple(place.device for place in found),
            sightings=tuple(sightings),
            eaten=tuple(eaten),
            faults=(*wrong, *strays.faults()),
            transports=tuple(places.transport(place.point) for place in found),
            lost=lost,
        )

    def _run(
        self,
        request: Watch,
        capture: Capture,
        sender: Sender | None,
        until: float,
        sightings: list[Sighting],
        strays: Strays,
    ) -> None:
        waiting = list(request.packets) if sender is not None else []
        due = clock.monotonic() + LEAD_SECONDS
        answers: dict[str, str] = {}
        while (now := clock.monotonic()) < until:
            if waiting and now >= due:
                packet = waiting.pop(0)
                due += PACE_SECONDS
                mac: str | None = None
                if isinstance(packet, Echo | Syn):
                    mac = packet.target_mac or answers.get(packet.nexthop)
                    if mac is None:
                        continue
                assert sender is not None
                sender.send(frames.build(packet, mac))
            for frame in capture.frames(min(until, due) if waiting else until):
                strays.look(frame)
                for number, packet in enumerate(request.packets):
                    known = frames.recognise(packet, frame.data)
                    if known is None:
                        continue
                    if known.answer and isinstance(packet, Arp | Solicit):
                        answers.setdefault(packet.target, known.by)
                    sightings.append(
                        Sighting(
                            packet=number,
                            point=frame.place,
                            at=frame.at,
                            answer=known.answer,
                            leaving=frame.leaving,
                            source=known.source,
                            target=known.target,
                            by=known.by,
                        )
                    )



def _sweep(host: Host) -> None:
    host.stack.load()
    for link in list(host.stack.links.values()):
        mark = Mark.parse(link.alias)
        if mark is not None and (mark.cloud, mark.kind) == (host.cloud, "probe") and link.name in host.stack.links:
            host.stack.remove(link.name)
    for namespace in (None, *host.record.value.namespaces):
        if namespace is None or netns.exists(namespace):
            with suppress(HostFault, OSError):
                rules.sweep(namespace)
