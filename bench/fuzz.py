"""Every operation of every service under a public fuzzer that reads the API's schema: part of `make soak`.

    bench/fuzz.py [--minutes 10] [--service identity]… [--seed N]

The server is a whole one in this process, with a real ledger; nothing that is sent is kept. See tests/api/fuzz.py for the
bars. Ends with 1 when one of them was missed, and says the request.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.api import fuzz
from tests.api.world import SERVICES, World


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--service", action="append", choices=list(SERVICES), help="again for more; default all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--examples", type=int, default=5, help="of each kind, a round and operation")
    options = parser.parse_args()
    services, asked, done, wrong = options.service or list(SERVICES), Counter[str](), Counter[str](), {}
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="nephos-fuzz-") as folder:
        world = World(Path(folder))
        began, turn = time.monotonic(), 0
        end = began + options.minutes * 60
        while time.monotonic() < end:
            # Each service has its share of the time, whatever the number of its operations.
            share = (end - time.monotonic()) / (len(services) - turn % len(services))
            service, until = services[turn % len(services)], time.monotonic() + share
            number = options.seed + turn
            while time.monotonic() < until:
                found = fuzz.run(
                    world, SERVICES[service], examples=options.examples, number=number,
                    until=lambda until=until: time.monotonic() >= until,
                )  # fmt: skip
                asked[service] += found.asked
                done[service] += found.done
                wrong |= found.wrong
                number += len(services)
            turn += 1
        world.close()
    for name, why in wrong.items():
        print(f"{name}: {why}")
    told = ", ".join(f"{service} did {done[service]} of {count}" for service, count in asked.items())
    print(
        f"seed {options.seed}: {asked.total()} requests in {time.monotonic() - began:.0f} s ({told}); {len(wrong)} faults"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
