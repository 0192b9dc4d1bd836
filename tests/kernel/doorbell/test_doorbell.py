"""The doorbell inside one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nephos.kernel.doorbell.memory import MemoryDoorbell


def test_every_listener_hears_every_ring_until_it_stops() -> None:
    bell = MemoryDoorbell()
    one: list[str] = []
    two: list[str] = []
    stop = bell.listen(one.append)
    bell.listen(two.append)
    bell.ring("a")
    stop()
    bell.ring("b")
    stop()
    assert (one, two) == (["a"], ["a", "b"])


def test_a_listener_that_fails_keeps_nobody_from_hearing() -> None:
    bell = MemoryDoorbell()
    heard: list[str] = []

    def fails(topic: str) -> None:
        raise RuntimeError(topic)

    bell.listen(fails)
    bell.listen(heard.append)
    bell.ring("a")
    assert heard == ["a"]


def test_no_listener_is_lost_when_many_come_and_go() -> None:
    bell = MemoryDoorbell()
    heard: list[int] = []

    def visit(number: int) -> None:
        for _ in range(50):
            stop = bell.listen(lambda topic: None)
            stop()
        bell.listen(lambda topic: heard.append(number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(visit, range(8)))
    bell.ring("a")
    assert sorted(heard) == list(range(8))


def test_a_listener_may_stop_itself_while_it_hears() -> None:
    bell = MemoryDoorbell()
    heard: list[str] = []

    def once(topic: str) -> None:
        heard.append(topic)
        stop()

    stop = bell.listen(once)
    bell.ring("a")
    bell.ring("b")
    assert heard == ["a"]
