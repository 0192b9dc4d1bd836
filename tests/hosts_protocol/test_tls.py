"""The streams listener by TLS: who gets in with which certificate, what is renewed, and which one is at fault."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from nephos.agent import connection as agent_connection
from nephos.agent.trust import Trust, keep
from nephos.errors import SettingsError
from nephos.hosts import actions as hosts
from nephos.hosts import wire
from nephos.kernel import clock
from nephos.kernel.tls import authority as ca
from nephos.kernel.tls import contexts, rollover
from nephos.kernel.tls.authority import SERVER_NAME, Authority
from nephos.settings import Tls
from tests.hosts_protocol.cluster import LINK, Cluster, Raw, network, until

A, B = "fake-0001", "fake-0002"
DAY = 86_400.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    one = Cluster(tmp_path, tls=Tls(mode="on", host_days=30, server_days=30))
    yield one
    one.close()


def trusting(cluster: Cluster, own: Path | None) -> ssl.SSLContext:
    assert cluster.keeper is not None
    return contexts.dialling(cluster.keeper.authority.pem, own)


def dial(cluster: Cluster, own: Path | None) -> ClientConnection:
    """As an agent dials, with a certificate or without."""
    url = f"wss://127.0.0.1:{cluster.port}/agent"
    return connect(url, compression=None, ssl=trusting(cluster, own), server_hostname=SERVER_NAME, proxy=None)


def get(cluster: Cluster, path: str, own: Path | None, name: str = SERVER_NAME) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)) as link:
        link.sock = trusting(cluster, own).wrap_socket(
            socket.create_connection(("127.0.0.1", cluster.port), timeout=10), server_hostname=name
        )
        link.request("GET", path)
        answer = link.getresponse()
        return answer.status, answer.read()


def said(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return any(words in record.getMessage() for record in caplog.records)


def serial_of(cluster: Cluster) -> str:
    with (
        socket.create_connection(("127.0.0.1", cluster.port), timeout=10) as plain,
        trusting(cluster, None).wrap_socket(plain, server_hostname=SERVER_NAME) as connection,
    ):
        return str(connection.getpeercert()["serialNumber"]).lower()  # type: ignore[index]


def test_an_agent_dials_with_its_certificate_pulls_and_reads_images(cluster: Cluster) -> None:
    agent = cluster.agent(tcp=True)
    cluster.put(A, "network", "net-1", network(1))
    until(lambda: set(agent._hosts[A].state.wiring.networks) == {"net-1"})
    assert agent._get(f"/images/{LINK}", 3, 5) == bytes([3, 4, 5, 6, 7])
    assert agent._connection._socket is not None and isinstance(agent._connection._socket.socket, ssl.SSLSocket)


def test_without_a_certificate_there_is_nothing_but_what_is_for_everybody(cluster: Cluster) -> None:
    assert get(cluster, f"/images/{LINK}", None)[0] == 401
    assert get(cluster, f"/images/{LINK}", cluster.settings.agent_dir / "host.pem")[0] == 206
    assert cluster.keeper is not None
    assert get(cluster, "/ca.pem", None) == (200, cluster.keeper.authority.pem.read_bytes())
    assert get(cluster, "/nothing", None)[0] == 404
    with pytest.raises(Exception, match="401"):
        dial(cluster, None)
    cluster.agent()  # by the local socket a host needs none
    with closing(socket.create_connection(("127.0.0.1", cluster.port), timeout=10)) as plain:
        plain.sendall(b"GET /agent HTTP/1.1\r\nHost: h\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP"), "plain HTTP is not spoken"


def test_a_certificate_of_another_authority_or_for_a_server_opens_nothing(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger, mine = tmp_path / "stranger.pem", tmp_path / "mine.pem"
    public = cluster.key.public_key().public_bytes_raw()
    keep(stranger, cluster.key, Authority.ensure(other, "cloud-1", 9).host(A, public, 9))
    assert cluster.keeper is not None
    mine.write_bytes(cluster.keeper.authority.server(["evil"], 9))
    for wrong in (stranger, mine):
        with pytest.raises((OSError, WebSocketException)):
            dial(cluster, wrong).recv(5)


def test_a_host_cannot_speak_for_another_by_its_own_certificate(cluster: Cluster, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate()
    cluster.enrol("host-x", other)
    assert cluster.keeper is not None
    pem = tmp_path / "x.pem"
    keep(pem, other, cluster.keeper.authority.host("host-x", other.public_key().public_bytes_raw(), 9))
    with dial(cluster, pem) as connection:
        challenge = wire.decode(connection.recv(10))
        assert isinstance(challenge, wire.Challenge)
        raw = Raw.__new__(Raw)
        raw.nonce = challenge.nonce
        connection.send(wire.encode(wire.Hello((raw.host(A, cluster.key),), "0")))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(10)
    assert closed.value.rcvd is not None
    assert "presents a certificate of another host" in closed.value.rcvd.reason
    with dial(cluster, pem) as connection:
        challenge = wire.decode(connection.recv(10))
        assert isinstance(challenge, wire.Challenge)
        raw.nonce = challenge.nonce
        connection.send(wire.encode(wire.Hello((raw.host("host-x", other),), "0")))
        assert isinstance(wire.decode(connection.recv(10)), wire.Welcome)


def test_a_host_struck_from_the_ledger_is_refused_with_a_certificate_that_is_good(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.cloud.database.write(lambda tx: hosts.forget(tx, cluster.ids[A]))
    cluster.agent(tcp=True, connected=False)
    until(lambda: said(caplog, f"Host {A} is not enrolled in this cloud"))


def issued_before(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, days: float) -> Path:
    real = clock.now
    with monkeypatch.context() as past:
        past.setattr(clock, "now", lambda: real() - days * DAY)
        return cluster.certify(cluster.key)


def test_a_host_renews_its_certificate_on_the_connection_that_it_has(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_connection, "PULL_EVERY", 0.1)
    pem = issued_before(cluster, monkeypatch, 19)
    first = ca.show(ca.load(pem))
    agent = cluster.agent(tcp=True)
    socket_, pulls = agent._connection._socket, agent._connection._numbers
    before = next(pulls)
    until(lambda: next(pulls) > before + 20)
    assert ca.show(ca.load(pem)) == first, "there is time"
    trust = agent._dial.trust
    assert trust is not None
    issued_before(cluster, monkeypatch, 21)
    trust._certificate = trust._load()
    second = until(lambda: (shown := ca.show(ca.load(pem))).not_after > first.not_after and shown)
    assert 18 <= (second.not_after - first.not_after).days <= 19
    until(lambda: not trust.due)
    assert agent._connection._socket is socket_, "the connection stays"
    assert get(cluster, f"/images/{LINK}", pem)[0] == 206, "the new one opens connections"
    assert pem.stat().st_mode & 0o777 == 0o600


def test_the_server_changes_its_certificate_and_connections_stay(cluster: Cluster) -> None:
    agent = cluster.agent(tcp=True)
    socket_, first = agent._connection._socket, serial_of(cluster)
    assert cluster.keeper is not None
    cluster.keeper.renew()
    cluster.keeper.look()
    second = until(lambda: serial_of(cluster) != first and serial_of(cluster))
    assert int(second, 16) == ca.load(cluster.keeper.own.certificate).serial_number
    cluster.put(A, "network", "net-1", network(1))
    until(lambda: set(agent._hosts[A].state.wiring.networks) == {"net-1"})
    assert agent._connection._socket is socket_


def test_one_authority_follows_another_and_no_host_is_lost(cluster: Cluster) -> None:
    keeper, directory = cluster.keeper, cluster.settings.tls_dir
    assert keeper is not None
    agent, trust = cluster.agent(tcp=True), cluster.settings.agent_dir / "ca.pem"
    first = keeper.authority.pin

    def standing() -> tuple[str, ...]:
        return tuple(cluster.row(A).trusts or ())

    until(lambda: standing() == (first, first))
    rollover.stage(directory, "cloud-1", 30)
    keeper.look()
    second = ca.pin_of(ca.load(directory / ca.NEXT))
    until(lambda: standing() == (first, *sorted((first, second))))
    rollover.change(directory)
    rollover.change(directory)  # interrupted and begun again it does no more
    keeper.look()
    assert keeper.authority.pin == second and ca.signed_by(ca.load(keeper.own.certificate), keeper.authority.certificate)
    until(lambda: standing() == (second, *sorted((first, second))))
    assert [ca.pin_of(each) for each in x509.load_pem_x509_certificates(trust.read_bytes())] == [second, first]
    rollover.finish(directory)
    keeper.look()
    until(lambda: standing() == (second, second))
    assert not (directory / "next.key").exists() and rollover.state(directory) == rollover.DONE
    # the host is served as before, also by a server and an agent that start anew
    cluster.streams.stop()
    cluster.serve()
    cluster.put(A, "network", "net-1", network(1))
    until(lambda: set(agent._hosts[A].state.wiring.networks) == {"net-1"})
    agent.stop()
    again = cluster.agent(tcp=True)
    cluster.put(A, "network", "net-2", network(2))
    until(lambda: "net-2" in again._hosts[A].state.wiring.networks)


def test_an_expired_certificate_of_the_host_is_refused_and_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pem = issued_before(cluster, monkeypatch, 31)
    shown = ca.show(ca.load(pem))
    with pytest.raises((OSError, WebSocketException)):
        dial(cluster, pem).recv(5)
    cluster.agent(tcp=True, connected=False)
    words = f"the certificate of this host, CN={A} serial {shown.serial}, ended on {shown.not_after:%Y-%m-%d %H:%M} UTC"
    until(lambda: said(caplog, words))
    assert not cluster.streams.connected()


def test_an_expired_certificate_of_the_server_is_refused_and_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert cluster.keeper is not None
    real = clock.now
    with monkeypatch.context() as past:
        past.setattr(clock, "now", lambda: real() - 31 * DAY)
        shown = cluster.keeper.renew()
    cluster.streams.stop()
    cluster.serve()
    cluster.agent(tcp=True, connected=False)
    words = f"the certificate of the server, {shown.subject} serial {shown.serial}, ended on {shown.not_after:%Y-%m-%d}"
    until(lambda: said(caplog, words))
    assert not cluster.streams.connected()
    cluster.keeper.look()
    until(lambda: cluster.streams.connected() == set(cluster.ids.values()))


def test_a_server_of_another_cloud_is_not_talked_to(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = tmp_path / "other"
    other.mkdir()
    stranger = Authority.ensure(other, "another-cloud", 9)
    ca.write(cluster.settings.agent_dir / "ca.pem", stranger.pem.read_bytes(), 0o644)
    cluster.agent(tcp=True, connected=False)
    until(lambda: said(caplog, "is not trusted") and said(caplog, "issued by CN=Nephos cloud cloud-1"))
    assert not cluster.streams.connected()


def test_agents_get_the_clouds_certificate_and_browsers_the_operators(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    public = Authority.ensure(elsewhere, "public-authority", 9)
    given = tmp_path / "given.pem"
    given.write_bytes(public.server(["cloud.example"], 9))
    cluster = Cluster(tmp_path / "state", tls=Tls(mode="on", certificate=str(given)))
    try:
        cluster.agent(tcp=True)
        context = ssl.create_default_context(cafile=str(public.pem))
        with (
            socket.create_connection(("127.0.0.1", cluster.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="cloud.example") as connection,
        ):
            assert connection.getpeercert()["subject"] == ((("commonName", "cloud.example"),),)  # type: ignore[index]
    finally:
        cluster.close()


def test_a_host_that_never_joined_says_so_at_once(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    with pytest.raises(SettingsError, match=r"nephos join"):
        Trust(tmp_path, key)
    authority = Authority.ensure(tmp_path, "cloud", 9)
    other = Ed25519PrivateKey.generate()
    certificate = authority.host("h", other.public_key().public_bytes_raw(), 9)
    with pytest.raises(SettingsError, match="another key"):
        keep(tmp_path / "host.pem", key, certificate)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "host.pem").write_bytes(pkcs8 + certificate)
    with pytest.raises(SettingsError, match="for another key"):
        Trust(tmp_path, key)


def test_the_listener_still_answers_while_somebody_says_nothing(cluster: Cluster) -> None:
    silent = [socket.create_connection(("127.0.0.1", cluster.port), timeout=5) for _ in range(20)]
    try:
        assert get(cluster, "/ca.pem", None)[0] == 200
    finally:
        for each in silent:
            each.close()
