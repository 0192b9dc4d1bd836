"""`nephos audit` names what is left over: ten things planted on a host and in the ledger of a cloud with a real guest."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nephos import settings
from nephos.cli import enclosure
from nephos.hypervisor.libvirt.domain import NAMESPACE
from tests.cloud import NEPHOS, RunningCloud, wait_for

pytestmark = pytest.mark.host
HOST = "host-1"
STRAY = str(uuid.uuid4())
TAP, BRIDGE = f"tap{STRAY[:11]}", f"brq{STRAY[:11]}"
DOMAIN = f"""<domain type='qemu'>
  <name>stray</name><uuid>{STRAY}</uuid><memory unit='MiB'>16</memory>
  <metadata><n:guest xmlns:n='{NAMESPACE}' cloud='%s'/></metadata>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>"""


class Site:
    """A cloud and the ways into its host and its ledger."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.cloud_id = settings.load(cloud.state).cloud_id
        self.table = f"nephos_{self.cloud_id[:8]}"
        self.agent = cloud.state / "agent"
        self.demo: dict[str, Any] = json.loads(cloud.nephos("demo", "--json", "--listen", f"127.0.0.1:{cloud.port}"))
        self.dnsmasq = 0

    def on_host(self, *words: str, check: bool = True, text: str | None = None) -> str:
        """Run a command in the network and among the named namespaces of the cloud's host."""
        holder = enclosure.holder(self.cloud.state)
        enter = ["nsenter", "--target", str(holder), "--net", "--mount", "--"]
        done = subprocess.run([*enter, *words], capture_output=True, text=True, input=text, check=False, timeout=60)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def virsh(self, *words: str, text: str | None = None) -> None:
        socket = self.agent / "libvirt" / "run" / "libvirt-sock"
        self.on_host("virsh", "-q", "-c", f"qemu+unix:///system?socket={socket}", *words, text=text)

    def edit(self, *statements: str) -> None:
        """Change the ledger behind the cloud's back."""
        with closing(sqlite3.connect(self.cloud.state / "server" / "ledger.db", timeout=20)) as ledger, ledger:
            for statement in statements:
                assert ledger.execute(statement).rowcount == 1, statement

    def copy(self, table: str, like: str, **values: Any) -> str:
        """The statement that inserts a copy of the row that is `like` this, but for these values."""
        with closing(sqlite3.connect(self.cloud.state / "server" / "ledger.db")) as ledger:
            names = [row[1] for row in ledger.execute(f"pragma table_info({table})")]
        assert values.keys() <= set(names)
        said = {name: "null" if value is None else repr(value) for name, value in values.items()}
        chosen = ", ".join(said.get(name, f'"{name}"') for name in names)
        columns = ", ".join(f'"{name}"' for name in names)
        return f"insert into {table} ({columns}) select {chosen} from {table} where {like} limit 1"

    def plant_in_ledger(self) -> None:
        server, now = self.demo["server"], int(time.time() * 1e6)
        hour = 3_600_000_000
        self.edit(
            self.copy(
                "placement_allocation", f"consumer_id = '{server}' and resource_class = 'VCPU'", consumer_id=STRAY
            ),
            self.copy(
                "network_port",
                f"device_id = '{server}'",
                id=STRAY,
                device_id=STRAY,
                mac="fa:16:3e:00:00:01",
                host_id=None,
                host_index=None,
                status="DOWN",
            ),
            # A kind that no version knows fails whenever it is looked at, also at its deadline. It is another server's:
            # while an operation lives, its server's capacity and ports are its to give back.
            self.copy(
                "operation",
                f"noun_id = '{server}'",
                id=STRAY,
                noun_id=str(uuid.uuid4()),
                kind="server.unknown",
                state="running",
                due_at=now,
                deadline=now - hour,
                finished_at=None,
            ),
        )

    def plant_on_host(self) -> None:
        """What the agent leaves alone, as it has no record of making it, or as removing it might lose something."""
        (self.agent / "instances" / STRAY).mkdir()
        self.virsh("define", "/dev/stdin", text=DOMAIN % self.cloud_id)
        self.on_host("ip", "netns", "add", f"qdhcp-{STRAY}")
        self.on_host("nft", "add", "table", "inet", f"{self.table}_old")
        folder = self.agent / "wiring" / "dhcp" / STRAY
        folder.mkdir()
        (folder / "conf").write_text("port=0\n")
        words = ["dnsmasq", f"--conf-file={folder}/conf", f"--pid-file={folder}/pid", "--user=root"]
        self.on_host("ip", "netns", "exec", f"qdhcp-{STRAY}", *words)
        self.dnsmasq = int((folder / "pid").read_text())
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()

    def plant_devices(self) -> None:
        """What the agent removes when it looks: within four seconds."""
        for name, kind, make in (
            (TAP, "port", "tuntap add {} mode tap"),
            (BRIDGE, "network", "link add {} type bridge"),
        ):
            if f" {name}:" not in self.on_host("ip", "-o", "link"):
                self.on_host("ip", *make.format(name).split())
            self.on_host("ip", "link", "set", name, "alias", f"nephos:{self.cloud_id}:{kind}:{STRAY}")

    def remove(self) -> None:
        """But for the devices, which the agent removes."""
        (self.agent / "instances" / STRAY).rmdir()
        self.virsh("undefine", STRAY)
        os.kill(self.dnsmasq, signal.SIGTERM)
        wait_for(lambda: not alive(self.dnsmasq), 5, "the stray dnsmasq ended")
        self.dnsmasq = 0
        self.on_host("ip", "netns", "delete", f"qdhcp-{STRAY}")
        self.on_host("nft", "delete", "table", "inet", f"{self.table}_old")

    def found(self) -> set[tuple[str, str]]:
        return {(each["kind"], each["name"]) for each in self.cloud.audit()}


def alive(number: int) -> bool:
    try:
        return STRAY.encode() in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with RunningCloud(hypervisor="libvirt", name=HOST) as cloud:
        made = Site(cloud)
        try:
            yield made
        finally:
            if made.dnsmasq and alive(made.dnsmasq):
                os.kill(made.dnsmasq, signal.SIGKILL)


def test_audit_names_each_of_ten_leftovers_and_nothing_else(site: Site) -> None:
    cloud = site.cloud
    assert cloud.audit() == [], "a cloud with a guest, a router and a floating IP has nothing left over"
    cloud.nephos("down")
    site.plant_in_ledger()
    site.plant_on_host()
    cloud.up()
    cloud.hosts_up(1)
    planted = {
        ("allocation", STRAY),
        ("port", STRAY),
        ("operation", STRAY),
        ("tap", f"{HOST}/{TAP}"),
        ("bridge", f"{HOST}/{BRIDGE}"),
        ("domain", f"{HOST}/stray"),
        ("namespace", f"{HOST}/qdhcp-{STRAY}"),
        ("file", f"{HOST}/{site.agent}/instances/{STRAY}"),
        ("dnsmasq", f"{HOST}/{site.dnsmasq}"),
        ("rule", f"{HOST}/inet {site.table}_old"),
    }
    assert len(planted) == 10
    for _ in range(8):
        site.plant_devices()
        found = site.found()
        if found >= planted:
            break
    assert found == planted
    assert all(each["why"] for each in cloud.audit())


def test_what_was_removed_is_not_named_and_the_agent_removes_its_own_devices(site: Site) -> None:
    cloud = site.cloud
    wait_for(
        lambda: {kind for kind, _ in site.found()}.isdisjoint({"tap", "bridge"}), 15, "devices without an owner gone"
    )
    links = site.on_host("ip", "-o", "link")
    assert TAP not in links and BRIDGE not in links
    admin = cloud.connect("admin")
    admin.network.delete_port(STRAY, ignore_missing=False)
    assert admin.placement.delete(f"/allocations/{STRAY}").status_code == 204
    site.remove()
    assert site.found() == {("operation", STRAY)}
    assert (
        subprocess.run([str(NEPHOS), "audit", "--state", str(cloud.state)], capture_output=True, check=False).returncode
        == 1
    ), "its exit status tells, too"
    site.edit(f"delete from operation where id = '{STRAY}'")
    assert cloud.audit() == []
    assert cloud.nephos("audit").startswith("Nothing is")
