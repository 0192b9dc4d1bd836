"""Nothing that identity deletes leaves a role assignment behind; one that is planted is found."""

from __future__ import annotations

from typing import Any

from nephos.identity import audit
from nephos.identity.assignments.store import assignment
from tests.harness import Harness


def test_deletions_leave_nothing(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")

    def make(noun: str, **values: Any) -> str:
        return str(admin.post(f"/v3/{noun}s", {noun: values}).json[noun]["id"])

    role = admin.get("/v3/roles?name=member").json["roles"][0]["id"]
    project, user, group = make("project", name="p"), make("user", name="u"), make("group", name="g")
    for path in (
        f"/v3/projects/{project}/users/{user}/roles/{role}",
        f"/v3/projects/{project}/groups/{group}/roles/{role}",
        f"/v3/domains/default/users/{user}/roles/{role}",
        f"/v3/system/users/{user}/roles/{role}",
        f"/v3/system/groups/{group}/roles/{role}",
        f"/v3/OS-INHERIT/domains/default/groups/{group}/roles/{role}/inherited_to_projects",
    ):
        assert admin.put(path).status == 204
    for path in (f"/v3/users/{user}", f"/v3/groups/{group}", f"/v3/projects/{project}"):
        assert admin.delete(path).status == 204
    with cloud.cloud.database.read() as tx:
        assert list(audit.assignments(tx)) == []
    planted = {
        "actor": "user",
        "actor_id": "ghost",
        "target": "project",
        "target_id": "nowhere",
        "role_id": role,
        "inherited": False,
    }
    cloud.cloud.database.write(lambda tx: tx.insert(assignment, planted))
    with cloud.cloud.database.read() as tx:
        assert {finding.name for finding in audit.assignments(tx)} == {"ghost", "nowhere"}
