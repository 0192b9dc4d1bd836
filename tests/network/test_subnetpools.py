"""Subnet pools: whatever is cut from one lies in it and overlaps nothing; what fits is found."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.network.networks import actions as networks
from nephos.network.subnetpools import actions, cutting
from nephos.network.subnets import actions as subnets
from tests.harness import Harness

PREFIXES = ["10.0.0.0/25", "10.0.1.0/24", "10.9.0.0/26"]


class Undone(Exception):
    pass


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("cloud")
    with Harness(path, lambda settings: setattr(settings.quota, "subnet", -1)) as harness:
        yield harness.cloud


def free(prefixes: list[str], taken: list[Any], length: int) -> bool:
    """Whether any range of this length is free, by trying all."""
    return any(
        not any(one.overlaps(other) for other in taken)
        for prefix in map(ipaddress.ip_network, prefixes)
        if prefix.prefixlen <= length
        for one in prefix.subnets(new_prefix=length)
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(24, 30), min_size=1, max_size=14),
    keep=st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_cuts_lie_inside_overlap_nothing_and_use_all_room(cloud: Any, lengths: list[int], keep: list[bool]) -> None:
    def work(tx: Tx) -> None:
        pool = actions.create(tx, cloud, "p", {"name": "pool", "prefixes": list(PREFIXES), "min_prefixlen": 24})
        network = networks.create(tx, cloud, networks.New(project_id="p"))
        taken: list[Any] = []
        for length, stays in zip(lengths, keep, strict=False):
            new = subnets.New(project_id="p", network_id=network, version=4, pool_id=pool, prefixlen=length, dhcp=False)
            try:
                key = subnets.create(tx, cloud, new)
            except errors.Conflict as full:
                assert full.code == "SubnetAllocationError"
                assert not free(PREFIXES, taken, length)
                continue
            found = ipaddress.ip_network(subnets.get(tx, key).cidr)
            assert found.prefixlen == length
            assert any(found.subnet_of(ipaddress.ip_network(each)) for each in PREFIXES)  # type: ignore[arg-type]
            assert not any(found.overlaps(other) for other in taken)
            if stays:
                taken.append(found)
            else:
                subnets.remove(tx, cloud, subnets.get(tx, key))
        raise Undone

    with pytest.raises(Undone):
        cloud.database.write(work)


def test_a_range_asked_for_is_given_when_it_is_free(cloud: Any) -> None:
    def work(tx: Tx) -> None:
        pool = actions.create(tx, cloud, "p", {"name": "pool", "prefixes": ["10.0.0.0/16"]})
        assert str(cutting.cut(tx, pool, 4, "10.0.7.0/24", None, "p")) == "10.0.7.0/24"
        for outside in ("10.1.0.0/24", "10.0.0.0/8"):
            with pytest.raises((errors.Conflict, errors.BadRequest)):
                cutting.cut(tx, pool, 4, outside, None, "p")
        with pytest.raises(errors.BadRequest):
            cutting.cut(tx, pool, 6, "2001:db8::/64", None, "p")
        with pytest.raises(errors.NotFound):
            cutting.cut(tx, "none", 4, None, 24, "p")

    cloud.database.write(work)
