"""Measure the cloud with simulated hosts: `make bench`; with --check compare with the promises in docs/spec.md.

    bench/run.py [--check] [--hosts N] [--seconds S] [--load SCRIPT] [--listen HOST:PORT] [--up WORDS] [--keep]

`--up` gives more words to `nephos up`, such as "--database postgresql://… --servers 2".

The load comes from OpenStack's side of the comparison, the same script that measured it: by default the file
`../shared/bench/api_load.py` beside the checkout. Client and cloud share the machine, so quote ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LOAD = CHECKOUT.parent / "shared" / "bench" / "api_load.py"
LISTEN = "127.0.0.1:5940"

Figures = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 when a promise of docs/spec.md is missed")
    parser.add_argument("--hosts", type=int, default=1, help="simulated hosts (1)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds a request is measured for (5)")
    parser.add_argument("--load", type=Path, default=LOAD, help=f"the load script ({LOAD})")
    parser.add_argument("--listen", default=LISTEN, help=f"where the cloud listens ({LISTEN})")
    parser.add_argument("--up", default="", metavar="WORDS", help="more words of `nephos up`")
    parser.add_argument("--keep", action="store_true", help="leave the cloud running")
    options = parser.parse_args()
    if not options.load.exists():
        print(f"bench: there is no load script at {options.load}: give one with --load", file=sys.stderr)
        return 2
    state = Path(tempfile.mkdtemp(prefix="nephos-bench-", dir="/var/tmp"))
    state.chmod(0o755)
    nephos = [str(Path(os.environ.get("NEPHOS_PREFIX", "/opt/nephos")) / "bin" / "nephos")]
    try:
        figures = measure(nephos, state, options)
    finally:
        if not options.keep:
            subprocess.run([*nephos, "down", "--purge", "--state", str(state)], check=False)
    promises = read_promises(CHECKOUT / "docs" / "spec.md")
    return show(figures, promises, check=options.check)


def measure(nephos: list[str], state: Path, options: argparse.Namespace) -> Figures:
    """Start, load, look. Answers figure name → value, in the units of docs/spec.md."""
    micro = [sys.executable, str(CHECKOUT / "bench" / "micro.py"), "--json"]
    figures: Figures = json.loads(subprocess.run(micro, check=True, stdout=subprocess.PIPE).stdout)
    up = [
        *nephos,
        "up",
        "--state",
        str(state),
        "--listen",
        options.listen,
        "--hypervisor",
        "fake",
        "--hosts",
        str(options.hosts),
        *options.up.split(),
    ]
    subprocess.run(up, check=True)
    time.sleep(5)
    figures["memory_idle_mb"] = memory(nephos, state)
    cloud = credentials(nephos, state)
    load = [sys.executable, str(options.load), "--cloud", str(cloud), "--json", str(state / "bench.jsonl")]
    raise_quota(nephos, state)
    subprocess.run([*load, "prepare"], check=True, stdout=subprocess.DEVNULL)
    boots = [boot(load, state) for _ in range(3)]
    figures["boot_servers_per_s"] = sorted(boots)[1]
    subprocess.run(
        [*load, "boot", "--count", "100", "--conc", "8", "--keep", "--poll", "0.05"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run([*load, "api", "--seconds", str(options.seconds), "--maxn", "100000"], check=True)
    for line in (state / "bench.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "rps" in row:
            name = re.sub(r" \(.*\)", "", row["test"]).lower()
            name = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
            figures[f"{name}_rps_{row['conc']}"] = row["rps"]
    subprocess.run([*load, "cleanup"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*nephos, "down", "--state", str(state)], check=True)
    began = time.monotonic()
    subprocess.run(up, check=True)
    figures["up_seconds"] = time.monotonic() - began
    return figures


def boot(load: list[str], state: Path) -> float:
    """100 servers, 8 at a time, to all ACTIVE: servers a second."""
    subprocess.run(
        [*load, "boot", "--count", "100", "--conc", "8", "--poll", "0.02"], check=True, stdout=subprocess.DEVNULL
    )
    rows = [json.loads(line) for line in (state / "bench.jsonl").read_text().splitlines()]
    last = next(row for row in reversed(rows) if row["test"] == "boot")
    if last["active"] != last["count"]:
        raise SystemExit(f"bench: only {last['active']} of {last['count']} servers became ACTIVE")
    return float(last["servers_per_s"])


def memory(nephos: list[str], state: Path) -> float:
    """PSS of server and agent in MB, the supervisor too."""
    status = json.loads(
        subprocess.run([*nephos, "status", "--json", "--state", str(state)], check=True, stdout=subprocess.PIPE).stdout
    )
    total = 0
    for process in status["processes"]:
        text = Path(f"/proc/{process['pid']}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])  # type: ignore[index]
    return total / 1024


def credentials(nephos: list[str], state: Path) -> Path:
    exports = json.loads(
        subprocess.run(
            [*nephos, "openrc", "admin", "--json", "--state", str(state)], check=True, stdout=subprocess.PIPE
        ).stdout
    )
    names = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name")
    path = state / "cloud.json"
    path.write_text(json.dumps({name: exports["OS_" + name.upper()] for name in names}))
    path.chmod(0o600)
    return path


def raise_quota(nephos: list[str], state: Path) -> None:
    """The load is admin's; its quotas must not be what is measured."""
    exports = json.loads(
        subprocess.run(
            [*nephos, "openrc", "admin", "--json", "--state", str(state)], check=True, stdout=subprocess.PIPE
        ).stdout
    )
    binary = Path(os.environ.get("NEPHOS_PREFIX", "/opt/nephos")) / "bin" / "openstack"
    environment = {**os.environ, **exports, "no_proxy": "127.0.0.1"}
    words = ["quota", "set", "--instances", "-1", "--cores", "-1", "--ram", "-1", "--ports", "-1", "admin"]
    subprocess.run([str(binary), *words], check=True, env=environment)


def read_promises(path: Path) -> dict[str, tuple[str, float, str]]:
    """Rows `| words | name | ≥ or ≤ number | OpenStack |` of docs/spec.md → name: (sign, bound, OpenStack's figure)."""
    found = {}
    for line in path.read_text().splitlines():
        row = re.match(r"^\|[^|]*\| `(\w+)` \| ([≥≤]) ([\d,.]+)[^|]*\| ([^|]*)\|", line)
        if row:
            found[row[1]] = (row[2], float(row[3].replace(",", "")), row[4].strip())
    return found


def show(figures: Figures, promises: dict[str, tuple[str, float, str]], *, check: bool) -> int:
    missed = 0
    print(f"\n{'figure':<44}{'measured':>12}{'promised':>14}  {'OpenStack'}")
    for name, value in figures.items():
        sign, bound, other = promises.get(name, ("", 0.0, ""))
        wrong = (sign == "≥" and value < bound) or (sign == "≤" and value > bound)
        missed += wrong
        promise = f"{sign} {bound:g}" if sign else ""
        print(f"{name:<44}{value:>12.1f}{promise:>14}  {other}{'   MISSED' if wrong else ''}")
    return 1 if check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
