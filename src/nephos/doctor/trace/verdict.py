"""What the hosts saw, judged: after which stop a packet was not seen any more, why, and what mends it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from nephos.network.ways import Stop, Way
from nephos.wiring.probe import (
    Arp,
    At,
    Dhcp,
    Dhcp6,
    Eaten,
    Echo,
    Fault,
    Packet,
    Point,
    RouterSolicit,
    Sighting,
    Solicit,
    Watched,
)


class Look(NamedTuple):
    """What one host saw at its points; `error` is why it could not look."""

    host: str
    points: tuple[Point, ...]
    seen: Watched | None
    error: str = ""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """A stop of the way: for each packet, whether the question and the answer were seen there. `transport` is what carries
    them to another host, in words."""

    host: str
    device: str
    at: str
    questions: tuple[bool, ...]
    answers: tuple[bool, ...]
    transport: str = ""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """`ok`: every packet arrived and was answered. `verdict` says in one line what happened, `mend` what to do, `also` what
    else is not as it should be on the way. `packets` are what was sent, in words."""

    ok: bool
    verdict: str
    mend: str
    packets: tuple[str, ...]
    hops: tuple[Hop, ...]
    also: tuple[str, ...] = ()


class _Seen:
    """Everything that was seen, by stop."""

    def __init__(self, way: Way, packets: Sequence[Packet], looks: Mapping[str, Look]) -> None:
        self.way, self.packets, self.looks = way, packets, looks

    def place(self, stop: Stop) -> int:
        return self.looks[stop.host_id].points.index(stop.point)

    def sightings(self, stop: Stop, packet: int, *, answer: bool) -> list[Sighting]:
        seen = self.looks[stop.host_id].seen
        if seen is None:
            return []
        number = self.place(stop)
        return [
            one for one in seen.sightings if one.point == number and one.packet == packet and one.answer is answer
        ]

    def device(self, stop: Stop) -> str:
        seen = self.looks[stop.host_id].seen
        return seen.devices[self.place(stop)] if seen else ""

    def transport(self, stop: Stop) -> str:
        seen = self.looks[stop.host_id].seen
        return seen.transports[self.place(stop)] if seen and seen.transports else ""

    def where(self, stop: Stop) -> str:
        return f"{self.device(stop) or stop.point.at.value} of {self.looks[stop.host_id].host}"

    def faults(self, stop: Stop) -> list[Fault]:
        seen = self.looks[stop.host_id].seen
        number = self.place(stop)
        return [one for one in seen.faults if one.point == number] if seen else []

    def eaten(self, host_id: str) -> tuple[Eaten, ...]:
        seen = self.looks[host_id].seen
        return seen.eaten if seen else ()


def judge(way: Way, packets: Sequence[Packet], looks: Mapping[str, Look]) -> Trace:
    """The verdict on a trace; `looks` are by host id and cover every stop."""
    seen = _Seen(way, packets, looks)
    seen.way = way = _taken(seen)
    hops = tuple(
        Hop(
            host=looks[stop.host_id].host,
            device=seen.device(stop),
            at=stop.point.at.value,
            questions=tuple(bool(seen.sightings(stop, each, answer=False)) for each in range(len(packets))),
            answers=tuple(bool(seen.sightings(stop, each, answer=True)) for each in range(len(packets))),
            transport=seen.transport(stop),
        )
        for stop in way.stops
    )
    words = tuple(map(name, packets))
    blind = [look for look in looks.values() if look.seen is None]
    if blind:
        why = "; ".join(f"{look.host} could not look: {look.error}" for look in blind)
        return Trace(ok=False, verdict=why, mend="", packets=words, hops=hops)
    found = next(filter(None, (_packet(seen, number) for number in range(len(packets)))), None)
    also = [*_rogues(seen), *_rest(seen)]
    if found is None and also and also[0][0].startswith("a second "):
        found = also.pop(0)
    told = tuple(dict.fromkeys(text for text, _ in also if found is None or text not in found[0]))
    if found is None:
        answer = f"{way.who} answers" if way.kind != "address" or way.who == way.target else f"{way.who} ({way.target}) answers"
        return Trace(ok=True, verdict=answer, mend="", packets=words, hops=hops, also=told)
    return Trace(ok=False, verdict=found[0], mend=found[1], packets=words, hops=hops, also=told)


def too_late(way: Way, packets: Sequence[Packet], looks: Mapping[str, Look]) -> bool:
    """Whether a host that saw nothing began to look when all was over: every packet was answered to who sent it."""
    seen = _Seen(way, packets, looks)
    nothing = any(look.seen is not None and not look.seen.sightings for look in looks.values())
    return nothing and all(seen.sightings(way.stops[0], each, answer=True) for each in range(len(packets)))


def _taken(seen: _Seen) -> Way:
    """The way with that of its endings which packets took; as it is where none was seen on any."""
    way = seen.way
    at = next((number for number, stop in enumerate(way.stops) if stop.gateway), len(way.stops))
    for ending in (way.stops[at:], *way.others):
        if ending and any(seen.sightings(ending[0], each, answer=False) for each in range(len(seen.packets))):
            return way._replace(stops=(*way.stops[:at], *ending))
    return way


def name(packet: Packet) -> str:
    """A packet in words."""
    match packet:
        case Dhcp():
            return "DHCP DISCOVER"
        case Dhcp6(stateless=stateless):
            return "DHCPv6 INFORMATION-REQUEST" if stateless else "DHCPv6 SOLICIT"
        case Arp(target=target):
            return f"ARP for {target}"
        case Solicit(target=target):
            return f"neighbour solicitation for {target}"
        case RouterSolicit():
            return "router solicitation"
        case Echo(target=target, size=size):
            return f"{'ICMPv6' if ':' in target else 'ICMP'} echo to {target}, {size} bytes"
        case other:
            return f"TCP SYN to {other.target} port {other.port}"


def _answer_name(packet: Packet) -> str:
    if isinstance(packet, Dhcp6):
        return "REPLY" if packet.stateless else "ADVERTISE"
    words = {"Dhcp": "OFFER", "Arp": "ARP answer", "Solicit": "neighbour advertisement", "Syn": "SYN-ACK"}
    return (words | {"RouterSolicit": "router advertisement", "Echo": "echo reply"})[type(packet).__name__]


def _stops(seen: _Seen, packet: Packet) -> Sequence[Stop]:
    """How far a packet goes: a question for the next hop ends there, one for DHCP stays on the host."""
    stops = seen.way.stops
    if seen.way.kind == "autoconfiguration":
        return [stop for stop in stops if isinstance(packet, RouterSolicit) is not (stop.point.at is At.DHCP) or stop is stops[0]]
    if not isinstance(packet, Arp | Solicit):
        return stops
    if seen.way.edge is not None:
        return (stops[0], seen.way.edge)
    for number, stop in enumerate(stops):
        if stop.point.at is At.LEG:
            return stops[: number + 1]
    return stops


def _packet(seen: _Seen, number: int) -> tuple[str, str] | None:
    """What happened to one packet; None when it was answered."""
    packet = seen.packets[number]
    stops = _stops(seen, packet)
    for answer, order in ((False, list(stops)), (True, list(reversed(stops)))):
        before: Stop | None = None
        for stop in order:
            if seen.sightings(stop, number, answer=answer):
                before = stop
                continue
            if answer and before is None:
                return _unanswered(seen, number, stop)
            return _gap(seen, number, before, stop, answer=answer)
    return None


def _gap(seen: _Seen, number: int, before: Stop | None, stop: Stop, *, answer: bool) -> tuple[str, str]:
    packet = seen.packets[number]
    what = _answer_name(packet) if answer else name(packet)
    at = f"{what} seen on {seen.where(before)}, not on {seen.where(stop)}" if before else f"{what} not seen on {seen.where(stop)}"
    hosts = dict.fromkeys(each.host_id for each in (before, stop) if each is not None)
    for cause, mend in _causes(seen, number, [each for each in (before, stop) if each], hosts, answer=answer):
        return f"{at}: {cause}", mend
    if before is not None and before.host_id != stop.host_id:
        tunnel = before.point.at is At.UNDERLAY
        here = (each for each in seen.way.stops if each.host_id == before.host_id)
        by = next(filter(None, map(seen.transport, here)), "")
        lost = f"the tunnel's packets ({by}) are lost" if tunnel else "its frames are lost"
        return (
            f"{at}: {lost} between the hosts",
            f"let {by} pass between them; is a firewall or cloud filter in between?"
            if tunnel
            else "check the switch ports between them: VLANs allowed, MAC filters, forged transmits",
        )
    if isinstance(packet, Echo) and number and packet.size > 84:
        return f"{at}, though a small one was: the MTU there is below {packet.size}", "raise the MTU or lower the network's"
    return at, ""


def _causes(
    seen: _Seen, number: int, stops: Sequence[Stop], hosts: Mapping[str, None], *, answer: bool
) -> Iterator[tuple[str, str]]:
    """The likeliest first: a rule that ate this very packet, then what is wrong at the stops."""
    eaten = [(host, one) for host in hosts for one in seen.eaten(host)]
    for host, one in sorted(eaten, key=lambda pair: (pair[1].packet != number, not pair[1].foreign)):
        if (one.packet == number and one.answer is answer) or (one.packet == -1 and one.foreign):
            yield _rule(seen, host, one)
    for stop in stops:
        for fault in seen.faults(stop):
            yield f"on {seen.looks[stop.host_id].host}, {fault.words}", fault.mend


def _rule(seen: _Seen, host_id: str, one: Eaten) -> tuple[str, str]:
    host = seen.looks[host_id].host
    rule = f"rule {one.number}" if one.number else "policy" if not one.rule else "rule"
    where = f"{one.family} {one.table} {one.chain} {rule}"
    verb = "rejected" if one.verdict == "reject" else "dropped"
    text = (f" ({one.rule})" if one.rule else "") + (f" in {one.namespace}" if one.namespace else "")
    if one.foreign:
        return (
            f"{verb} by {host}'s {where}{text}",
            f"this rule is not ours: remove it, or let the cloud's packets pass before it (on {host})",
        )
    if one.family == "inet":
        return (
            f"dropped on {host} by the port's security groups",
            "openstack security group rule create, for the group of the port that should let it pass",
        )
    return f"{verb} on {host} by {where}{text}", ""


def _unanswered(seen: _Seen, number: int, last: Stop) -> tuple[str, str]:
    packet = seen.packets[number]
    what = f"{name(packet)} reached {seen.where(last)}"
    left = [stop for stop in seen.way.stops if stop.gateway]
    for stop in left:
        for one in seen.sightings(stop, number, answer=False):
            if one.leaving and one.source == seen.way.address and isinstance(packet, Echo) and ":" not in one.source:
                faults = seen.faults(stop)
                return (
                    f"{what}, but left {seen.where(stop)} as {one.source}, without NAT: nobody outside can answer"
                    + (f"; {faults[0].words}" if faults else ""),
                    faults[0].mend if faults else "openstack router set --enable-snat ROUTER",
                )
    for answer in (False, True):
        # A capture sees the question before the rules of the host that should take it.
        for cause, mend in _causes(seen, number, [last], {last.host_id: None}, answer=answer):
            return f"{what}, no {_answer_name(packet)}: {cause}", mend
    if isinstance(packet, Echo) and number and packet.size > 84:
        return f"{what}, no echo reply, though a small one is answered: the MTU beyond is below {packet.size}", ""
    if last.point.at is At.TAP:
        return f"{what}: the guest does not answer", "look inside the guest: is its address configured, does its firewall let it answer?"
    if left and isinstance(packet, Echo) and ":" in packet.target:
        return (
            f"{what}: no echo reply from {seen.way.who}",
            f"IPv6 is not translated: whoever is outside needs a route to {seen.way.address} by the router's gateway address",
        )
    nexthop = seen.way.nexthop if isinstance(packet, Arp | Solicit) else seen.way.who
    return f"{what}: no {_answer_name(packet)} from {nexthop}", ""


def _rogues(seen: _Seen) -> Iterator[tuple[str, str]]:
    """DHCP servers that are not ours, heard or already silenced."""
    if seen.way.kind not in ("dhcp", "autoconfiguration"):
        return
    for look in seen.looks.values():
        assert look.seen is not None
        for one in look.seen.sightings:
            router = isinstance(seen.packets[one.packet], RouterSolicit)
            known = seen.way.routers if router else (seen.way.nexthop_mac,)
            if one.answer and known and one.by not in known:
                device = look.seen.devices[one.point]
                what = "router" if router else "DHCP server"
                yield (
                    f"a second {what}, {one.source} with MAC {one.by}, answers too (seen on {device} of {look.host})",
                    "find it by its MAC and switch it off; port security on its port would have stopped it",
                )
        for each in look.seen.eaten:
            if each.answer and not each.foreign and each.family == "bridge":
                yield (
                    f"a DHCP server that is not ours answered and was stopped on {look.host} ({each.chain}: {each.rule})",
                    "",
                )


def _rest(seen: _Seen) -> Iterator[tuple[str, str]]:
    for stop in seen.way.stops:
        for fault in seen.faults(stop):
            yield f"on {seen.looks[stop.host_id].host}, {fault.words}", fault.mend
