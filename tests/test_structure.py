"""The shape of the product, as docs/architecture.md draws it: who imports whom, how long things are, who may what."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import Harness

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nephos"
SERVICES = ("identity", "image", "network", "volume", "placement", "compute")
"""In the order in which they may use each other."""

BASE = {"errors", "kernel", "settings"}
MAY_USE: dict[str, set[str]] = {
    "errors": set(),
    "settings": {"errors", "wiring.base"},
    "kernel": {"errors"},
    "wiring": BASE,
    "hypervisor": BASE,
    "storage": BASE,
    "hosts": BASE | {"hypervisor.base", "wiring.base"},
    "agent": BASE | {"hosts", "hypervisor", "wiring"},
    "guestimage": BASE,
    "doctor": BASE | {"hosts", "guestimage", "identity", "network", "wiring.probe"},
    **{
        service: BASE
        | {"hosts", "hypervisor.base", "wiring.base", "wiring.probe", "storage.base", "agent.guestdata", *SERVICES[:position]}
        for position, service in enumerate(SERVICES)
    },
}
"""What a part of the product may import besides itself. The composition root, the roles and the command line use all."""

ROOTS = {"app", "server", "cli", "__main__", "__init__"}
PRIVATE = {"store", "api", "steps", "wire"}
"""Modules of a noun that another service never imports."""

ALLOWED = {
    ("image.service", "storage.file"): "the image service opens the store that its settings name",
}

MOST_LINES = 600
MOST_LINES_OF_A_FUNCTION = 60
LONGER = {
    "kernel/policy/parse.py": "one grammar",
}
TABLES = ("policies.py", "migrations/versions/")
"""Files that are one table each, however long."""

TIME = {"time", "random", "uuid", "secrets"}
"""Modules that only the clock imports, so that a virtual one can run the crash tests."""

CHANCE = {"uuid.uuid1", "uuid.uuid4", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "os.urandom"}

ASYNCIO = {"hosts/streams.py", "hosts/tunnels.py"}

PUBLIC = {
    ("GET", "nephos", "/healthcheck"),
    ("GET", "nephos", "/metrics"),
    ("POST", "identity", "/v3/auth/tokens"),
    ("POST", "identity", "/v3/users/{user_id}/password"),
    ("GET", "identity", "/v2.0/{rest:path}"),
    ("POST", "identity", "/v2.0/{rest:path}"),
}
"""Routes without a permission, besides version documents: what is asked before there is a token, and what is gone."""
VERSIONS = re.compile(r"^(/|/v[0-9.]+/?|/versions)?$")


class Module(NamedTuple):
    path: Path
    name: str
    """Below the package: `kernel.db.engine`."""
    tree: ast.Module

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(SOURCE))


@functools.cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        found.append(Module(path, name, ast.parse(path.read_text(), str(path))))
    return tuple(found)


def imports(node: ast.AST) -> Iterator[str]:
    """Every imported module or name of one, but for those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from imports(other)
            continue
        if isinstance(child, ast.Import):
            yield from (each.name for each in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{each.name}" for each in child.names)
        yield from imports(child)


def ours(module: Module) -> set[str]:
    """The product's modules that one imports, without the package's name."""
    names = {each.name for each in modules()}
    found = set()
    for name in imports(module.tree):
        if name.startswith("nephos."):
            name = name.removeprefix("nephos.")
            while name and name not in names:
                name = name.rpartition(".")[0]
            found.add(name)
    return found - {"", module.name}


def part(name: str) -> str:
    return name.partition(".")[0]


def test_imports_go_one_way() -> None:
    wrong = []
    for module in modules():
        if part(module.name) in ROOTS:
            continue
        may = MAY_USE[part(module.name)] | {part(module.name)}
        for used in sorted(ours(module)):
            if (module.name, used) in ALLOWED or part(used) == "__init__":
                continue
            if part(used) not in may and used not in may:
                wrong.append(f"{module.name} imports {used}")
    assert wrong == [], "\n".join(wrong)


def test_a_service_does_not_reach_into_another() -> None:
    wrong = []
    for module in modules():
        if part(module.name) not in SERVICES:
            continue
        for used in sorted(ours(module)):
            foreign = part(used) in SERVICES and part(used) != part(module.name)
            if foreign and used.rpartition(".")[2] in PRIVATE and (module.name, used) not in ALLOWED:
                wrong.append(f"{module.name} imports {used}")
    assert wrong == [], "\n".join(wrong)


def test_parts_of_the_drivers_import_what_is_below_them() -> None:
    """A driver's base knows no driver, only the types of its own protocol."""
    wrong = []
    for module in modules():
        if module.name in ("wiring.base", "hypervisor.base", "storage.base"):
            wrong += [
                f"{module.name} imports {used}"
                for used in ours(module)
                if part(used) not in ("errors", "kernel") and used != "wiring.probe"
            ]
    assert wrong == [], "\n".join(wrong)


def test_rooms_of_the_linux_driver_import_what_is_below_them() -> None:
    """The kernel's own words know no network; rules know what they guard."""
    rooms = ("system", "rates", "switch", "serving", "routers", "rules", "")
    home, wrong = "wiring.linux.", []
    for module in modules():
        if not module.name.startswith(home):
            continue
        room = module.name.removeprefix(home).rpartition(".")[0]
        if room not in rooms:
            continue
        below = rooms.index(room)
        for used in sorted(ours(module)):
            name = used.removeprefix(home).rpartition(".")[0]
            if used.startswith(home) and name in rooms and rooms.index(name) > below:
                wrong.append(f"{module.name} imports {used}")
    assert wrong == [], "\n".join(wrong)


def test_exceptions_are_still_needed() -> None:
    used = {module.name: ours(module) for module in modules()}
    assert [pair for pair in ALLOWED if pair[1] not in used.get(pair[0], set())] == []


def test_only_the_clock_knows_time_and_chance() -> None:
    wrong = []
    for module in modules():
        if module.name == "kernel.clock" or part(module.name) == "cli":
            continue
        for name in imports(module.tree):
            if part(name) in TIME and name not in ("uuid", "uuid.UUID"):
                wrong.append(f"{module.shown} imports {name}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = f"{node.value.id}.{node.attr}"
                if called in CHANCE:
                    wrong.append(f"{module.shown}:{node.lineno} calls {called}")
    assert wrong == [], "\n".join(wrong)


def test_asyncio_stays_in_the_streams_listener() -> None:
    wrong = [
        f"{module.shown} imports {name}"
        for module in modules()
        for name in imports(module.tree)
        if (part(name) == "asyncio" or ".asyncio" in name) and module.shown not in ASYNCIO
    ]
    wrong += [
        f"{module.shown}:{node.lineno} is async"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.AsyncFunctionDef) and module.shown not in ASYNCIO
    ]
    assert wrong == [], "\n".join(wrong)


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{module.shown}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and part(module.name) != "cli"
    ]
    assert wrong == [], "\n".join(wrong)


def test_files_are_short() -> None:
    wrong = [
        f"{module.shown} has {lines} lines"
        for module in modules()
        if not any(table in module.shown for table in TABLES)
        and (lines := len(module.path.read_text().splitlines())) > MOST_LINES
        and module.shown not in LONGER
    ]
    assert wrong == [], "\n".join(wrong)


def test_functions_are_short() -> None:
    wrong = [
        f"{module.shown}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any(table in module.shown for table in TABLES)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ]
    assert wrong == [], "\n".join(wrong)


def test_every_module_says_what_it_is() -> None:
    wrong = [
        module.shown
        for module in modules()
        if not ast.get_docstring(module.tree) and module.path.read_text().strip() and module.name != "__main__"
    ]
    assert wrong == [], "\n".join(wrong)


def test_every_route_has_a_permission_that_exists_or_is_public_on_purpose(tmp_path: Path) -> None:
    wrong = []
    with Harness(tmp_path) as cloud:
        for service in cloud.front.services:
            for route in service.routes:
                shown = f"{service.name}: {route.method} {route.path} {route.action or ''}"
                if route.permission is None:
                    if (route.method, service.name, route.path) not in PUBLIC and not VERSIONS.match(route.path):
                        wrong.append(f"{shown} is public")
                elif route.permission not in cloud.cloud.policies:
                    wrong.append(f"{shown} has an unknown permission {route.permission}")
                if route.target not in ("own", "later"):
                    wrong.append(f"{shown} has an unknown target {route.target}")
                if not 200 <= route.status < 400:
                    wrong.append(f"{shown} has status {route.status}")
    assert wrong == [], "\n".join(wrong)


def test_no_two_routes_answer_the_same(tmp_path: Path) -> None:
    wrong = []
    with Harness(tmp_path) as cloud:
        for service in cloud.front.services:
            seen: dict[tuple[str, str, str | None], list[tuple[object, object]]] = {}
            for route in service.routes:
                ranges = seen.setdefault((route.method, route.path, route.action), [])
                low, high = route.since or (0, 0), route.until or (9, 9999)
                if any(low <= other_high and other_low <= high for other_low, other_high in ranges):  # type: ignore[operator]
                    wrong.append(f"{service.name}: {route.method} {route.path} {route.action or ''}")
                ranges.append((low, high))
    assert wrong == [], "\n".join(wrong)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def test_no_notes_and_no_paths_of_somebodys_machine(tracked: list[Path]) -> None:
    paths = re.compile(r"(?<![\w./])/(work|home/[a-z]+|Users)/\w|# *(TODO|FIXME|XXX|HACK)\b")
    wrong = []
    for path in tracked:
        shown = path.relative_to(ROOT)
        if path.suffix in (".txt", ".orig", ".rej", ".bak") and shown.parts[0] in ("src", "tests"):
            wrong.append(f"{shown} does not belong here")
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        if path != Path(__file__):
            wrong += [
                f"{shown}:{number}: {line.strip()[:80]}" for number, line in enumerate(lines, 1) if paths.search(line)
            ]
    assert wrong == [], "\n".join(wrong)
