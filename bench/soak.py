"""Hours of mixed load with kills: `make soak` (ARGS="--minutes 60").

Clients make and delete servers, ports and networks on simulated hosts while server and agent are killed at random. At the
end everything is deleted, and `nephos audit` must find nothing: nothing stuck, nothing orphaned, no usage left.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import openstack.exceptions
from keystoneauth1.exceptions import ClientException

from tests.cloud import RunningCloud, wait_for


class Count:
    """What was done, and what was refused while a role was away."""

    def __init__(self) -> None:
        self.done = self.refused = 0
        self.lock = threading.Lock()

    def attempt(self, call: Any) -> Any:
        try:
            result = call()
        except (openstack.exceptions.SDKException, ClientException, OSError):
            with self.lock:
                self.refused += 1
            time.sleep(0.2)
            return None
        with self.lock:
            self.done += 1
        return result


def client(cloud: RunningCloud, count: Count, end: float, number: int) -> None:
    """One user: a server on the private network, looked at, sometimes stopped and started, then deleted."""
    dice = random.Random(number)
    demo = cloud.connect("admin")
    image = next(iter(demo.image.images())).id
    network = demo.network.find_network("private", ignore_missing=True)
    turn = 0
    while time.monotonic() < end:
        turn += 1
        body: dict[str, Any] = {"name": f"soak-{number}-{turn}", "image_id": image, "flavor_id": "42"}
        body["networks"] = [{"uuid": network.id}] if network is not None and dice.random() < 0.5 else "none"
        server = count.attempt(lambda body=body: demo.compute.create_server(**body))
        if server is None:
            continue
        for _ in range(dice.randrange(4)):
            count.attempt(lambda server=server: demo.compute.get_server(server.id))
            count.attempt(lambda: list(demo.compute.servers(details=False)))
        count.attempt(lambda server=server: demo.compute.delete_server(server.id, ignore_missing=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--kill-every", type=float, default=20, metavar="SECONDS")
    options = parser.parse_args()
    count, kills = Count(), 0
    with RunningCloud(hypervisor="fake", hosts=options.hosts) as cloud:
        cloud.hosts_up(options.hosts)
        admin = cloud.connect("admin")
        admin.create_image("soak", data=b"\0" * 4096, disk_format="raw", container_format="bare", wait=True)
        admin.set_compute_quotas("admin", instances=-1, cores=-1, ram=-1)
        end = time.monotonic() + options.minutes * 60
        users = [
            threading.Thread(target=client, args=(cloud, count, end, number), daemon=True)
            for number in range(options.clients)
        ]
        for user in users:
            user.start()
        while time.monotonic() + options.kill_every < end:
            time.sleep(options.kill_every)
            cloud.kill(random.choice(("server", "agent")))
            kills += 1
        for user in users:
            user.join()
        wait_for(lambda: count.attempt(lambda: [True]), 60, "the APIs to answer")
        for server in admin.compute.servers():
            count.attempt(lambda server=server: admin.compute.delete_server(server.id, ignore_missing=True))
        wait_for(lambda: not list(admin.compute.servers()), 120, "every server gone")
        wait_for(lambda: cloud.audit() == [], 60, f"an audit without findings: {cloud.audit()}")
    print(
        f"{count.done} requests done, {count.refused} refused while a role was away, {kills} kills; audit finds nothing"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
