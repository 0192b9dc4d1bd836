"""The Linux wiring driver in a process of its own inside a lab host, driven by lines of JSON on its input.

usage: wiring_process.py STATE_DIR CLOUD_ID SETTINGS — a line is [command, argument]; the answer is one line of JSON.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from nephos.errors import HostFault
from nephos.kernel import clock
from nephos.wiring.base import Desired, Fact, Key, Kind, WiringSettings
from nephos.wiring.linux import LinuxWiring
from nephos.wiring.probe import Watch


def main() -> None:
    state_dir, cloud_id, settings = sys.argv[1:]
    wiring = LinuxWiring(
        msgspec.json.decode(settings, type=WiringSettings), state_dir=Path(state_dir), cloud_id=cloud_id
    )
    facts: list[Fact] = []
    lock = threading.Lock()

    def report(fact: Fact) -> None:
        with lock:
            facts.append(fact)

    def metadata(port_id: str, path: str) -> bytes | None:
        return None if path == "/nothing" else f"{port_id} {path}".encode()

    def post(port_id: str, path: str, body: bytes) -> int:
        return 405 if path != "/password" else 200 if body == port_id.encode() else 409

    wiring.serve_metadata(metadata, post)
    wiring.watch(report)

    def run(command: str, argument: Any) -> Any:
        match command:
            case "apply":
                desired = msgspec.convert(argument["desired"], Desired)
                hint = argument.get("changed")
                changed = None if hint is None else frozenset(Key(Kind(kind), name) for kind, name in hint)
                before, changes = clock.monotonic(), wiring.changes
                errors = wiring.apply(desired, changed)
                return {
                    "errors": {f"{key.kind} {key.id}": text for key, text in errors.items()},
                    "seconds": clock.monotonic() - before,
                    "changes": wiring.changes - changes,
                }
            case "check":
                try:
                    wiring.check()
                except HostFault as problem:
                    return problem.message
                return ""
            case "leftovers":
                return wiring.leftovers(msgspec.convert(argument, Desired))
            case "purge":
                return wiring.purge()
            case "expect":
                return wiring.expect(argument)
            case "unexpect":
                return wiring.unexpect(argument)
            case "probe":
                return wiring.probe(msgspec.convert(argument, Watch))
            case "facts":
                with lock:
                    return list(facts)
        raise ValueError(command)

    print("ready", flush=True)
    for line in sys.stdin:
        command, argument = msgspec.json.decode(line)
        try:
            answer: Any = {"ok": run(command, argument)}
        except Exception as problem:
            answer = {"failed": f"{type(problem).__name__}: {problem}"}
        print(msgspec.json.encode(answer).decode(), flush=True)
    wiring.close()


main()
