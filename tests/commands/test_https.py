"""A cloud with HTTPS, as an operator has it: certificates, clients, a host that joins, hours in which they change."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cloud import NEPHOS, RunningCloud, wait_for


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    with RunningCloud(tls=True) as one:
        yield one


def ca(cloud: RunningCloud, *words: str) -> Any:
    return json.loads(cloud.nephos("ca", *words, "--json"))


def context(cloud: RunningCloud) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cloud.state / "ca.pem"))


def get(cloud: RunningCloud, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", cloud.port, context=context(cloud), timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def test_clients_are_told_and_trust_the_clouds_authority(cloud: RunningCloud) -> None:
    exports = cloud.exports("demo")
    assert exports["OS_AUTH_URL"] == f"{cloud.url}/v3" and cloud.url.startswith("https://")
    assert exports["OS_CACERT"] == str(cloud.state / "ca.pem")
    clouds = yaml.safe_load(cloud.nephos("clouds"))["clouds"]
    assert {each["cacert"] for each in clouds.values()} == {exports["OS_CACERT"]}
    assert cloud.status()["answers"] is True
    endpoints = json.loads(cloud.openstack("endpoint", "list", "-f", "json", user="admin"))
    assert endpoints and all(each["URL"].startswith(f"{cloud.url}/") for each in endpoints)
    assert [server.name for server in cloud.connect("demo").compute.servers()] == []


def test_links_and_versions_say_https(cloud: RunningCloud) -> None:
    for path in ("/", "/compute", "/image/versions", "/network", "/placement"):
        text = get(cloud, path)[2].decode()
        assert "http://" not in text, (path, text)
        assert f"{cloud.url}/" in text or path == "/placement", (path, text)
    shown = json.loads(cloud.openstack("versions", "show", "-f", "json"))
    assert {each["Service Type"] for each in shown} >= {"identity", "compute", "image", "network", "placement"}
    assert all(each["Endpoint"].startswith(cloud.url) for each in shown)


def test_plain_http_and_strangers_certificates_are_refused(cloud: RunningCloud) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=10)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("GET", "/v3")
        plain.getresponse()
    said = cloud.openstack("--os-cacert", "/etc/ssl/certs/ca-certificates.crt", "token", "issue", check=False)
    assert "certificate verify failed" in said


def test_the_authority_is_shown_exported_and_kept(cloud: RunningCloud) -> None:
    shown = ca(cloud, "show")
    assert set(shown) == {"authority", "server"}
    assert shown["server"]["issuer"] == shown["authority"]["subject"]
    assert {"127.0.0.1", "localhost"} <= set(shown["server"]["names"])
    assert cloud.nephos("ca", "export") == (cloud.state / "ca.pem").read_text()
    for path in (cloud.state / "server" / "tls").iterdir():
        assert path.owner() == "nephos" and (path.name == "ca.pem" or path.stat().st_mode & 0o077 == 0), path


def test_a_renewal_is_served_by_both_listeners_without_a_restart(cloud: RunningCloud) -> None:
    before = cloud.status_processes()
    made = ca(cloud, "renew")["server"]

    def serial(port: int) -> str:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context(cloud).wrap_socket(plain, server_hostname="127.0.0.1") as link,
        ):
            return f"{int(str(link.getpeercert()['serialNumber']), 16):x}"  # type: ignore[index]

    for port in (cloud.port, cloud.port + 1):
        wait_for(lambda port=port: serial(port) == made["serial"], 30, f"the new certificate at {port}")
    assert cloud.status_processes() == before


def test_a_certificate_for_something_else_is_no_servers(cloud: RunningCloud) -> None:
    path = cloud.state / "broker.pem"
    issued = ca(cloud, "issue", "broker.example", "10.0.0.3", "--days", "7", "--out", str(path))["issued"]
    assert issued["names"] == ["broker.example", "10.0.0.3"] and path.stat().st_mode & 0o777 == 0o600
    assert "nothing else gets it" in refused(cloud, "ca", "issue", "nephos-server", "--out", str(path))
    assert "what for and where to" in refused(cloud, "ca", "issue")


def refused(cloud: RunningCloud, *words: str) -> str:
    done = subprocess.run(
        [str(NEPHOS), words[0], "--state", str(cloud.state), *words[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done
    return done.stderr


def test_another_machine_joins_is_lost_and_comes_back(cloud: RunningCloud) -> None:
    invitation = json.loads(cloud.nephos("invite", "--json"))
    state = Path(tempfile.mkdtemp(prefix="nephos-test-", dir="/var/tmp"))
    state.chmod(0o755)

    def far(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(NEPHOS), words[0], "--state", str(state), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def up() -> set[str]:
        return {host["name"] for host in cloud.status()["hosts"] if host["up"]}

    try:
        joined = far("join", invitation["server"], invitation["ticket"], "--name", "far-1", "--hypervisor", "fake")
        assert joined.returncode == 0, joined
        wait_for(lambda: up() == {"fake-0001", "far-1"}, 30, "the host that joined")
        cloud.kill("server")
        wait_for(lambda: cloud.status()["answers"], 60, "the server again")
        wait_for(lambda: up() == {"fake-0001", "far-1"}, 60, "both hosts again")
        again = far("join", invitation["server"], invitation["ticket"], "--name", "far-1", "--hypervisor", "fake")
        assert "used already" in again.stderr
        other = json.loads(cloud.nephos("invite", "--json"))["ticket"]
        assert cloud.nephos("invite", "--withdraw", other) == "Withdrawn: the invitation of any new host.\n"
        again = far("join", invitation["server"], other, "--name", "far-1", "--hypervisor", "fake")
        assert "was withdrawn" in again.stderr
        # Another authority, step by step, and no host and no client is lost.
        before = ca(cloud, "show")["authority"]["fingerprint"]
        assert ca(cloud, "rollover") == {"state": "staged"}
        assert (cloud.state / "ca.pem").read_text().count("BEGIN") == 2
        kept = context(cloud)

        def step() -> bool:
            done = subprocess.run(
                [str(NEPHOS), "ca", "--state", str(cloud.state), "rollover"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0 or "Not ready yet: far-1" in done.stderr, done
            return done.returncode == 0

        for each in ("what the host trusts", "the host's certificate"):
            wait_for(step, 60, each)
            wait_for(lambda: up() == {"fake-0001", "far-1"}, 30, "both hosts")
            assert get(cloud, "/v3")[0] == 200
        assert ca(cloud, "show")["authority"]["fingerprint"] != before
        authorities = [each / "ca.pem" for each in (cloud.state, state / "agent")]
        wait_for(lambda: len({each.read_text() for each in authorities}) == 1, 30, "the last step at the host")
        with socket.create_connection(("127.0.0.1", cloud.port), timeout=10) as plain:
            kept.wrap_socket(plain, server_hostname="127.0.0.1").close()  # who took the export in time sees nothing
    finally:
        far("down", "--purge")
        shutil.rmtree(state, ignore_errors=True)
    assert "There is a cloud in" in refused(cloud, "join", invitation["server"], invitation["ticket"])
