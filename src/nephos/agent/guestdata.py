"""What a guest is told about itself: the config drive's files and the answers of 169.254.169.254.

Formats, names and dates are those of Nova's metadata service and of EC2's, version 2009-04-04, because cloud-init and
its kin know them by heart.
"""

from __future__ import annotations

import base64
import ipaddress
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nephos.kernel import clock

OPENSTACK_VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
)
EC2_VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
)
LATEST = "latest"
_SEED_BYTES = 512
PASSWORD_MOST = 1020
"""Bytes of a password that a guest posts, as in Nova: room for what an RSA key of 4096 bits encrypts, in Base64."""
_PASSWORD, _PASSWORD_SINCE = "password", "2013-04-04"
_DEFAULT_ROUTES = {4: ("0.0.0.0", "0.0.0.0"), 6: ("::", "::")}

_encode = msgspec.json.Encoder().encode


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key pair's public half; `type` is ssh or x509."""

    name: str
    type: str = "ssh"
    data: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a card with what its subnet says. `dhcp` tells that the guest is to ask for it.

    `routes` are (destination, next hop) besides the default one; `mode` is the subnet's ipv6_address_mode.
    """

    network_id: str
    address: str
    prefix: int
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    dhcp: bool = True
    mode: str | None = None


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A network card of the guest, in its order."""

    port_id: str
    mac: str
    mtu: int
    places: tuple[Place, ...] = ()


class GuestData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a guest may learn about itself.

    `hostname` is whole, with the domain. `number` is the one in the libvirt name: instance-%08x and EC2's i-%08x.
    `admin_pass` is told by the config drive only; `password`, which the guest posted itself, by the service only. `files`
    are (path, content) to inject. `random_seed` is fresh for every reader unless given. `fixed_ip` and `floating_ip` are
    the first IPv4 addresses.
    """

    uuid: str
    name: str
    hostname: str
    project_id: str
    number: int = 0
    availability_zone: str | None = None
    launch_index: int = 0
    reservation_id: str = ""
    flavor: str = ""
    security_groups: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    meta: dict[str, str] = {}
    admin_pass: str | None = None
    password: str | None = None
    user_data: bytes | None = None
    vendor_data: dict[str, Any] = {}
    files: tuple[tuple[str, bytes], ...] = ()
    cards: tuple[Card, ...] = ()
    floating_ip: str | None = None
    root_device: str = "/dev/vda"
    kernel: bool = False
    ramdisk: bool = False
    random_seed: bytes | None = None

    @property
    def fixed_ip(self) -> str:
        for place in (place for card in self.cards for place in card.places):
            if ipaddress.ip_address(place.address).version == 4:
                return place.address
        return ""


def render(data: GuestData) -> dict[str, bytes]:
    """The files of the config drive: path → content."""
    files: dict[str, bytes] = {}
    for version in (EC2_VERSIONS[-1], LATEST):
        tree = _ec2(data, EC2_VERSIONS[-1])
        for key in tree["meta-data"].get("public-keys", {}).values():
            del key["_name"]
        files[f"ec2/{version}/meta-data.json"] = _encode(tree["meta-data"])
        if data.user_data is not None:
            files[f"ec2/{version}/user-data"] = data.user_data
    for version in (*OPENSTACK_VERSIONS, LATEST):
        real = OPENSTACK_VERSIONS[-1] if version == LATEST else version
        for name in _names(data, real):
            if name != _PASSWORD:
                files[f"openstack/{version}/{name}"] = _openstack(data, real, name, data.admin_pass)
    for number, (_, content) in enumerate(data.files):
        files[f"openstack/content/{number:04}"] = content
    return files


def lookup(data: GuestData, url_path: str) -> bytes | None:
    """The body for a path at 169.254.169.254; directories answer with their listing, None means 404."""
    path = posixpath.normpath("/" + url_path.split("?", 1)[0].lstrip("/"))
    tokens = [token for token in path.split("/") if token]
    if tokens[:1] == ["openstack"]:
        return _lookup_openstack(data, tokens[1:])
    return _lookup_ec2(data, tokens[1:] if tokens[:1] == ["ec2"] else tokens)


def takes_password(url_path: str) -> bool:
    """Whether this is the one path at 169.254.169.254 that a guest may post to."""
    tokens = [token for token in posixpath.normpath("/" + url_path.lstrip("/")).split("/") if token]
    if len(tokens) != 3 or (tokens[0], tokens[2]) != ("openstack", _PASSWORD):
        return False
    return tokens[1] == LATEST or (tokens[1] in OPENSTACK_VERSIONS and tokens[1] >= _PASSWORD_SINCE)


def network_data(cards: Sequence[Card]) -> dict[str, list[dict[str, Any]]]:
    """network_data.json: links, the networks on them, and the services found there."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, Any]] = []
    for card in cards:
        if not card.places:
            continue
        link = {
            "id": "tap" + card.port_id[:11],
            "vif_id": card.port_id,
            "type": "bridge",
            "mtu": card.mtu,
            "ethernet_mac_address": card.mac,
        }
        links.append(link)
        for place in card.places:
            networks.append(_network(place, f"network{len(networks)}", link["id"]))
            services += [service for service in _dns(place) if service not in services]
    return {"links": links, "networks": networks, "services": services}


def _network(place: Place, name: str, link: Any) -> dict[str, Any]:
    subnet = ipaddress.ip_interface(f"{place.address}/{place.prefix}")
    version = subnet.version
    if place.dhcp and place.mode is None:
        return {"id": name, "type": f"ipv{version}_dhcp", "link": link, "network_id": place.network_id}
    routes = []
    if place.gateway is not None:
        network, mask = _DEFAULT_ROUTES[version]
        routes.append({"network": network, "netmask": mask, "gateway": place.gateway})
    for destination, nexthop in place.routes:
        target = ipaddress.ip_network(destination)
        routes.append({"network": str(target.network_address), "netmask": str(target.netmask), "gateway": nexthop})
    return {
        "id": name,
        "type": f"ipv{version}_{place.mode}" if place.mode else f"ipv{version}",
        "link": link,
        "ip_address": place.address,
        "netmask": str(subnet.netmask),
        "routes": routes,
        "network_id": place.network_id,
        "services": _dns(place),
    }


def _dns(place: Place) -> list[dict[str, Any]]:
    return [{"type": "dns", "address": address} for address in place.dns]


# --- OpenStack's tree ----------------------------------------------------------------------------------------


def _names(data: GuestData, version: str) -> Iterator[str]:
    yield "meta_data.json"
    if data.user_data is not None:
        yield "user_data"
    for name, since in (
        (_PASSWORD, _PASSWORD_SINCE),
        ("vendor_data.json", "2013-10-17"),
        ("network_data.json", "2015-10-15"),
        ("vendor_data2.json", "2016-10-06"),
    ):
        if version >= since:
            yield name


def _openstack(data: GuestData, version: str, name: str, admin_pass: str | None) -> bytes:
    match name:
        case "meta_data.json":
            return _encode(_meta_data(data, version, admin_pass))
        case "user_data":
            return data.user_data or b""
        case "vendor_data.json":
            return _encode(data.vendor_data)
        case "vendor_data2.json":
            return _encode({"static": data.vendor_data})
        case "network_data.json":
            return _encode(network_data(data.cards))
        case _:
            return (data.password or "").encode()


def _meta_data(data: GuestData, version: str, admin_pass: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"uuid": data.uuid}
    if data.meta:
        found["meta"] = data.meta
    if data.files:
        found["files"] = [
            {"path": path, "content_path": f"/content/{number:04}"} for number, (path, _) in enumerate(data.files)
        ]
    if admin_pass is not None:
        found["admin_pass"] = admin_pass
    if data.keys:
        found["public_keys"] = {key.name: key.data for key in data.keys}
        found["keys"] = [{"name": key.name, "type": key.type, "data": key.data} for key in data.keys]
    found["hostname"] = data.hostname
    found["name"] = data.name
    found["launch_index"] = data.launch_index
    found["availability_zone"] = data.availability_zone
    if version >= "2013-04-04":
        found["random_seed"] = base64.b64encode(data.random_seed or clock.token_bytes(_SEED_BYTES)).decode()
    if version >= "2015-10-15":
        found["project_id"] = data.project_id
    if version >= "2016-06-30":
        found["devices"] = []
    if version >= "2020-10-14":
        found["dedicated_cpus"] = []
    return found


def _lookup_openstack(data: GuestData, tokens: list[str]) -> bytes | None:
    if not tokens:
        today = clock.iso(clock.now_us()) or ""
        return _lines([*(version for version in OPENSTACK_VERSIONS if version <= today[:10]), LATEST])
    if tokens[0] == "content":
        contents = {f"{number:04}": content for number, (_, content) in enumerate(data.files)}
        return contents.get(tokens[1]) if len(tokens) == 2 else None
    version = OPENSTACK_VERSIONS[-1] if tokens[0] == LATEST else tokens[0]
    if version not in OPENSTACK_VERSIONS or len(tokens) > 2:
        return None
    names = list(_names(data, version))
    if len(tokens) == 1:
        return _lines(names)
    return _openstack(data, version, tokens[1], None) if tokens[1] in names else None


# --- EC2's tree ----------------------------------------------------------------------------------------------


def _ec2(data: GuestData, version: str) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "ami-id": f"ami-{data.number:08x}",
        "ami-launch-index": data.launch_index,
        "ami-manifest-path": "FIXME",
        "instance-id": f"i-{data.number:08x}",
        "hostname": data.hostname,
        "local-ipv4": data.fixed_ip,
        "reservation-id": data.reservation_id,
        "security-groups": list(data.security_groups),
    }
    if data.keys:
        meta["public-keys"] = {
            str(number): {"_name": f"{number}={key.name}", "openssh-key": key.data}
            for number, key in enumerate(data.keys)
        }
    if version >= "2007-01-19":
        meta["local-hostname"] = data.hostname
        meta["public-hostname"] = data.hostname
        meta["public-ipv4"] = data.floating_ip or ""
    if version >= "2007-08-29":
        meta["instance-type"] = data.flavor
    if version >= "2007-12-15":
        meta["block-device-mapping"] = {"ami": data.root_device.removeprefix("/dev/"), "root": data.root_device}
        if data.kernel:
            meta["kernel-id"] = f"aki-{data.number:08x}"
        if data.ramdisk:
            meta["ramdisk-id"] = f"ari-{data.number:08x}"
    if version >= "2008-02-01":
        meta["placement"] = {"availability-zone": data.availability_zone or ""}
    if version >= "2008-09-01":
        meta["instance-action"] = "none"
    tree: dict[str, Any] = {"meta-data": meta}
    if data.user_data is not None:
        tree["user-data"] = data.user_data
    return tree


def _lookup_ec2(data: GuestData, tokens: list[str]) -> bytes | None:
    if not tokens:
        return _lines([*EC2_VERSIONS, LATEST])
    version = EC2_VERSIONS[-1] if tokens[0] == LATEST else tokens[0]
    if version not in EC2_VERSIONS:
        return None
    found: Any = _ec2(data, version)
    for token in tokens[1:]:
        if not isinstance(found, dict) or token not in found or token == "_name":
            return None
        found = found[token]
    return _print(found)


def _print(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        return _lines(value)
    if not isinstance(value, dict):
        return str(value).encode()
    names = []
    for name in sorted(set(value) - {"_name"}):
        below = value[name]
        names.append(below.get("_name", f"{name}/") if isinstance(below, dict) else name)
    return _lines(names)


def _lines(lines: Sequence[str]) -> bytes:
    return "\n".join(lines).encode()
