"""Capacity: claims never pass it, whatever the order, and what was claimed is given back whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nephos import errors
from nephos.hosts import actions as hosts
from nephos.hosts import store as host_store
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.db.schema import metadata
from nephos.kernel.db.sqlite import SqliteDatabase
from nephos.placement.allocations import actions, store
from nephos.placement.allocations.actions import Claim
from nephos.placement.inventories import actions as inventories
from nephos.settings import Compute

SETTINGS = Compute(cpu_ratio=2.0, ram_ratio=1.5, disk_ratio=1.0, reserved_ram_mb=100)
CAPACITY = {"VCPU": 8, "MEMORY_MB": 1350, "DISK_GB": 20}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = SqliteDatabase(f"sqlite:///{tmp_path / 'ledger.db'}")
    with made.engine.connect() as connection:
        metadata.create_all(connection)
    yield made
    made.close()


def host(database: Database, name: str) -> str:
    def work(tx: Tx) -> str:
        host_id = hosts.enrol(tx, name, "key")
        hosts.change(tx, host_id, vcpus=4, ram_mb=1000, disk_gb=20)
        return host_id

    return database.write(work)


def claim(database: Database, consumer: str, host_id: str, **resources: int) -> None:
    database.write(lambda tx: actions.claim(tx, SETTINGS, Claim(consumer, host_id, resources, "p-" + consumer, "u")))


def usage(database: Database) -> dict[str, dict[str, int]]:
    with database.read() as tx:
        return actions.usage_of_hosts(tx)


def generation(database: Database, host_id: str) -> int:
    with database.read() as tx:
        return int(hosts.get(tx, host_id).generation)


def test_a_host_stands_for_its_inventories(database: Database) -> None:
    host_id = host(database, "h")
    with database.read() as tx:
        found = inventories.of_host(tx, host_id, SETTINGS)
        assert tx.queries == 1
        assert inventories.of_hosts(tx, SETTINGS) == {host_id: found}
        assert inventories.of_host(tx, "nobody", SETTINGS) is None
    assert found is not None
    assert {name: each.capacity for name, each in found.inventories.items()} == CAPACITY


def test_an_operators_inventory_lies_over_the_counted_one(database: Database) -> None:
    from nephos.placement.inventories.store import inventory

    host_id = host(database, "h")
    own = {"provider_id": host_id, "total": 4, "reserved": 1, "min_unit": 1, "max_unit": 4, "step_size": 1}
    database.write(
        lambda tx: tx.insert(
            inventory,
            [
                {**own, "resource_class": "VCPU", "allocation_ratio": 1.0},
                {**own, "resource_class": "CUSTOM_GOLD", "allocation_ratio": 1.0},
            ],
        )
    )
    with pytest.raises(errors.Conflict, match="VCPU: requested 4, used 0, capacity 3"):
        claim(database, "a", host_id, VCPU=4)
    claim(database, "a", host_id, VCPU=3, CUSTOM_GOLD=3, MEMORY_MB=1)


def test_claims_add_up_and_are_given_back(database: Database) -> None:
    one, two = host(database, "one"), host(database, "two")
    before = generation(database, one)
    claim(database, "a", one, VCPU=2, MEMORY_MB=500, DISK_GB=0)
    claim(database, "b", one, VCPU=1, MEMORY_MB=100, DISK_GB=5)
    claim(database, "b", two, VCPU=1)
    assert usage(database) == {one: {"VCPU": 3, "MEMORY_MB": 600, "DISK_GB": 5}, two: {"VCPU": 1}}
    assert generation(database, one) == before + 2
    with database.read() as tx:
        assert actions.usage_of_project(tx, "p-b") == {"VCPU": 2, "MEMORY_MB": 100, "DISK_GB": 5}
        assert actions.allocations_of(tx, ["a", "b", "c"])["b"] == {
            one: {"VCPU": 1, "MEMORY_MB": 100, "DISK_GB": 5},
            two: {"VCPU": 1},
        }
        assert actions.consumers(tx) == {"a", "b"}
    database.write(lambda tx: actions.release(tx, "b", two))
    assert two not in usage(database)
    database.write(lambda tx: actions.release(tx, "b"))
    database.write(lambda tx: actions.release(tx, "nobody"))
    assert usage(database) == {one: {"VCPU": 2, "MEMORY_MB": 500}}
    assert generation(database, one) == before + 3


def test_a_second_claim_replaces_the_first(database: Database) -> None:
    host_id = host(database, "h")
    claim(database, "a", host_id, VCPU=4, MEMORY_MB=1000, DISK_GB=20)
    claim(database, "a", host_id, VCPU=3, MEMORY_MB=1000)
    assert usage(database) == {host_id: {"VCPU": 3, "MEMORY_MB": 1000}}


def test_a_refusal_names_what_is_short_and_takes_nothing(database: Database) -> None:
    host_id = host(database, "h")
    claim(database, "a", host_id, VCPU=4, MEMORY_MB=1000)
    before = generation(database, host_id)
    with pytest.raises(errors.Conflict) as refused:
        claim(database, "b", host_id, VCPU=5, MEMORY_MB=400, DISK_GB=20, CUSTOM_X=1)
    assert "VCPU: requested 5 is above the largest unit 4" in refused.value.message
    assert "MEMORY_MB: requested 400, used 1000, capacity 1350" in refused.value.message
    assert "CUSTOM_X: the host has none" in refused.value.message
    assert "DISK_GB" not in refused.value.message
    assert usage(database) == {host_id: {"VCPU": 4, "MEMORY_MB": 1000}}
    assert generation(database, host_id) == before
    with pytest.raises(errors.Conflict, match="does not exist"):
        claim(database, "b", "nobody", VCPU=1)


def test_one_claim_takes_four_queries(database: Database) -> None:
    host_id = host(database, "h")
    for number in range(4):
        claim(database, f"other-{number}", host_id, VCPU=1)

    def work(tx: Tx) -> int:
        actions.claim(tx, SETTINGS, Claim("a", host_id, {"VCPU": 1, "MEMORY_MB": 1, "DISK_GB": 1}, "p", "u"))
        return tx.queries

    assert database.write(work) == 4


STEP: st.SearchStrategy[tuple[str, int, int | None, dict[str, int]]] = st.one_of(
    st.tuples(
        st.just("claim"),
        st.integers(0, 5),
        st.integers(0, 1),
        st.fixed_dictionaries(
            {"VCPU": st.integers(0, 5), "MEMORY_MB": st.integers(0, 900), "DISK_GB": st.integers(0, 21)}
        ),
    ),
    st.tuples(st.just("release"), st.integers(0, 5), st.one_of(st.none(), st.integers(0, 1)), st.just({})),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=25))
def test_no_order_of_claims_and_releases_passes_capacity(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int | None, dict[str, int]]]
) -> None:
    """The ledger and a plain model of it take the same steps: they refuse the same ones and count the same."""
    database = SqliteDatabase(f"sqlite:///{tmp_path_factory.mktemp('claims') / 'ledger.db'}")
    with database.engine.connect() as connection:
        metadata.create_all(connection)
    try:
        ids = [host(database, "one"), host(database, "two")]
        model: dict[tuple[int, int], dict[str, int]] = {}
        for kind, consumer, where, resources in steps:
            if kind == "release":
                for pair in [pair for pair in model if pair[0] == consumer and where in (None, pair[1])]:
                    del model[pair]
                chosen = None if where is None else ids[where]
                database.write(lambda tx, c=consumer, h=chosen: actions.release(tx, f"c{c}", h))  # type: ignore[misc]
                continue
            assert where is not None
            others = [held for pair, held in model.items() if pair[1] == where and pair[0] != consumer]
            fits = (
                all(
                    amount == 0 or sum(held.get(name, 0) for held in others) + amount <= CAPACITY[name]
                    for name, amount in resources.items()
                )
                and resources["VCPU"] <= 4
                and resources["DISK_GB"] <= 20
            )
            try:
                claim(database, f"c{consumer}", ids[where], **resources)
                assert fits
                model[consumer, where] = {name: amount for name, amount in resources.items() if amount}
            except errors.Conflict:
                assert not fits
        counted: dict[str, dict[str, int]] = {}
        for (_, where), held in model.items():
            for name, amount in held.items():
                totals = counted.setdefault(ids[where], {})
                totals[name] = totals.get(name, 0) + amount
        assert usage(database) == counted
        for held in counted.values():
            assert all(held[name] <= CAPACITY[name] for name in held)
    finally:
        database.close()


def test_threads_racing_for_the_last_place(database: Database) -> None:
    host_id = host(database, "h")
    won: list[int] = []
    lost: list[int] = []

    def race(number: int) -> None:
        for turn in range(5):
            consumer = f"{number}-{turn}"
            try:
                claim(database, consumer, host_id, VCPU=1, MEMORY_MB=200)
                won.append(number)
            except errors.Conflict:
                lost.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 6 and len(lost) == 34
    assert usage(database)[host_id] == {"VCPU": 6, "MEMORY_MB": 1200}


def test_a_claim_on_a_generation_that_moved_loses(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transactions run side by side, the swap of the host's generation is what keeps two claims apart."""
    host_id = host(database, "h")
    seen = inventories.of_host

    def late(tx: Tx, asked: str, overcommit: Compute) -> inventories.Provider | None:
        provider = seen(tx, asked, overcommit)
        hosts.change(tx, asked, disabled=False)
        return provider

    monkeypatch.setattr(inventories, "of_host", late)
    with pytest.raises(errors.Conflict, match="changed by another request") as lost:
        claim(database, "a", host_id, VCPU=1)
    assert lost.value.code == "placement.concurrent_update"
    with database.read() as tx:
        assert tx.first(select(store.allocation)) is None
        assert tx.scalar(select(host_store.host.c.generation)) == 1
