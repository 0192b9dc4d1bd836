"""One trace: the way from the ledger, the packets, a look on every host at once, and the verdict."""

from __future__ import annotations

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


def trace(cloud: Cloud, port_id: str, target: str) -> Trace:
    """Trace from a port to a target (`network.ways.way`). Takes about three seconds.

    Raises what `ways.way` raises; a host that cannot look is part of the answer.
    """
    with cloud.database.read() as tx:
        way = ways.way(tx, port_id, target)
        names = {row.id: row.name for row in hosts.all_hosts(tx)}
    packets = _packets(way)
    points = _points(way)
    token = clock.token_bytes(3).hex()
    requests = {
        host_id: Watch(
            token=token,
            packets=packets,
            points=tuple(here),
            seconds=SECONDS,
            port_id=way.port_id if host_id == way.stops[0].host_id else None,
        )
        for host_id, here in points.items()
    }

    def ask(host_id: str) -> Look:
        try:
            text = msgspec.json.encode(requests[host_id]).decode()
            seen = msgspec.convert(cloud.hosts.ask(host_id, "probe", text), Watched)
        except errors.NephosError as wrong:
            return Look(names.get(host_id, host_id), tuple(points[host_id]), None, wrong.message)
        return Look(names.get(host_id, host_id), tuple(points[host_id]), seen)

    with ThreadPoolExecutor(len(requests)) as pool:
        looks = dict(zip(requests, pool.map(ask, requests), strict=True))
    return verdict.judge(way, packets, looks)


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
