"""What can be allocated: one host, trees of providers, storage that several share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.placement.allocations import actions as allocations
from nephos.placement.allocations.actions import Claim
from tests.harness import Client, Harness

AGGREGATE = "22222222-2222-4222-8222-222222222222"
V = {"OpenStack-API-Version": "placement 1.39"}


class Lab:
    """Providers by name, made through the API."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud = cloud
        self.admin: Client = cloud.login("admin", "admin")
        self.admin.headers.update(V)
        self.ids: dict[str, str] = {}

    def add(self, name: str, parent: str | None = None, *, traits: str = "", shares: bool = False, **has: int) -> None:
        body: dict[str, Any] = {"name": name, "parent_provider_uuid": self.ids[parent] if parent else None}
        reply = self.admin.post("/placement/resource_providers", body)
        assert reply.status == 200, reply
        self.ids[name] = reply.json["uuid"]
        path = f"/placement/resource_providers/{self.ids[name]}"
        names = [each for each in traits.split(",") if each] + (["MISC_SHARES_VIA_AGGREGATE"] if shares else [])
        for each in names:
            if each.startswith("CUSTOM_"):
                assert self.admin.put(f"/placement/traits/{each}").status in (201, 204)
        inventories = {each: {"total": total, "max_unit": total} for each, total in has.items()}
        body = {"resource_provider_generation": 0, "inventories": inventories}
        assert self.admin.put(path + "/inventories", body).status == 200
        assert self.admin.put(path + "/traits", {"resource_provider_generation": 1, "traits": names}).status == 200

    def join(self, *names: str) -> None:
        for name in names:
            path = f"/placement/resource_providers/{self.ids[name]}"
            generation = self.admin.get(path).json["generation"]
            body = {"resource_provider_generation": generation, "aggregates": [AGGREGATE]}
            assert self.admin.put(path + "/aggregates", body).status == 200

    def ask(self, query: str, version: str = "1.39") -> Any:
        reply = self.admin.get(
            f"/placement/allocation_candidates?{query}", **{"OpenStack-API-Version": f"placement {version}"}
        )
        assert reply.status == 200, reply
        return reply.json

    def found(self, query: str, version: str = "1.39") -> set[frozenset[tuple[str, str]]]:
        """Each candidate as a set of (provider name, resource class)."""
        names = {provider_id: name for name, provider_id in self.ids.items()}
        return {
            frozenset(
                (names[provider_id], kind)
                for provider_id, takes in each["allocations"].items()
                for kind in takes["resources"]
            )
            for each in self.ask(query, version)["allocation_requests"]
        }


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Harness(tmp_path_factory.mktemp("questions")) as cloud:
        yield cloud.login("admin", "admin")


def one(*pairs: str) -> frozenset[tuple[str, str]]:
    return frozenset((pair.partition(":")[0], pair.partition(":")[2]) for pair in pairs)


def test_hosts_are_candidates_by_themselves(cloud: Harness) -> None:
    def make(tx: Tx) -> list[str]:
        made = []
        for number in (1, 2):
            made.append(hosts.enrol(tx, f"h{number}", "key"))
            hosts.change(tx, made[-1], vcpus=2, ram_mb=2048, disk_gb=10)
        return made

    first, second = cloud.cloud.database.write(make)
    lab = Lab(cloud)
    lab.ids = {"h1": first, "h2": second}
    query = "resources=VCPU:2,MEMORY_MB:1024"
    assert lab.found(query) == {one("h1:VCPU", "h1:MEMORY_MB"), one("h2:VCPU", "h2:MEMORY_MB")}
    overcommit = cloud.cloud.settings.compute
    taken = Claim("c", first, {"VCPU": 1, "MEMORY_MB": 1000}, "p", "u")
    cloud.cloud.database.write(lambda tx: allocations.claim(tx, overcommit, taken))
    assert lab.found(query) == {one("h2:VCPU", "h2:MEMORY_MB")}
    summary = lab.ask("resources=VCPU:1&limit=1")["provider_summaries"]
    assert summary[first] == {
        "resources": {
            "VCPU": {"capacity": 8, "used": 1},
            "MEMORY_MB": {"capacity": 1536, "used": 1000},
            "DISK_GB": {"capacity": 10, "used": 0},
        },
        "traits": ["COMPUTE_NODE"],
        "parent_provider_uuid": None,
        "root_provider_uuid": first,
    }
    cloud.cloud.database.write(lambda tx: hosts.change(tx, second, disabled=True))
    assert lab.found("resources=VCPU:1&required=!COMPUTE_STATUS_DISABLED") == {one("h1:VCPU")}
    path = f"/placement/resource_providers/{first}"
    assert lab.admin.delete(path).status == 409
    assert lab.admin.put(path, {"name": "other"}).status == 400
    assert lab.admin.post("/placement/resource_providers", {"name": "h2"}).status == 409


def test_a_tree_and_shared_storage(cloud: Harness) -> None:
    lab = Lab(cloud)
    lab.add("host", MEMORY_MB=1024)
    lab.add("numa0", "host", traits="CUSTOM_FAST", VCPU=4)
    lab.add("numa1", "host", VCPU=4)
    lab.add("alone", VCPU=4, MEMORY_MB=1024, DISK_GB=50)
    lab.add("nfs", shares=True, DISK_GB=100)
    lab.join("host", "nfs")
    assert lab.found("resources=VCPU:1,DISK_GB:10") == {
        one("numa0:VCPU", "nfs:DISK_GB"),
        one("numa1:VCPU", "nfs:DISK_GB"),
        one("alone:VCPU", "alone:DISK_GB"),
    }
    assert lab.found("resources=VCPU:1,DISK_GB:10&required=CUSTOM_FAST") == {one("numa0:VCPU", "nfs:DISK_GB")}
    assert lab.found("resources=VCPU:1,DISK_GB:60") == {
        one("numa0:VCPU", "nfs:DISK_GB"),
        one("numa1:VCPU", "nfs:DISK_GB"),
    }
    assert lab.found(f"resources=VCPU:1&in_tree={lab.ids['numa1']}") == {one("numa0:VCPU"), one("numa1:VCPU")}
    assert lab.found(f"resources=VCPU:1&member_of={AGGREGATE}") == {one("numa0:VCPU"), one("numa1:VCPU")}
    assert lab.found(f"resources=VCPU:1&member_of=!{AGGREGATE}") == {one("alone:VCPU")}
    assert lab.found("resources=VCPU:1,MEMORY_MB:1", "1.28") == {one("alone:VCPU", "alone:MEMORY_MB")}
    assert len(lab.ask("resources=VCPU:1&limit=2")["allocation_requests"]) == 2
    assert lab.found("resources=VCPU:5") == set()


def test_granular_groups(cloud: Harness) -> None:
    lab = Lab(cloud)
    lab.add("host", VCPU=8)
    for nic in ("nic0", "nic1"):
        lab.add(nic, "host", traits="CUSTOM_NIC")
        for number in (0, 1):
            lab.add(f"{nic}pf{number}", nic, traits=f"CUSTOM_NET{number}", SRIOV_NET_VF=1)
    groups = "resources=VCPU:1&resources_A=SRIOV_NET_VF:1&required_A=CUSTOM_NET0&resources_B=SRIOV_NET_VF:1"
    for policy in ("isolate", "none"):
        answer = lab.ask(f"{groups}&group_policy={policy}")
        assert len(answer["allocation_requests"]) == 6, "a function of one place is not taken twice"
    assert lab.found(
        groups + "&required_B=CUSTOM_NET1&group_policy=none&same_subtree=_A,_B,_N&required_N=CUSTOM_NIC"
    ) == {
        one("host:VCPU", "nic0pf0:SRIOV_NET_VF", "nic0pf1:SRIOV_NET_VF"),
        one("host:VCPU", "nic1pf0:SRIOV_NET_VF", "nic1pf1:SRIOV_NET_VF"),
    }
    answer = lab.ask("resources_A=SRIOV_NET_VF:1&required_A=in:CUSTOM_NET0,CUSTOM_NET1&required_A=!CUSTOM_NET1")
    assert {each["mappings"]["_A"][0] for each in answer["allocation_requests"]} == {
        lab.ids["nic0pf0"],
        lab.ids["nic1pf0"],
    }
    assert lab.found("resources=VCPU:1&root_required=CUSTOM_NIC") == set()
    assert lab.found("resources=VCPU:1&root_required=!CUSTOM_NIC") == {one("host:VCPU")}


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("", "1.39"),
        ("resources=", "1.39"),
        ("resources=VCPU", "1.39"),
        ("resources=VCPU:0", "1.39"),
        ("resources=VCPU:-1", "1.39"),
        ("resources=VCPU:x", "1.39"),
        ("resources=VCPU:1:2", "1.39"),
        ("resources=VCPU:" + "9" * 40, "1.39"),
        ("resources=NOTHING:1", "1.39"),
        ("resources=VCPU:1&required=", "1.39"),
        ("resources=VCPU:1&required=NOTHING", "1.39"),
        ("resources=VCPU:1&required=CUSTOM_%00", "1.39"),
        ("resources=VCPU:1&required=in:HW_CPU_X86_AVX", "1.38"),
        ("resources=VCPU:1&required=in:!HW_CPU_X86_AVX", "1.39"),
        ("resources=VCPU:1&required=!HW_CPU_X86_AVX", "1.21"),
        ("resources=VCPU:1&required=HW_CPU_X86_AVX,!HW_CPU_X86_AVX", "1.39"),
        ("resources=VCPU:1&member_of=x", "1.39"),
        (f"resources=VCPU:1&member_of={AGGREGATE},{AGGREGATE}", "1.39"),
        (f"resources=VCPU:1&member_of=!{AGGREGATE}", "1.31"),
        ("resources=VCPU:1&in_tree=x", "1.39"),
        (f"resources=VCPU:1&in_tree={AGGREGATE}", "1.30"),
        ("resources=VCPU:1&limit=0", "1.39"),
        ("resources=VCPU:1&limit=x", "1.39"),
        ("resources=VCPU:1&limit=1", "1.15"),
        ("resources1=VCPU:1", "1.24"),
        ("resources_A=VCPU:1", "1.32"),
        ("resources1=VCPU:1&resources2=VCPU:1", "1.39"),
        ("resources1=VCPU:1&group_policy=maybe", "1.39"),
        ("resources=VCPU:1&required1=HW_CPU_X86_AVX", "1.39"),
        ("required=HW_CPU_X86_AVX", "1.35"),
        ("resources1=VCPU:1&same_subtree=1,2", "1.39"),
        ("resources1=VCPU:1&same_subtree=1,", "1.39"),
        ("resources=VCPU:1&root_required=HW_CPU_X86_AVX&root_required=HW_CPU_X86_AVX2", "1.39"),
        ("resources=VCPU:1&root_required=!HW_CPU_X86_AVX,HW_CPU_X86_AVX", "1.39"),
        ("resources=VCPU:1&nothing=1", "1.39"),
    ],
)
def test_bad_questions(admin: Client, query: str, version: str) -> None:
    reply = admin.get(f"/placement/allocation_candidates?{query}", **{"OpenStack-API-Version": f"placement {version}"})
    assert reply.status == 400, reply
    assert reply.json["errors"][0]["detail"].strip()


def test_a_question_takes_the_same_queries_for_one_provider_and_for_many(cloud: Harness) -> None:
    lab = Lab(cloud)
    counts = []
    for number in range(2):
        for each in range(1 + 5 * number):
            lab.add(f"p{number}-{each}", VCPU=4)
        with cloud.cloud.database.read() as tx:
            before = tx.queries
            lab.ask("resources=VCPU:1")
            counts.append(tx.queries - before)
    assert counts[0] == counts[1] <= 8, counts
