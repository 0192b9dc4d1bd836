"""Identity with many people: 100,000 users, 10,000 projects, 500,000 assignments. Part of `make soak`; alone:

    bench/people.py [--users N] [--projects N] [--check]

In process: a token for a project by another token (no password is hashed), and the effective assignments of one user, of
whom a tenth are by a group. `--check` fails when a median is above what docs/spec.md promises.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import select

from nephos.identity.assignments.store import assignment
from nephos.identity.groups import store as groups
from nephos.identity.projects.store import project
from nephos.identity.roles.store import role
from nephos.identity.users.store import user
from tests.harness import PASSWORDS, Harness

BATCH = 20_000
MOST_MS = {"token issued": 5.0, "effective assignments of one user": 5.0}


def fill(cloud: Harness, users: int, projects: int, each: int) -> None:
    """`each` assignments a user: on projects in turn, and by the group of a tenth of the users."""
    database = cloud.cloud.database
    with database.read() as tx:
        roles = {row.name: row.id for row in tx.all(select(role.c.name, role.c.id))}
        hashed = tx.scalar(select(user.c.password_hash).where(user.c.name == "demo"))

    def put(table: Any, rows: list[dict[str, Any]]) -> None:
        for start in range(0, len(rows), BATCH):
            database.write(lambda tx, part=rows[start : start + BATCH]: tx.insert(table, part))  # type: ignore[misc]

    common = {"domain_id": "default", "enabled": True, "options": {}, "extra": {}, "created_at": 0}
    put(project, [{**common, "id": f"p{n:07}", "name": f"project-{n}", "parent_id": "default", "is_domain": False,
                   "description": ""} for n in range(projects)])  # fmt: skip
    put(user, [{**common, "id": f"u{n:07}", "name": f"user-{n}", "password_hash": hashed, "failures": 0}
               for n in range(users)])  # fmt: skip
    put(groups.group, [{"id": "g0", "domain_id": "default", "name": "many", "description": "", "extra": {}, "created_at": 0}])
    put(groups.membership, [{"group_id": "g0", "user_id": f"u{n:07}"} for n in range(0, users, 10)])
    grant = {"role_id": roles["member"], "inherited": False, "target": "project"}
    put(assignment, [{**grant, "actor": "group", "actor_id": "g0", "target_id": f"p{n:07}"} for n in range(10)])
    put(assignment, [{**grant, "actor": "user", "actor_id": f"u{n:07}", "target_id": f"p{(n * each + k) % projects:07}"}
                     for n in range(users) for k in range(each)])  # fmt: skip


def median_ms(count: int, call: Callable[[int], None]) -> float:
    taken = []
    for number in range(count):
        begun = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--projects", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=5, help="assignments of a user")
    parser.add_argument("--check", action="store_true", help="fail when a promise is not kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nephos-people-", dir="/var/tmp") as folder, Harness(Path(folder)) as cloud:
        begun = time.monotonic()
        fill(cloud, options.users, options.projects, options.each)
        print(f"{options.users} users, {options.projects} projects, {options.users * options.each} assignments "
              f"in {time.monotonic() - begun:.0f} s")  # fmt: skip
        admin = cloud.login("admin", "admin")
        step = max(1, options.users // 97)
        people = [cloud.login(f"user-{n * step}", password=PASSWORDS["demo"]) for n in range(20)]

        def issue(number: int) -> None:
            who, at = people[number % 20], (number % 20) * step * options.each % options.projects
            scope = {"project": {"id": f"p{at:07}"}}
            body = {"auth": {"identity": {"methods": ["token"], "token": {"id": who.token}}, "scope": scope}}
            assert who.post("/v3/auth/tokens", body).status == 201

        def effective(number: int) -> None:
            reply = admin.get(f"/v3/role_assignments?effective&user.id=u{number * step % options.users:07}")
            assert len(reply.json["role_assignments"]) >= options.each

        figures = {"token issued": median_ms(200, issue), "effective assignments of one user": median_ms(97, effective)}
    for name, value in figures.items():
        print(f"{name:<40}{value:8.2f} ms (promise: {MOST_MS[name]:g})")
    return int(options.check and any(value > MOST_MS[name] for name, value in figures.items()))


if __name__ == "__main__":
    sys.exit(main())
