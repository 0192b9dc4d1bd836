"""This release serves the ledger of the release before it, with its data; servers and agents of both understand each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import create_engine, inspect, text

from nephos.agent.state import State
from nephos.hosts import wire
from nephos.kernel.db import migrate
from nephos.wiring.base import Limits, LocalIp, Route, RouterGateway
from tests.harness import PASSWORDS, Harness

CHECKOUT = Path(__file__).resolve().parents[2]
MAKE = """
import sys
from pathlib import Path
from nephos import app
from nephos.kernel.db import migrate
from nephos.settings import Settings

state = Path(sys.argv[1])
(state / "server").mkdir(parents=True)
settings = Settings(state=state, hypervisor="fake")
settings.tokens.bcrypt_rounds = 4
cloud = app.compose(settings)
migrate.upgrade(cloud.database.engine)
app.seed(cloud, {"admin": "admin-secret", "demo": "demo-secret"})
cloud.database.close()
"""


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, check=False)


def previous_source(folder: Path) -> Path:
    """The package as the commit before the newest migration has it: what the migration is for."""
    newest = max((migrate.HERE / "versions").glob("[0-9]*.py"))
    added = git("log", "--diff-filter=A", "--format=%h", "-1", "--", str(newest)).stdout.decode().strip()
    archive = git("archive", f"{added}~1" if added and newest.name[:4] != "0001" else "HEAD", "src")
    if archive.returncode:
        pytest.skip("this checkout has no history to take the previous release from")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "src"


def test_the_previous_releases_ledger_is_upgraded_with_its_data(tmp_path: Path) -> None:
    source = previous_source(tmp_path)
    state = tmp_path / "state"
    run(source, MAKE, state)
    url = f"sqlite:///{state / 'server' / 'ledger.db'}"
    before = counts(url)
    assert before["identity_user"] >= 2

    migrate.upgrade(create_engine(url))

    after = counts(url)
    assert {table: after.get(table) for table in before} == before
    with Harness(state) as cloud:
        demo = cloud.login("demo", "demo", password=PASSWORDS["demo"])
        names = {network["name"] for network in demo.get("/network/v2.0/networks").json["networks"]}
        assert {"private", "public"} <= names


KEEP = """
import sys
from pathlib import Path
import msgspec
from nephos.agent.state import State
from nephos.hosts import wire
from nephos.hosts.guest import GuestItem
from nephos.wiring import base

at = base.Address(address="172.24.4.5", prefix=24, subnet_id="s")
leg = dict(network_id="n", mac="fa:16:3e:00:00:01", addresses=(at,))
things = {
    "network": base.Network(id="n", kind="vxlan", segment=7, peers=("192.0.2.2",), subnets=(
        base.Subnet(id="s", cidr="172.24.4.0/24", version=4, routes=(base.Route(destination="10.0.0.0/8", nexthop="172.24.4.9"),)),)),
    "port": base.Port(id="p", network_id="n", mac="fa:16:3e:00:00:02", index=3, groups=("g",), pairs=(("10.0.0.0/8", None),)),
    "group": base.Group(id="g", rules=(base.Rule(direction="ingress", version=4, remote_group_id="g"),), members=("172.24.4.7",)),
    "router": base.Router(id="r", interfaces=(base.RouterInterface(port_id="i", **leg),), floating=(base.Floating(
        address="172.24.4.8", fixed="10.0.0.8"),), gateways=(base.RouterGateway(port_id="o", nexthops=("172.24.4.1",), snat=False, **leg),)),
    "guest": GuestItem(id="v", power="running", data=msgspec.Raw(msgspec.msgpack.encode({})), ports=("p",)),
}
state = State(Path(sys.argv[1]))
state.take(wire.HostState("h", 1, True, tuple(wire.Item(kind, each.id, msgspec.msgpack.encode(each)) for kind, each in things.items())))
state.save()
"""
READ = """
import sys
from pathlib import Path
from nephos.agent.state import State

state = State(Path(sys.argv[1]))
assert state.known
(router,) = state.wiring.routers.values()
gateway = router.gateway
print(len(state.digest()), len(state.wiring.networks), len(state.wiring.ports), len(state.wiring.groups), sorted(state.guests))
print(gateway.port_id, gateway.mac, *gateway.nexthops, gateway.snat, [leg.port_id for leg in router.interfaces])
"""


def run(source: Path, script: str, argument: Path) -> str:
    """What the script prints, run by the code below `source`."""
    environment = {"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(argument)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_agents_of_both_releases_read_each_others_servers(tmp_path: Path) -> None:
    """What an agent keeps is what its server said, byte by byte: read here, and said again for the release before."""
    source, kept = previous_source(tmp_path), tmp_path / "desired"
    run(source, KEEP, kept)
    before = run(source, READ, kept)
    assert before.splitlines()[1] == "o fa:16:3e:00:00:01 172.24.4.1 False ['i']"

    assert run(CHECKOUT / "src", READ, kept) == before
    state = State(kept)
    router = state.wiring.routers["r"]
    again = State(tmp_path / "again")
    second = RouterGateway(port_id="second", network_id="n", mac="fa:16:3e:00:00:03", addresses=())
    more = msgspec.structs.replace(router, gateways=(*router.gateways, second), ecmp=True)
    limits = Limits(to_kbits=1000)
    said = {
        "network": msgspec.structs.replace(state.wiring.networks["n"], detours=("192.0.2.2",)),
        "port": msgspec.structs.replace(state.wiring.ports["p"], limits=limits, local=(LocalIp(address="a", fixed="b"),)),
        "group": state.wiring.groups["g"],
        "router": more,
        "guest": msgspec.structs.replace(state.guests["v"], aside=True),
        "of another release": Route(destination="a", nexthop="b"),
    }
    items = [wire.Item(kind, getattr(each, "id", "x"), msgspec.msgpack.encode(each)) for kind, each in said.items()]
    again.take(wire.HostState("h", 1, True, tuple(items)))
    again.save()
    assert again.wiring.routers["r"] == more
    assert run(source, READ, tmp_path / "again") == before, "the release before, of today's server"


def counts(url: str) -> dict[str, int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
        return {name: int(connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar() or 0) for name in tables}
