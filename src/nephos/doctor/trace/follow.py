"""One trace: the way from the ledger, the packets, a look on every host at once, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from nephos import errors
from nephos.doctor.trace import verdict
from nephos.doctor.trace.verdict import Look, Trace
from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.network import ways
from nephos.network.ways import Way
from nephos.wiring.probe import Arp, At, Dhcp, Dhcp6, Echo, Packet, Point, RouterSolicit, Solicit, Syn, Watch, Watched

SECONDS = 2.5
"""How long the hosts look: half a second before the first packet, a quarter from one to the next, and an answer's time."""
HEAD_START = 2.0
"""For how long the others look already when one of them began too late."""
Ask = Callable[[str, Watch], Watched]
"""Host id and what to look for → what it saw. Raises NephosError when it cannot look."""


def trace(cloud: Cloud, port_id: str, target: str) -> Trace:
    """Trace from a port to a target (`network.ways.way`). Takes about three seconds, or seven where a host is too busy to look
    in time.

    Raises what `ways.way` raises; a host that cannot look is part of the answer.
    """
    with cloud.database.read() as tx:
        way = ways.way(tx, port_id, target)
        names = {row.id: row.name for row in hosts.all_hosts(tx)}

    def ask(host_id: str, watch: Watch) -> Watched:
        return msgspec.convert(cloud.hosts.ask(host_id, "probe", msgspec.json.encode(watch).decode()), Watched)

    return follow(way, names, ask)


def follow(way: Way, names: Mapping[str, str], ask: Ask) -> Trace:
    """The trace of a way: sent, looked for and judged; `names` are of hosts, by id."""
    packets, points = _packets(way), _points(way)
    looks = _looks(way, packets, points, names, ask, 0)
    found = verdict.judge(way, packets, looks)
    if not found.ok and verdict.too_late(way, packets, looks):
        return verdict.judge(way, packets, _looks(way, packets, points, names, ask, HEAD_START))
    return found


def _looks(
    way: Way,
    packets: tuple[Packet, ...],
    points: Mapping[str, list[Point]],
    names: Mapping[str, str],
    ask: Ask,
    head_start: float,
) -> dict[str, Look]:
    """What every host sees, by id; the others begin so many seconds before the one that sends."""
    token = clock.token_bytes(3).hex()
    sender = way.stops[0].host_id

    def look(host_id: str) -> Look:
        here = tuple(points[host_id])
        watch = Watch(token=token, packets=packets, points=here, seconds=SECONDS + head_start)
        if host_id == sender:
            watch = msgspec.structs.replace(watch, seconds=SECONDS, port_id=way.port_id)
            clock.sleep(head_start)
        try:
            return Look(names.get(host_id, host_id), here, ask(host_id, watch))
        except errors.NephosError as wrong:
            return Look(names.get(host_id, host_id), here, None, wrong.message)

    with ThreadPoolExecutor(len(points)) as pool:
        return dict(zip(points, pool.map(look, points), strict=True))


def _packets(way: Way) -> tuple[Packet, ...]:
    seed = clock.token_bytes(16)
    if way.kind == "dhcp":
        return (Dhcp(xid=int.from_bytes(seed[:4], "big"), mac=way.mac),)
    if way.kind == "autoconfiguration":
        asks: dict[str, Packet] = {
            "router": RouterSolicit(mac=way.mac, address=way.address),
            "stateful": Dhcp6(xid=int.from_bytes(seed[:3], "big"), mac=way.mac, address=way.address),
            "stateless": Dhcp6(xid=int.from_bytes(seed[:3], "big"), mac=way.mac, address=way.address, stateless=True),
        }
        return tuple(asks[each] for each in way.asks)
    asks_for = Solicit if ":" in way.nexthop else Arp
    arp = asks_for(mac=way.mac, address=way.address, target=way.nexthop)
    if way.kind == "metadata":
        source = 32768 + int.from_bytes(seed[:2], "big") % 28000
        return (
            arp,
            Syn(
                mac=way.mac,
                address=way.address,
                target=way.target,
                port=80,
                source=source,
                sequence=int.from_bytes(seed[2:6], "big"),
                nexthop=way.nexthop,
            ),
        )

    def echo(token: bytes, size: int) -> Echo:
        return Echo(
            mac=way.mac,
            address=way.address,
            target=way.target,
            nexthop=way.nexthop,
            token=token,
            size=size,
            target_mac=way.nexthop_mac,
        )

    return arp, echo(seed, 84), echo(seed[::-1], way.mtu)


def _points(way: Way) -> dict[str, list[Point]]:
    """Host → its points, each once; where DHCP is asked, also the network's uplink, for servers that are not ours."""
    found: dict[str, list[Point]] = {}
    more = [stop for ending in way.others for stop in ending]
    for stop in (*way.stops, *more, *((way.edge,) if way.edge is not None else ())):
        here = found.setdefault(stop.host_id, [])
        if stop.point not in here:
            here.append(stop.point)
    if way.kind == "dhcp":
        host_id, network_id = way.stops[0].host_id, way.stops[1].point.id
        found[host_id].append(Point(at=At.UPLINK, id=network_id))
    return found
