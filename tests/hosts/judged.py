"""A cloud over several hosts that stays until the standard input ends, for judges with tests of their own.

usage: python -m tests.hosts.judged FOLDER HOSTS — prints one line of JSON when it is up: `pid`, in whose network namespace
the server listens and the judge should be, and `state`, the server's folder, for `nephos openrc` and `nephos audit` there.

The external network is a link of its own between the hosts and the judge, who is its gateway: floating IPs are reached
from where the server is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nephos.wiring.base import Physical, WiringSettings
from tests.hosts.lab import Host, Lab
from tests.hosts.lab_cloud import PUBLIC, LabCloud

LINK, NIC = "public", "eth2"


def settings_of(host: Host) -> WiringSettings:
    host.cable(NIC, LINK)
    return WiringSettings(
        tunnel_address=host.address, physical={"public": Physical(bridge=PUBLIC.bridge, interface=NIC)}
    )


def main() -> None:
    folder, hosts = Path(sys.argv[1]), int(sys.argv[2])
    with Lab(folder, hosts=hosts) as lab:
        wiring = {host.name: settings_of(host) for host in lab.hosts}
        lab.server.cable(NIC, LINK)
        lab.server.run(f"ip address add {PUBLIC.address} dev {NIC}")
        with LabCloud(lab, outside=(), wiring=wiring) as cloud:
            print(json.dumps({"pid": lab.server.pid, "state": str(cloud.settings.state)}), flush=True)
            sys.stdin.read()


main()
