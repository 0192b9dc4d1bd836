"""One suite for every wiring driver: what the agent relies on, whichever driver it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import pytest

from nephos.wiring.base import Desired, Fact, Leftover, Port, WiringSettings
from nephos.wiring.fake import FakeWiring
from tests.hosts.lab import Lab, wait
from tests.hosts.wiring_lab import Cloud, HostWiring, new_id


class Driver(Protocol):
    """A driver on a host of its own, its facts, and a guest's doings there."""

    settings: WiringSettings

    def apply(self, desired: Desired) -> dict[str, str]: ...
    def tap(self, port: Port) -> str: ...
    def leftovers(self, desired: Desired) -> list[Leftover]: ...
    def purge(self) -> None: ...
    def expect(self, port: Port) -> None: ...
    def unexpect(self, port: Port) -> None: ...
    def facts(self) -> list[Fact]: ...
    def boot(self, port: Port) -> str: ...
    def ask(self, port: Port, path: str) -> str | None: ...
    def post(self, port: Port, path: str, text: str) -> int: ...


class Fake:
    def __init__(self) -> None:
        self.settings = WiringSettings(physical={})
        self._wiring = FakeWiring(self.settings)
        self._facts: list[Fact] = []
        self._wiring.watch(self._facts.append)
        self._wiring.serve_metadata(
            lambda port, path: None if path == "/nothing" else f"{port} {path}".encode(),
            lambda port, path, body: 200 if (path, body) == ("/password", port.encode()) else 409,
        )

    def apply(self, desired: Desired) -> dict[str, str]:
        return {f"{key.kind} {key.id}": text for key, text in self._wiring.apply(desired).items()}

    def tap(self, port: Port) -> str:
        return self._wiring.tap_name(port.id)

    def leftovers(self, desired: Desired) -> list[Leftover]:
        return self._wiring.leftovers(desired)

    def purge(self) -> None:
        self._wiring.purge()

    def expect(self, port: Port) -> None:
        self._wiring.expect([port.id])

    def unexpect(self, port: Port) -> None:
        self._wiring.unexpect([port.id])

    def facts(self) -> list[Fact]:
        return list(self._facts)

    def boot(self, port: Port) -> str:
        return str(self._wiring.guest_boots(port.id))

    def ask(self, port: Port, path: str) -> str | None:
        body = self._wiring.guest_asks(port.id, path)
        return None if body is None else body.decode()

    def post(self, port: Port, path: str, text: str) -> int:
        return self._wiring.guest_posts(port.id, path, text.encode())


class Linux:
    """The real driver in a lab host, with either switch; a pretend guest opens the tap and speaks DHCP and HTTP."""

    def __init__(self, lab: Lab, switch: Literal["linux", "openvswitch"]) -> None:
        self.settings = WiringSettings(physical={}, switch=switch)
        self._wiring = HostWiring(lab.hosts[0], settings=self.settings)

    def apply(self, desired: Desired) -> dict[str, str]:
        errors: dict[str, str] = self._wiring.apply(desired)["errors"]
        return errors

    def tap(self, port: Port) -> str:
        name = f"tap{port.id[:11]}"
        assert name in self._wiring.host.out("ip -br link")
        return name

    def links(self) -> str:
        return self._wiring.host.out("ip -br link")

    def leftovers(self, desired: Desired) -> list[Leftover]:
        return self._wiring.leftovers(desired)

    def purge(self) -> None:
        self._wiring.purge()

    def expect(self, port: Port) -> None:
        self._wiring.expect(port.id)
        assert self.tap(port)

    def unexpect(self, port: Port) -> None:
        self._wiring.unexpect(port.id)

    def facts(self) -> list[Fact]:
        return self._wiring.facts()

    def boot(self, port: Port) -> str:
        self._guest = self._wiring.guest(port)
        return self._guest.dhcp()["ip"]

    def ask(self, port: Port, path: str) -> str | None:
        status, body = self._guest.http(f"http://169.254.169.254{path}")
        assert status in (200, 404)
        return body if status == 200 else None

    def post(self, port: Port, path: str, text: str) -> int:
        return self._guest.http(f"http://169.254.169.254{path}", "-X", "POST", "-d", text)[0]


@pytest.fixture(params=["fake", *(pytest.param(name, marks=pytest.mark.host) for name in ("linux", "openvswitch"))])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    if request.param == "fake":
        yield Fake()
    else:
        with Lab(tmp_path / "lab") as lab:
            yield Linux(lab, request.param)


class _Wirings:
    """Enough of a HostWiring for `Cloud` to describe states for any driver."""

    def __init__(self, settings: WiringSettings) -> None:
        self.settings = settings


def cloud_for(driver: Driver) -> Cloud:
    return Cloud([_Wirings(driver.settings)])  # type: ignore[list-item]


def test_a_port_gets_its_tap_an_address_and_metadata(driver: Driver) -> None:
    cloud = cloud_for(driver)
    network = cloud.network()
    port = cloud.port(network, 11, name="one")
    assert driver.apply(cloud.desired()) == {}
    assert driver.tap(port) == f"tap{port.id[:11]}"
    assert driver.boot(port) == "10.1.0.11"
    assert driver.ask(port, "/nothing") is None
    assert driver.ask(port, "/latest/user-data") == f"{port.id} /latest/user-data"
    assert driver.post(port, "/password", port.id) == 200
    assert driver.post(port, "/password", "of another") == 409
    driver.ask(port, "/openstack")
    wait(lambda: len(driver.facts()) >= 2, 5, "two facts")
    assert sorted((fact.kind, fact.port_id, fact.detail) for fact in driver.facts()) == [
        ("address_taken", port.id, "10.1.0.11"),
        ("metadata_served", port.id, "/latest/user-data"),
    ]


def test_a_port_that_is_expected_comes_or_does_not(driver: Driver) -> None:
    """A guest on its way opens its tap before its port is here; the port takes it over as it is."""
    cloud = cloud_for(driver)
    network = cloud.network()
    lost = Port(id=new_id(), network_id=network.id, mac="fa:16:3e:00:00:98", index=8)
    for _ in range(2):
        driver.expect(lost)
    for _ in range(2):
        driver.unexpect(lost)
    port = cloud.port(network, 11, name="one")
    driver.expect(port)
    assert driver.apply(cloud.desired()) == {}
    driver.unexpect(port)
    assert driver.boot(port) == "10.1.0.11"
    driver.purge()
    if isinstance(driver, Linux):
        assert "tap" not in driver.links()


def test_a_bad_item_is_answered_and_harms_no_other(driver: Driver) -> None:
    cloud = cloud_for(driver)
    good = cloud.port(cloud.network(), 11)
    flat = cloud.network(kind="flat", physical="nowhere", segment=None)
    vlan = cloud.network(kind="vlan", segment=7)
    odd = cloud.network(kind="pigeon")
    far = cloud.network(peers=("192.0.2.1",))
    cloud.change(far, endpoints=())
    on_flat = cloud.port(flat, 12)
    lost = Port(id=new_id(), network_id=new_id(), mac="fa:16:3e:00:00:99", index=7)
    beyond = cloud.port(cloud.networks[good.network_id], 13, index=70000)
    router = cloud.router(None, flat)
    desired = cloud.desired()
    desired.ports[lost.id] = lost
    desired.networks[far.id] = msgspec.structs.replace(desired.networks[far.id], peers=("192.0.2.1",))
    errors = driver.apply(desired)
    assert set(errors) == {
        f"network {flat.id}", f"network {vlan.id}", f"network {odd.id}", f"network {far.id}",
        f"port {on_flat.id}", f"port {lost.id}", f"port {beyond.id}", f"router {router.id}",
    }  # fmt: skip
    assert "'nowhere' is not mapped" in errors[f"network {flat.id}"]
    assert "not mapped" in errors[f"network {vlan.id}"]
    assert "'pigeon'" in errors[f"network {odd.id}"]
    assert "tunnel_address" in errors[f"network {far.id}"]
    assert flat.id in errors[f"port {on_flat.id}"]
    assert "70000" in errors[f"port {beyond.id}"]
    assert flat.id in errors[f"router {router.id}"]
    assert driver.boot(good) == "10.1.0.11"


def test_what_is_no_longer_wanted_is_a_leftover_until_it_is_removed(driver: Driver) -> None:
    cloud = cloud_for(driver)
    keep, drop = cloud.network(), cloud.network("10.2.0.0/24")
    kept, dropped = cloud.port(keep, 11), cloud.port(drop, 11)
    router = cloud.router(None, keep, drop)
    before = cloud.desired()
    assert driver.apply(before) == {}
    assert driver.leftovers(before) == []
    after = Desired(networks={keep.id: before.networks[keep.id]}, ports={kept.id: kept})
    named = {(one.kind, one.name) for one in driver.leftovers(after)}
    assert {
        ("tap", f"tap{dropped.id[:11]}"), ("bridge", f"brq{drop.id[:11]}"), ("namespace", f"qrouter-{router.id}")
    } <= named  # fmt: skip
    assert not any(keep.id[:11] in name or kept.id[:11] in name for _, name in named)
    assert driver.apply(after) == {}
    assert driver.leftovers(after) == []
    driver.purge()
    assert driver.leftovers(Desired()) == []


def test_a_purged_driver_can_be_used_again(driver: Driver) -> None:
    cloud = cloud_for(driver)
    port = cloud.port(cloud.network(), 11)
    assert driver.apply(cloud.desired()) == {}
    driver.purge()
    assert driver.apply(cloud.desired()) == {}
    assert driver.boot(port) == "10.1.0.11"


def test_a_network_without_dhcp_still_serves_metadata(driver: Driver) -> None:
    cloud = cloud_for(driver)
    network = cloud.network()
    subnet = msgspec.structs.replace(network.subnets[0], dhcp=False, dhcp_address=None)
    cloud.change(network, subnets=(subnet,), dhcp_mac=None, dhcp_port_id=None)
    port = cloud.port(cloud.networks[network.id], 11)
    assert driver.apply(cloud.desired()) == {}
    if isinstance(driver, Linux):
        guest = driver._guest = driver._wiring.guest(port)
        guest.run("ip address add 10.1.0.11/24 dev eth0")
        guest.run("ip route add 169.254.169.254 dev eth0")
    assert driver.ask(port, "/x") == f"{port.id} /x"
