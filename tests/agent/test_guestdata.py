"""What a guest learns about itself, by config drive and by 169.254.169.254: paths and shapes as Nova has them."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from nephos.agent import guestdata
from nephos.agent.guestdata import Card, GuestData, Key, Place, lookup, network_data, render

SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA demo@host"
CARDS = (
    Card(
        port_id="0a1b2c3d-4e5f-4000-8000-000000000000",
        mac="fa:16:3e:00:00:01",
        mtu=1450,
        places=(
            Place(network_id="net-1", address="10.0.0.5", prefix=24, gateway="10.0.0.1", dns=("8.8.8.8",)),
            Place(network_id="net-1", address="fd00::5", prefix=64, gateway="fd00::1", mode="slaac"),
        ),
    ),
    Card(
        port_id="1a1b2c3d-4e5f-4000-8000-000000000000",
        mac="fa:16:3e:00:00:02",
        mtu=1500,
        places=(
            Place(
                network_id="net-2",
                address="192.168.5.9",
                prefix=22,
                gateway="192.168.4.1",
                dns=("8.8.8.8", "1.1.1.1"),
                routes=(("10.9.0.0/16", "192.168.4.2"),),
                dhcp=False,
            ),
        ),
    ),
    Card(port_id="2a1b2c3d-4e5f-4000-8000-000000000000", mac="fa:16:3e:00:00:03", mtu=1500),
)
DATA = GuestData(
    uuid="83679162-1378-4288-a2d4-70e13ec132aa",
    name="wéb server",
    hostname="web-server.nephos.local",
    project_id="f7ac731cc11f40efbc03a9f9e1d1d21f",
    number=42,
    availability_zone="nova",
    launch_index=1,
    reservation_id="r-abcdefgh",
    flavor="m1.tiny",
    security_groups=("default", "web"),
    keys=(Key(name="demo", data=SSH),),
    meta={"role": "wéb"},
    admin_pass="secret",
    user_data=b"#!/bin/sh\n\xff\n",
    files=(("/etc/motd", b"hello"),),
    cards=CARDS,
)
PLAIN = GuestData(uuid="u", name="n", hostname="n", project_id="p")


def get(path: str, data: GuestData = DATA) -> str:
    body = lookup(data, path)
    assert body is not None, path
    return body.decode()


def meta_data(path: str, data: GuestData = DATA) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(path, data))
    return found


def test_it_survives_the_wire() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(DATA), type=GuestData) == DATA


def test_the_password_is_what_the_guest_posted_and_may_be_posted_at_one_place() -> None:
    posted = msgspec.structs.replace(DATA, password="b64+/=")
    assert lookup(DATA, "/openstack/latest/password") == b""
    assert lookup(posted, "/openstack/2013-04-04/password") == b"b64+/="
    assert not any("/password" in name or b"b64+/=" in content for name, content in render(posted).items())
    paths = ("/openstack/latest/password", "/openstack/2013-10-17/password", "//openstack/./latest/password/")
    assert all(map(guestdata.takes_password, paths))
    others = ("/openstack/2012-08-10/password", "/openstack/2014-01-01/password", "/latest/password", "/openstack/latest/user_data")
    assert not any(map(guestdata.takes_password, others))


def test_listings() -> None:
    versions = "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest"
    assert get("/") == get("") == get("/ec2") == versions
    assert get("/openstack").split("\n")[0] == "2012-08-10"
    assert get("/openstack/").split("\n")[-1] == "latest"
    assert get("/openstack/latest/").split("\n") == [
        "meta_data.json",
        "user_data",
        "password",
        "vendor_data.json",
        "network_data.json",
        "vendor_data2.json",
    ]
    assert get("/openstack/2012-08-10") == "meta_data.json\nuser_data"
    assert "user_data" not in get("/openstack/latest", PLAIN)
    assert get("/latest") == get("/2009-04-04/") == "meta-data/\nuser-data"
    assert get("/latest", PLAIN) == "meta-data/"
    assert get("/latest/meta-data/").split("\n") == [
        "ami-id",
        "ami-launch-index",
        "ami-manifest-path",
        "block-device-mapping/",
        "hostname",
        "instance-action",
        "instance-id",
        "instance-type",
        "local-hostname",
        "local-ipv4",
        "placement/",
        "public-hostname",
        "public-ipv4",
        "public-keys/",
        "reservation-id",
        "security-groups",
    ]
    assert "placement/" not in get("/2007-12-15/meta-data/")
    assert "public-keys/" not in get("/latest/meta-data/", PLAIN)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/latest/meta-data/instance-id", "i-0000002a"),
        ("/latest/meta-data/local-ipv4", "10.0.0.5"),
        ("/latest/meta-data/hostname", "web-server.nephos.local"),
        ("/latest/meta-data/ami-launch-index", "1"),
        ("/latest/meta-data/public-keys", "0=demo"),
        ("/latest/meta-data/public-keys/", "0=demo"),
        ("/latest/meta-data/public-keys/0/", "openssh-key"),
        ("/latest/meta-data/public-keys/0/openssh-key", SSH),
        ("/latest/meta-data/placement/availability-zone", "nova"),
        ("/latest/meta-data/security-groups", "default\nweb"),
        ("/latest/meta-data/block-device-mapping/root", "/dev/vda"),
        ("/latest/meta-data/block-device-mapping/", "ami\nroot"),
        ("/2009-04-04/meta-data/instance-type", "m1.tiny"),
        ("/latest/meta-data/reservation-id", "r-abcdefgh"),
        ("//latest///meta-data/./instance-id", "i-0000002a"),
        ("/latest/meta-data/instance-id?x=1", "i-0000002a"),
        ("/openstack/content/0000", "hello"),
    ],
)
def test_values(path: str, body: str) -> None:
    assert get(path) == body


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/latest/nothing",
        "/latest/meta-data/nothing",
        "/latest/meta-data/instance-id/deeper",
        "/latest/meta-data/security-groups/0",
        "/latest/meta-data/public-keys/1",
        "/latest/meta-data/public-keys/0/_name",
        "/openstack/2099-01-01",
        "/openstack/latest/nothing",
        "/openstack/latest/meta_data.json/deeper",
        "/openstack/2012-08-10/network_data.json",
        "/openstack/content",
        "/openstack/content/0001",
        "/openstack/../../etc/passwd",
    ],
)
def test_what_is_not_there(path: str) -> None:
    assert lookup(DATA, path) is None


def test_user_data_keeps_its_bytes() -> None:
    assert lookup(DATA, "/latest/user-data") == lookup(DATA, "/openstack/latest/user_data") == DATA.user_data
    assert lookup(PLAIN, "/latest/user-data") is None
    assert lookup(PLAIN, "/openstack/latest/user_data") is None


def test_meta_data_json() -> None:
    found = meta_data("/openstack/latest/meta_data.json")
    assert len(base64.b64decode(found.pop("random_seed"))) == 512
    assert found == {
        "uuid": DATA.uuid,
        "name": "wéb server",
        "hostname": "web-server.nephos.local",
        "launch_index": 1,
        "availability_zone": "nova",
        "project_id": DATA.project_id,
        "meta": {"role": "wéb"},
        "public_keys": {"demo": SSH},
        "keys": [{"name": "demo", "type": "ssh", "data": SSH}],
        "files": [{"path": "/etc/motd", "content_path": "/content/0000"}],
        "devices": [],
        "dedicated_cpus": [],
    }
    assert not {"random_seed", "project_id", "devices"} & meta_data("/openstack/2012-08-10/meta_data.json").keys()
    assert not {"meta", "keys", "public_keys", "files"} & meta_data("/openstack/latest/meta_data.json", PLAIN).keys()
    first, second = (meta_data("/openstack/latest/meta_data.json")["random_seed"] for _ in range(2))
    assert first != second


def test_the_password_is_told_by_the_config_drive_only() -> None:
    assert "secret" not in get("/openstack/latest/meta_data.json")
    drive = render(DATA)
    assert json.loads(drive["openstack/latest/meta_data.json"])["admin_pass"] == "secret"
    assert get("/openstack/latest/password") == ""


def test_network_data() -> None:
    found = network_data(CARDS)
    assert found["links"] == [
        {
            "id": "tap0a1b2c3d-4e",
            "vif_id": CARDS[0].port_id,
            "type": "bridge",
            "mtu": 1450,
            "ethernet_mac_address": "fa:16:3e:00:00:01",
        },
        {
            "id": "tap1a1b2c3d-4e",
            "vif_id": CARDS[1].port_id,
            "type": "bridge",
            "mtu": 1500,
            "ethernet_mac_address": "fa:16:3e:00:00:02",
        },
    ]
    dhcp, slaac, static = found["networks"]
    assert dhcp == {"id": "network0", "type": "ipv4_dhcp", "link": "tap0a1b2c3d-4e", "network_id": "net-1"}
    assert (slaac["type"], slaac["netmask"]) == ("ipv6_slaac", "ffff:ffff:ffff:ffff::")
    assert slaac["routes"] == [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]
    assert static == {
        "id": "network2",
        "type": "ipv4",
        "link": "tap1a1b2c3d-4e",
        "ip_address": "192.168.5.9",
        "netmask": "255.255.252.0",
        "network_id": "net-2",
        "routes": [
            {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.168.4.1"},
            {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "192.168.4.2"},
        ],
        "services": [{"type": "dns", "address": "8.8.8.8"}, {"type": "dns", "address": "1.1.1.1"}],
    }
    assert found["services"] == [{"type": "dns", "address": "8.8.8.8"}, {"type": "dns", "address": "1.1.1.1"}]
    assert json.loads(get("/openstack/latest/network_data.json")) == found


def test_the_config_drive() -> None:
    drive = render(DATA)
    for version in (*guestdata.OPENSTACK_VERSIONS, "latest"):
        assert f"openstack/{version}/meta_data.json" in drive
        assert drive[f"openstack/{version}/user_data"] == DATA.user_data
        assert (f"openstack/{version}/network_data.json" in drive) == (version >= "2015-10-15")
    assert drive["openstack/content/0000"] == b"hello"
    assert drive["openstack/latest/vendor_data.json"] == b"{}"
    assert json.loads(drive["openstack/latest/vendor_data2.json"]) == {"static": {}}
    ec2 = json.loads(drive["ec2/latest/meta-data.json"])
    assert ec2["instance-id"] == "i-0000002a"
    assert ec2["public-keys"] == {"0": {"openssh-key": SSH}}
    assert drive["ec2/2009-04-04/user-data"] == DATA.user_data
    assert not any(path.endswith("password") for path in drive)
    assert "openstack/latest/user_data" not in render(PLAIN)
