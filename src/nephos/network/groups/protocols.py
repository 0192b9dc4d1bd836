"""IP protocols by the names that security group rules take (IANA's numbers)."""

from __future__ import annotations

from nephos.network import problems

NAMES = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
PORTED = frozenset({"tcp", "udp", "udplite", "sctp", "dccp", "6", "17", "136", "132", "33"})
_ICMP = frozenset({"icmp", "icmpv6", "ipv6-icmp", "1", "58"})
_NAMES_6 = frozenset({"icmpv6", "ipv6-icmp", "ipv6-encap", "ipv6-frag", "ipv6-nonxt", "ipv6-opts", "ipv6-route"})
_ONLY_6 = frozenset({*_NAMES_6, *(str(NAMES[name]) for name in _NAMES_6)})


def canonical(value: str | int | None) -> str | None:
    """A protocol as it is kept: a name in lower case or a number as text. Raises BadRequest."""
    if value is None:
        return None
    text = str(value).lower()
    if text in ("", "any"):
        return None if text == "" else "any"
    if text.isascii() and text.isdigit() and int(text) <= 255:
        return str(int(text))
    if text in NAMES:
        return text
    raise problems.bad(
        f"Security group rule protocol {value} not supported. Only protocol values {sorted(NAMES)} and integer "
        "representations [0 to 255] are supported.",
        "SecurityGroupRuleInvalidProtocol",
    )


def is_icmp(protocol: str) -> bool:
    return protocol in _ICMP


def version_of(protocol: str | None) -> int | None:
    """The only IP version that a protocol is for, if there is one."""
    return 6 if protocol in _ONLY_6 else None


def number_of(protocol: str | None) -> str | None:
    """The number that hosts are told, as text; None for any protocol."""
    number = NAMES.get(protocol, protocol) if protocol is not None and protocol != "any" else None
    return None if number in (None, 0, "0") else str(number)
