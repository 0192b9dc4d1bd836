"""Text of addresses, ranges and MACs, checked and brought into one form."""

from __future__ import annotations

import ipaddress
import re

from nephos.kernel import clock
from nephos.network import problems

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAC = re.compile(r"(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_BASE = "fa:16:3e"
_LABEL = r"[0-9a-zA-Z](?:[0-9a-zA-Z-]{0,61}[0-9a-zA-Z])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def address(attribute: str, value: str) -> IPAddress:
    """Raises BadRequest."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError as wrong:
        raise problems.invalid(attribute, f"'{value}' is not a valid IP address") from wrong
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id:
        raise problems.invalid(attribute, f"'{value}' is not a valid IP address")
    return found


def network(attribute: str, value: str) -> IPNetwork:
    """A range in its own form, as Neutron asks for it. Raises BadRequest."""
    try:
        found = ipaddress.ip_network(value, strict=False)
    except ValueError as wrong:
        raise problems.invalid(attribute, f"'{value}' is not a valid IP subnet") from wrong
    if "/" not in value or ipaddress.ip_address(value.split("/")[0]) != found.network_address:
        raise problems.invalid(attribute, f"'{value}' isn't a recognized IP subnet cidr, '{found}' is recommended")
    return found


def prefix(attribute: str, value: str) -> str:
    """A range or one address, as a range in its own form. Raises BadRequest."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as wrong:
        raise problems.invalid(attribute, f"'{value}' is neither an IP address nor a subnet") from wrong


def written(attribute: str, value: str) -> str:
    """A range or one address with its length, the address as it was given. Raises BadRequest."""
    try:
        return str(ipaddress.ip_interface(value))
    except ValueError as wrong:
        raise problems.invalid(attribute, f"'{value}' is neither an IP address nor a subnet") from wrong


def uuid(attribute: str, value: str) -> str:
    """An id as OpenStack's are. Raises BadRequest."""
    if not _UUID.fullmatch(value):
        raise problems.invalid(attribute, f"'{value}' is not a valid UUID")
    return value


def mac(attribute: str, value: str) -> str:
    """Lower case with colons. Raises BadRequest, also for a group address."""
    plain = value.lower()
    if not _MAC.fullmatch(plain):
        raise problems.invalid(attribute, f"'{value}' is not a valid MAC address")
    digits = plain.replace(":", "").replace("-", "")
    if int(digits[1], 16) & 1 or digits == "0" * 12:
        raise problems.invalid(attribute, f"'{value}' is not the MAC address of one device")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def new_mac() -> str:
    """A random one of the range that OpenStack's networks use."""
    number = clock.pick(1 << 24)
    return f"{_BASE}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def eui64(range_: IPNetwork, of: str) -> str:
    """The address that a device with this MAC gives itself in a /64 (RFC 4291, modified EUI-64)."""
    octets = bytes.fromhex(of.replace(":", ""))
    body = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(int(range_.network_address) | int.from_bytes(body, "big")))


def hostname(attribute: str, value: str) -> str:
    """A DNS name without the dot at the end. Raises BadRequest."""
    if value and (len(value) > 253 or not _HOST.fullmatch(value)):
        raise problems.invalid(attribute, f"'{value}' is not a valid DNS name")
    return value


def default_hostname(of: str) -> str:
    """The name of an address that has no other: host-10-0-0-5."""
    return "host-" + of.replace(".", "-").replace(":", "-")
