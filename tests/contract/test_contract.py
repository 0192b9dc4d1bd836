"""Runs the contracts: what each API answers to what, written as YAML.

A file is a list of steps. A step:

    - name: a network is made            # words for the failure
      as: demo                           # who asks; see below. Left off: the step before's, first of all admin
      request: POST /network/v2.0/networks
      headers: {OpenStack-API-Version: compute 2.90}
      body: {network: {name: n1}}        # or `raw: "..."` for bytes that are no JSON
      status: 201                        # or a list of statuses
      json: {network: {name: n1, id: $id}}
      absent: [network.provider]         # paths that must not be there
      header: {X-Openstack-Request-Id: "^req-"}
      save: {net: network.id}            # later steps write ${net}
      until: 5                           # repeat the request for at most so many seconds until all of it holds

`as`: `admin` and `demo` are scoped to their own projects, `nobody` has no token, `system` is admin on the whole system,
`USER@PROJECT` is a user of the default domain whose password is USER-secret, `unscoped:USER`; anything else must be a
saved variable holding a token: `as: ${token}`.

`json` is a subset: a mapping holds at least these keys, a list has exactly these items in this order. A text that is
`$name` matches anything and saves it under that name; `~REGEX` matches a text; `$any` anything but null.
`{$contains: [..]}` is a list in which each of these occurs, `{$length: n}` one of that many, `{$lacks: [..]}` one in
which none occurs. A path is `a.b.0.c`; `header:NAME` names a header. `${name}` is replaced in every text of a step; a
text that is nothing but `${name}` becomes the saved value itself.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import Client, Harness, Response

KEYS = {
    "name", "as", "request", "headers", "body", "raw", "status", "json", "absent", "header", "save", "until",
}  # fmt: skip


class Mismatch(AssertionError):
    pass


class Run:
    """One contract being run: who is logged in, and what was saved."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud = cloud
        self.saved: dict[str, Any] = {}
        self.clients: dict[str, Client] = {}
        self.who = "admin"

    def client(self, who: str) -> Client:
        if who not in self.clients:
            self.clients[who] = self._login(who)
        return self.clients[who]

    def _login(self, who: str) -> Client:
        if who == "nobody":
            return self.cloud.nobody
        if who == "system":
            return self.cloud.login("admin", scope={"system": {"all": True}})
        if who.startswith("unscoped:"):
            return self.cloud.login(who.partition(":")[2], scope="unscoped")
        if re.fullmatch(r"[\w.-]+@[\w.-]+", who):
            user, _, project = who.partition("@")
            return self.cloud.login(user, project)
        if re.fullmatch(r"[a-z][a-z0-9]{0,20}", who):
            return self.cloud.login(who, who)
        return Client(self.cloud, who)

    def step(self, step: dict[str, Any]) -> None:
        unknown = step.keys() - KEYS
        assert not unknown, f"unknown keys {sorted(unknown)}"
        deadline = time.monotonic() + float(step.get("until", 0))
        while True:
            try:
                return self._once(step)
            except Mismatch:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)

    def _once(self, step: dict[str, Any]) -> None:
        self.who = str(self.fill(step.get("as", self.who)))
        method, _, path = self.fill(step["request"]).partition(" ")
        raw = step.get("raw")
        body = raw.encode() if isinstance(raw, str) else self.fill(step.get("body"))
        headers = {name: str(value) for name, value in self.fill(step.get("headers", {})).items()}
        reply = self.client(self.who).request(method, path, body, headers)
        try:
            self._check(step, reply)
        except Mismatch as wrong:
            shown = reply.body.decode(errors="replace")[:2000]
            raise Mismatch(f"{wrong}\n{method} {path} as {self.who} answered {reply.status}: {shown}") from None

    def _check(self, step: dict[str, Any], reply: Response) -> None:
        wanted = step["status"]
        if reply.status not in (wanted if isinstance(wanted, list) else [wanted]):
            raise Mismatch(f"status {reply.status}, not {wanted}")
        if "json" in step:
            self.match(self.fill(step["json"]), reply.json, "")
        for path in step.get("absent", []):
            if find(reply, self.fill(path)) is not MISSING:
                raise Mismatch(f"{path} is there")
        for name, pattern in step.get("header", {}).items():
            if not re.search(self.fill(pattern), reply.headers.get(name.lower(), "")):
                raise Mismatch(f"header {name}: {reply.headers.get(name.lower())!r}")
        for name, path in step.get("save", {}).items():
            value = find(reply, path)
            if value is MISSING:
                raise Mismatch(f"nothing at {path} to save")
            self.saved[name] = value

    def fill(self, value: Any) -> Any:
        """The value with saved variables in place."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, str):
            return value
        whole = re.fullmatch(r"\$\{(\w+)\}", value)
        if whole:
            return self.saved[whole[1]]
        return re.sub(r"\$\{(\w+)\}", lambda found: str(self.saved[found[1]]), value)

    def match(self, wanted: Any, found: Any, path: str) -> None:
        """Raises Mismatch naming the path where `found` is not what was wanted."""
        if isinstance(wanted, str) and wanted.startswith("$") and re.fullmatch(r"\$\w+", wanted):
            if wanted == "$any":
                if found is None:
                    raise Mismatch(f"{path or 'body'} is null")
            else:
                self.saved[wanted[1:]] = found
        elif isinstance(wanted, str) and wanted.startswith("~"):
            if not isinstance(found, str) or not re.search(wanted[1:], found):
                raise Mismatch(f"{path or 'body'} is {found!r}, which does not match {wanted[1:]}")
        elif isinstance(wanted, dict) and wanted.keys() & {"$contains", "$length", "$lacks"}:
            self._match_list(wanted, found, path)
        elif isinstance(wanted, dict):
            if not isinstance(found, dict):
                raise Mismatch(f"{path or 'body'} is {found!r}, no object")
            for key, value in wanted.items():
                if key not in found:
                    raise Mismatch(f"{path}.{key} is not there")
                self.match(value, found[key], f"{path}.{key}")
        elif isinstance(wanted, list):
            if not isinstance(found, list) or len(found) != len(wanted):
                raise Mismatch(f"{path or 'body'} is {found!r}, not a list of {len(wanted)}")
            for position, value in enumerate(wanted):
                self.match(value, found[position], f"{path}.{position}")
        elif wanted != found or isinstance(wanted, bool) is not isinstance(found, bool):
            raise Mismatch(f"{path or 'body'} is {found!r}, not {wanted!r}")

    def _match_list(self, wanted: dict[str, Any], found: Any, path: str) -> None:
        if not isinstance(found, list):
            raise Mismatch(f"{path or 'body'} is {found!r}, no list")
        if "$length" in wanted and len(found) != wanted["$length"]:
            raise Mismatch(f"{path or 'body'} has {len(found)} items, not {wanted['$length']}")
        for item in wanted.get("$contains", []):
            if not any(self._matches(item, one) for one in found):
                raise Mismatch(f"{path or 'body'} has nothing like {item!r}")
        for item in wanted.get("$lacks", []):
            if any(self._matches(item, one) for one in found):
                raise Mismatch(f"{path or 'body'} has something like {item!r}")

    def _matches(self, wanted: Any, found: Any) -> bool:
        try:
            self.match(wanted, found, "")
        except Mismatch:
            return False
        return True


MISSING = object()


def find(reply: Response, path: str) -> Any:
    """The value at a path of the body, or a header; MISSING when there is none."""
    if path.startswith("header:"):
        return reply.headers.get(path[7:].lower(), MISSING)
    value = reply.json
    for part in path.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return MISSING
    return value


def hold(cloud: Harness, contract: Path) -> None:
    """Run every step of a contract against a cloud; fails at the first that is not answered so."""
    steps = yaml.safe_load(contract.read_text())
    assert isinstance(steps, list) and steps, f"{contract.name} holds no steps"
    run = Run(cloud)
    for number, step in enumerate(steps, 1):
        try:
            run.step(step)
        except AssertionError as wrong:
            pytest.fail(f"{contract.name}, step {number} ({step.get('name', step.get('request'))}): {wrong}")


def test_contract(contract: Path, tmp_path: Path) -> None:
    with Harness(tmp_path) as cloud:
        hold(cloud, contract)
