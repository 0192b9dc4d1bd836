"""What an agent knows of its host: taken over, kept on disk for its owner alone, read again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos.agent import guestdata
from nephos.agent.state import State
from nephos.hosts import wire
from nephos.hosts.desired import digest
from nephos.hosts.guest import GuestItem
from nephos.wiring.base import Key, Kind, Network

encode = msgspec.msgpack.encode


def network(number: int) -> wire.Item:
    return wire.Item("network", f"n{number}", encode(Network(id=f"n{number}", kind="vxlan", segment=number)))


def guest(guest_id: str, *ports: str, name: str = "g") -> wire.Item:
    data = guestdata.GuestData(uuid=guest_id, name=name, hostname=name, project_id="p")
    item = GuestItem(id=guest_id, power="running", data=msgspec.Raw(encode(data)), ports=ports)
    return wire.Item("guest", guest_id, encode(item))


def told(*items: wire.Item, full: bool = False) -> wire.HostState:
    return wire.HostState("h", 1, full, items)


def test_changes_are_told_apart(tmp_path: Path) -> None:
    state = State(tmp_path / "desired")
    assert not state.known
    assert state.take(told(network(1), network(2), guest("g", "p"), full=True)) == (None, {"g"})
    assert state.known
    assert state.take(told(network(1))) == (frozenset(), set()), "nothing new"
    assert state.take(told(wire.Item("network", "n1"), network(3))) == (
        frozenset({Key(Kind.NETWORK, "n1"), Key(Kind.NETWORK, "n3")}),
        set(),
    )
    assert set(state.wiring.networks) == {"n2", "n3"}
    assert state.take(told(guest("g", "p", name="renamed"))) == (frozenset(), {"g"})
    state.take(told(network(3), full=True))
    assert set(state.wiring.networks) == {"n3"}
    assert (state.guests, state.guest_of) == ({}, {})


def test_a_snapshot_is_its_takers_own(tmp_path: Path) -> None:
    state = State(tmp_path / "desired")
    state.take(told(network(1)))
    snapshot = state.snapshot()
    state.take(told(network(2)))
    assert set(snapshot.networks) == {"n1"}


def test_the_digest_is_of_the_bytes_that_were_told(tmp_path: Path) -> None:
    state = State(tmp_path / "desired")
    items = [network(2), network(1), guest("g"), wire.Item("later-kind", "x", b"\x01")]
    state.take(told(*items, full=True))
    assert state.digest() == digest({(item.kind, item.id): item.body or b"" for item in reversed(items)})
    state.take(told(wire.Item("later-kind", "x")))
    assert state.digest() == digest({(item.kind, item.id): item.body or b"" for item in items[:3]})


def test_what_was_told_is_kept_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "desired"
    state = State(path)
    state.save()
    assert not path.exists()
    (tmp_path / "desired.part").write_text("a leftover that all may read")
    (tmp_path / "desired.part").chmod(0o644)
    state.take(told(network(1), guest("g", "p"), wire.Item("later-kind", "x", b"\x01"), full=True))
    state.save()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    again = State(path)
    assert again.known
    assert again.digest() == state.digest()
    assert (set(again.wiring.networks), again.guest_of) == ({"n1"}, {"p": "g"})


def test_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path / "desired")
    state.take(told(network(1)))

    def full(*arguments: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("nephos.agent.state.os.open", full)
        with pytest.raises(OSError, match="No space"):
            state.save()
    state.save()
    assert set(State(tmp_path / "desired").wiring.networks) == {"n1"}


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x91\x01", encode([("network", "n1")]), b"torn" * 100])
def test_a_file_that_cannot_be_read_waits_for_the_server(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "desired").write_bytes(content)
    state = State(tmp_path / "desired")
    assert not state.known
    state.take(told(network(1), full=True))
    state.save()
    assert State(tmp_path / "desired").known


def test_one_item_that_cannot_be_read_spoils_nothing_else(tmp_path: Path) -> None:
    state = State(tmp_path / "desired")
    bad = [wire.Item("network", "n9", encode({"id": 9})), wire.Item("guest", "g9", b"\xc1")]
    changed, guests = state.take(told(network(1), *bad, guest("g"), full=True))
    assert (changed, guests) == (None, {"g"})
    assert set(state.wiring.networks) == {"n1"}
    before = state.digest()
    state.take(told(wire.Item("network", "n1", b"\xc1")))
    assert state.wiring.networks["n1"].segment == 1, "what was known stays"
    assert state.digest() == before, "and the server will be asked for it again"
    state._raw[("guest", "g8")] = b"\xc1"
    state._dirty = True
    state.save()
    again = State(tmp_path / "desired")
    assert again.known and set(again.guests) == {"g"}


def test_ports_move_between_guests(tmp_path: Path) -> None:
    state = State(tmp_path / "desired")
    state.take(told(guest("a", "p1", "p2"), guest("b")))
    state.take(told(guest("b", "p2"), guest("a", "p1")))
    assert state.guest_of == {"p1": "a", "p2": "b"}
    state.take(told(wire.Item("guest", "a")))
    assert state.guest_of == {"p2": "b"}


def test_a_guest_that_stays_is_known_at_every_moment(tmp_path: Path) -> None:
    state = State(tmp_path / "desired")
    state.take(told(guest("g", "p")))
    stop = threading.Event()
    missing: list[int] = []

    def look() -> None:
        while not stop.is_set():
            if "g" not in state.guests or state.guest_of.get("p") != "g":
                missing.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(2000):
        state.take(told(guest("g", "p", name=str(number))))
    stop.set()
    thread.join()
    assert missing == []
