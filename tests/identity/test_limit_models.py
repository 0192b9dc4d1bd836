"""Unified limits of projects under those of their domain: the trees of Keystone's own unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nephos import errors
from nephos.settings import Settings
from tests.harness import Harness, Response


def strict(settings: Settings) -> None:
    settings.limits.model = "strict_two_level"


class Tree:
    """Two domains with two projects each, A(B, C) and D(E, F); 10 volumes are registered."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud, self.admin = cloud, cloud.login("admin", "admin")
        self.service = self.admin.get("/v3/services?type=compute").json["services"][0]["id"]
        new = {"service_id": self.service, "resource_name": "volume", "default_limit": 10}
        assert self.admin.post("/v3/registered_limits", {"registered_limits": [new]}).status == 201
        self.ids: dict[str, str] = {}
        for domain, children in (("A", "BC"), ("D", "EF")):
            self.ids[domain] = self.admin.post("/v3/domains", {"domain": {"name": domain}}).json["domain"]["id"]
            for child in children:
                self.ids[child] = self.project(child, domain_id=self.ids[domain]).json["project"]["id"]
        self.limits: dict[str, str] = {}

    def project(self, name: str, **values: Any) -> Response:
        return self.admin.post("/v3/projects", {"project": {"name": name, **values}})

    def limit(self, as_project: bool = False, /, **numbers: int) -> int:
        """The status of one request for limits by place."""
        body = [
            {
                "service_id": self.service,
                "resource_name": "volume",
                "resource_limit": number,
                "domain_id" if place in "AD" and not as_project else "project_id": self.ids[place],
            }
            for place, number in numbers.items()
        ]
        reply = self.admin.post("/v3/limits", {"limits": body})
        if reply.status == 201:
            self.limits.update(zip(numbers, (one["id"] for one in reply.json["limits"]), strict=True))
        elif reply.status == 403:
            assert "doesn't satisfy current hierarchy model" in reply.json["error"]["message"]
        return reply.status

    def change(self, place: str, number: int) -> int:
        return self.admin.patch(f"/v3/limits/{self.limits[place]}", {"limit": {"resource_limit": number}}).status


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Harness(tmp_path, strict) as cloud:
        yield Tree(cloud)


def test_the_model_says_what_it_is(tree: Tree) -> None:
    shown = tree.admin.get("/v3/limits/model").json["model"]
    assert shown == {
        "name": "strict_two_level",
        "description": "This model requires project hierarchy never exceeds a depth of two",
    }


def test_a_child_gets_no_more_than_its_parent(tree: Tree) -> None:
    assert tree.limit(A=10) == 201
    assert tree.limit(B=6, C=9) == 201
    assert tree.limit(E=11) == 403, "D has what is registered"
    assert tree.limit(E=10) == 201
    assert tree.change("C", 10) == 200
    assert tree.change("C", 11) == 403
    assert tree.change("C", -1) == 403, "unlimited is more than ten"


def test_a_parent_keeps_what_its_children_have(tree: Tree) -> None:
    assert tree.limit(B=9) == 201
    assert tree.limit(A=8) == 403
    assert tree.limit(A=12) == 201
    assert tree.change("A", 9) == 200
    assert tree.change("A", 8) == 403
    assert tree.change("A", 0) == 403
    assert tree.change("A", -1) == 200
    assert tree.change("B", -1) == 200
    assert tree.change("A", 1000) == 403, "a child is unlimited"


def test_one_request_counts_as_a_whole(tree: Tree) -> None:
    assert tree.limit(A=12, B=9, C=5, D=9, E=5, F=10) == 403
    assert tree.admin.get("/v3/limits").json["limits"] == [], "all of them or none"
    assert tree.limit(B=12, A=12, E=5) == 201, "in any order"
    assert tree.limit(C=5, D=4) == 403, "E has five"
    assert tree.limit(C=5, D=5) == 201


def test_a_domain_is_a_domain_whichever_name_it_comes_by(tree: Tree) -> None:
    assert tree.limit(True, A=5) == 201
    shown = tree.admin.get(f"/v3/limits/{tree.limits['A']}").json["limit"]
    assert shown["domain_id"] == tree.ids["A"] and shown["project_id"] is None
    assert tree.limit(A=6) == 409
    assert tree.limit(B=6) == 403


def test_projects_are_no_deeper(tree: Tree) -> None:
    below = tree.project("G", parent_id=tree.ids["B"])
    assert below.status == 201
    assert tree.project("H", parent_id=below.json["project"]["id"]).status == 403
    tree.ids["G"] = below.json["project"]["id"]
    assert tree.limit(A=10, B=5, G=6) == 403
    assert tree.limit(A=10, B=5, G=5) == 201
    assert tree.change("B", 4) == 403


def test_flat_binds_nothing_and_strict_is_refused_where_projects_are_deeper(tmp_path: Path) -> None:
    with Harness(tmp_path) as cloud:
        tree = Tree(cloud)
        assert tree.limit(A=1, B=100) == 201
        parent = tree.ids["B"]
        for name in "GH":
            parent = tree.project(name, parent_id=parent).json["project"]["id"]
    with pytest.raises(errors.SettingsError, match=rf"limits\.model: .*{parent}"):
        Harness(tmp_path, strict)
