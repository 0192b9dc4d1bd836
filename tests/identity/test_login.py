"""Logging in over the wire, and what a token is good for."""

from __future__ import annotations

from tests.harness import Harness


def test_admin_logs_in_on_a_project(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    reply = admin.get("/v3/auth/tokens", **{"X-Subject-Token": admin.token or ""})
    assert reply.status == 200
    token = reply.json["token"]
    assert token["project"]["name"] == "admin"
    assert [role["name"] for role in token["roles"]] == ["admin", "manager", "member", "reader"]
    assert {service["type"] for service in token["catalog"]} >= {"identity", "compute", "network", "image", "placement"}
