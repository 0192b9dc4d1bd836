"""Kill the server, or the agent, at every step of a boot and of a delete.

It must end ACTIVE, cleanly in ERROR, or gone, with nothing stuck and nothing left behind. The points are those of the
operations' own steps and of the agent's own marks, so a new step is in the test without being named here.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack.exceptions
import pytest
from keystoneauth1.exceptions import ClientException

from nephos import app
from nephos.settings import Settings
from tests.cloud import RunningCloud, wait_for

MARKS = ("begin", "image cached", "plugged", "disk", "domain", "running")


def server_points(*of: str) -> list[str]:
    """`kind:state:step:moment` of every boundary of these kinds of operations: when a step begins, when it is kept to wait
    for the host, and when the end is kept."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state=Path(folder))
        settings.server_dir.mkdir()
        kinds = app.compose(settings).operations.kinds
    points = []
    for kind in of:
        for step in kinds[kind].steps:
            points.append(f"{kind}:running:{step.name}:begin")
            if step.after is not None:
                points.append(f"{kind}:running:{step.name}:kept")
        points.append(f"{kind}:done:{kinds[kind].steps[-1].name}:kept")
    return points


def agent_points() -> list[str]:
    return [f"guest.create:{mark}" for mark in MARKS] + ["guest.destroy:begin", "guest.destroy:domain removed"]


@pytest.fixture(scope="module")
def failpoint() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="nephos-failpoint-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "point"


@pytest.fixture(scope="module")
def cloud(failpoint: Path) -> Iterator[RunningCloud]:
    with RunningCloud(hypervisor="fake", hosts=2, failpoint=failpoint) as running:
        running.hosts_up(2)
        yield running


@pytest.fixture(scope="module")
def demo(cloud: RunningCloud) -> Any:
    return cloud.connect("demo")


@pytest.fixture(scope="module")
def image(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("image") / "raw"
    path.write_bytes(b"\0" * 4096)
    made = cloud.connect("admin").create_image(
        "crash", filename=str(path), disk_format="raw", container_format="bare", visibility="public", wait=True
    )
    return str(made.id)


def patiently(call: Any) -> Any:
    """What `call` answers, also when the server is killed and comes back in the middle of it."""

    def attempt() -> Any:
        try:
            return [call()]
        except (openstack.exceptions.SDKException, ClientException, OSError):
            return None

    return wait_for(attempt, 30, "an answer")[0]


def servers(demo: Any) -> list[Any]:
    return patiently(lambda: list(demo.compute.servers()))


@pytest.mark.parametrize("point", [*server_points("server.create", "server.delete"), *agent_points()])
def test_killed_at(point: str, cloud: RunningCloud, demo: Any, image: str, failpoint: Path) -> None:
    deleting = "delete" in point or "destroy" in point
    if not deleting:
        failpoint.write_text(point)
    failpoint.exists() and failpoint.chmod(0o666)
    network = patiently(lambda: demo.network.find_network("private")).id
    body = {"name": "victim", "image_id": image, "flavor_id": "42", "networks": [{"uuid": network}]}
    patiently(lambda: servers(demo) or demo.compute.create_server(**body))
    ended = wait_for(
        lambda: [each for each in servers(demo) if each.status in ("ACTIVE", "ERROR")], 60, f"an end after {point}"
    )
    assert len(ended) == 1
    if ended[0].status == "ERROR":
        assert patiently(lambda: demo.compute.get_server(ended[0].id)).fault["message"]
    if deleting:
        failpoint.write_text(point)
        failpoint.chmod(0o666)
    patiently(lambda: demo.compute.delete_server(ended[0].id, ignore_missing=True))
    wait_for(lambda: not servers(demo), 60, f"the server gone after {point}")
    assert not failpoint.exists(), f"nobody came by {point}"
    assert wait_for(lambda: patiently(cloud.audit) == [], 30, f"an audit without findings after {point}")
    owned = [each for each in demo.network.ports() if each.device_owner.startswith("compute:")]
    assert owned == []


ACTIONS: dict[str, tuple[str, ...]] = {
    "rebuild": ("server.rebuild", *(f"guest.rebuild:{each}" for each in ("begin", "disk removed", "running"))),
    "image": ("server.create_image", "guest.snapshot:begin", "guest.snapshot:snapshot", "guest.drop_snapshot:begin"),
    "shelve": ("server.shelve", "server.shelve_offload", "guest.power:stop", "guest.destroy:begin"),
    "unshelve": ("server.unshelve", "guest.create:disk"),
    "rescue": ("server.rescue", "guest.rescue:begin", "guest.rescue:domain"),
    "unrescue": ("server.unrescue", "guest.unrescue:begin", "guest.unrescue:unrescued"),
}
"""Action → the kinds of operations and the agent's own points that are killed at on its way."""
SHELVING = ("server.shelve:running:snapshot:", "server.shelve:running:image uploaded:")
"""Steps that are those of an image."""


def action_points() -> list[tuple[str, str]]:
    return [
        (action, point)
        for action, names in ACTIONS.items()
        for name in names
        for point in (server_points(name) if name.startswith("server.") else [name])
        if not point.startswith(SHELVING)
    ]


@pytest.fixture(scope="module")
def survivor(cloud: RunningCloud, demo: Any, image: str) -> Iterator[str]:
    """A server that outlives all that is done with it."""
    network = demo.network.find_network("private").id
    made = demo.compute.create_server(name="survivor", image_id=image, flavor_id="42", networks=[{"uuid": network}])
    yield str(demo.compute.wait_for_server(made).id)
    patiently(lambda: demo.compute.delete_server(made.id, ignore_missing=True))
    wait_for(lambda: not servers(demo), 60, "the server gone")


@pytest.mark.parametrize(("action", "point"), action_points())
def test_an_action_killed_at(
    action: str, point: str, cloud: RunningCloud, demo: Any, image: str, survivor: str, failpoint: Path
) -> None:
    ports = [each.id for each in demo.network.ports(device_id=survivor)]
    if action in ("unshelve", "unrescue"):
        act(action.removeprefix("un"), demo, survivor, image)
        settled(demo, survivor, failpoint, f"the {action} to begin")
    failpoint.write_text(point)
    failpoint.chmod(0o666)
    act(action, demo, survivor, image)
    status = settled(demo, survivor, failpoint, f"an end after {point}").status
    assert status in ENDS[action], (point, status)
    for each in patiently(lambda: [list(demo.image.images(name="copy"))])[0]:
        assert each.status == "active" and action == "image"
        demo.image.delete_image(each.id)
    if status in UNDO:
        act(UNDO[status], demo, survivor, image)
        assert settled(demo, survivor, failpoint, f"what undoes {action}").status == "ACTIVE"
    assert patiently(lambda: [list(demo.image.images(name="survivor-shelved"))]) == [[]]
    assert [each.id for each in demo.network.ports(device_id=survivor)] == ports
    assert wait_for(lambda: patiently(cloud.audit) == [], 30, f"an audit without findings after {point}")


ENDS = {
    **dict.fromkeys(("rebuild", "image", "unshelve", "unrescue"), ("ACTIVE",)),
    "shelve": ("SHELVED_OFFLOADED",),
    "rescue": ("RESCUE",),
}
UNDO = {"SHELVED_OFFLOADED": "unshelve", "RESCUE": "unrescue"}


def settled(demo: Any, server: str, failpoint: Path, what: str) -> Any:
    """The server, when nothing is done with it any more and the failpoint was passed."""

    def look() -> Any:
        found = patiently(lambda: demo.compute.get_server(server))
        return found if found.task_state is None and not failpoint.exists() else None

    return wait_for(look, 90, what)


def act(action: str, demo: Any, server: str, image: str) -> None:
    """Ask for it. The answer may be lost with the server that is killed; then it was accepted all the same."""
    compute = demo.compute
    patiently(lambda: [compute.get_server(server)])
    with contextlib.suppress(openstack.exceptions.SDKException, ClientException, OSError):
        if action == "rebuild":
            compute.rebuild_server(server, image=image)
        elif action == "image":
            compute.create_server_image(server, "copy")
        else:
            getattr(compute, f"{action}_server")(server)


MOVES = {
    "confirm": (
        "server.resize",
        "server.confirm_resize",
        *(f"guest.{each}" for each in ("leave:set aside", "receive:disk", "receive:running", "forget:forgotten")),
    ),
    "revert": ("server.revert_resize", "guest.leave:begin", "guest.return:begin", "guest.return:came back"),
}
"""How a resize is answered → the kinds of operations and the agent's own points that are killed at on that way."""


def move_points() -> list[tuple[str, str]]:
    return [
        (answer, point)
        for answer, names in MOVES.items()
        for name in names
        for point in (server_points(name) if name.startswith("server.") else [name])
    ]


@pytest.mark.parametrize(("answer", "point"), move_points())
def test_a_resize_killed_at(
    answer: str, point: str, cloud: RunningCloud, demo: Any, survivor: str, failpoint: Path
) -> None:
    """It waits to be confirmed or reverted, or is undone; whatever was answered, the server runs, once."""
    server = patiently(lambda: demo.compute.get_server(survivor))
    before = server.flavor.name
    flavor = {"m1.nano": "84", "m1.micro": "42"}[before]
    failpoint.write_text(point)
    failpoint.chmod(0o666)

    def rests() -> Any:
        found = patiently(lambda: demo.compute.get_server(survivor))
        return found if found.task_state is None else None

    def once(call: Any, until: set[str]) -> Any:
        """Ask, and again when the answer was lost with the server that was killed."""
        for _ in range(3):
            with contextlib.suppress(openstack.exceptions.SDKException, ClientException, OSError):
                call()
            found = wait_for(rests, 90, f"rest after {point}")
            if found.status in until:
                return found
        raise AssertionError(f"after {point} it is {found.status}")

    once(lambda: demo.compute.resize_server(survivor, flavor), {"VERIFY_RESIZE"})
    end = demo.compute.confirm_server_resize if answer == "confirm" else demo.compute.revert_server_resize
    server = once(lambda: end(survivor), {"ACTIVE"})
    assert not failpoint.exists(), f"nobody came by {point}"
    assert (server.flavor.name == before) is (answer == "revert")
    assert wait_for(lambda: patiently(cloud.audit) == [], 30, f"an audit without findings after {point}")


LIVE_MARKS = ("expect:disk", "expect:way open", "send:begin", "send:sent", "settle:plugged")


@pytest.mark.parametrize(
    "point", [*server_points("server.live_migrate"), *(f"guest.{mark}" for mark in LIVE_MARKS), "guest.destroy:begin"]
)
def test_a_live_migration_killed_at(point: str, cloud: RunningCloud, demo: Any, survivor: str, failpoint: Path) -> None:
    """It arrives, or stays where it was; it runs, once."""
    admin = cloud.connect("admin")
    failpoint.write_text(point)
    failpoint.chmod(0o666)
    with contextlib.suppress(openstack.exceptions.SDKException, ClientException, OSError):
        admin.compute.live_migrate_server(survivor, block_migration="auto")

    def rests() -> Any:
        found = patiently(lambda: admin.compute.get_server(survivor))
        return found if found.task_state is None and not failpoint.exists() else None

    server = wait_for(rests, 120, f"an end after {point}")
    assert server.status == "ACTIVE"
    assert wait_for(lambda: patiently(cloud.audit) == [], 30, f"an audit without findings after {point}")
    (port,) = patiently(lambda: list(admin.network.ports(device_id=survivor)))
    assert (port.binding_host_id, port.status) == (server.hypervisor_hostname, "ACTIVE")
