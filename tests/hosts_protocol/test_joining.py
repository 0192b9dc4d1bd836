"""A host comes into the cloud: invited, once, in time, to the right cloud, under the right name."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nephos.agent.joining import join
from nephos.agent.main import key_of
from nephos.agent.trust import Trust
from nephos.errors import BadRequest, HostFault
from nephos.hosts import enrolment
from nephos.kernel import clock
from nephos.kernel.tls import authority as ca
from nephos.kernel.tls.authority import Authority
from nephos.settings import Tls
from tests.hosts_protocol.cluster import Cluster, free_port


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    one = Cluster(tmp_path / "server", tls=Tls(mode="on"))
    yield one
    one.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "host"
    path.mkdir()
    return path


def url(cluster: Cluster) -> str:
    return f"wss://127.0.0.1:{cluster.port}"


def invited(cluster: Cluster, host: str | None = None, seconds: int = 60) -> str:
    assert cluster.keeper is not None
    return enrolment.invite(cluster.keeper.authority, host, seconds)


def refusal(cluster: Cluster, directory: Path, word: str, name: str = "new-host") -> str:
    with pytest.raises(HostFault) as wrong:
        join(directory, key_of(directory), url(cluster), word, name)
    assert not (directory / "host.pem").exists() and not (directory / "ca.pem").exists()
    return wrong.value.message


def test_an_invited_host_joins_and_may_dial(cluster: Cluster, directory: Path) -> None:
    key = key_of(directory)
    joined = join(directory, key, url(cluster), invited(cluster), "new-host")
    assert (joined.cloud_id, joined.region) == ("cloud-1", "RegionOne")
    assert cluster.row("new-host").public_key == key.public_key().public_bytes_raw().hex()
    trust = Trust(directory, key)
    assert not trust.due
    shown = ca.show(ca.load(directory / "host.pem"))
    assert (shown.subject, shown.issuer) == ("CN=new-host", "CN=Nephos cloud cloud-1,O=Nephos")


def test_an_invitation_works_once_and_in_time(
    cluster: Cluster, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = invited(cluster)
    other = directory / "other"
    other.mkdir()
    join(other, key_of(other), url(cluster), word, "first")
    assert "was used already" in refusal(cluster, directory, word)
    with monkeypatch.context() as past:
        now = clock.now_us()
        past.setattr(clock, "now_us", lambda: now - 120 * 1_000_000)
        late = invited(cluster)
    assert "is over" in refusal(cluster, directory, late)
    assert refusal(cluster, directory, invited(cluster, "another-host")).endswith("not for new-host.")
    assert "no host's name" in refusal(cluster, directory, invited(cluster), "../evil")


def withdraw(cluster: Cluster, which: str | None) -> str:
    return cluster.cloud.database.write(lambda tx: enrolment.withdraw(tx, which))


def test_a_withdrawn_invitation_opens_nothing(cluster: Cluster, directory: Path) -> None:
    one, other, named, elses = (invited(cluster, host) for host in (None, None, "new-host", "another-host"))
    assert withdraw(cluster, one) == "the invitation of any new host"
    assert "was withdrawn" in refusal(cluster, directory, one)
    assert withdraw(cluster, "new-host") == "all invitations of host new-host"
    assert "was withdrawn" in refusal(cluster, directory, named)
    key = key_of(directory)
    join(directory, key, url(cluster), elses, "another-host")
    join(directory, key, url(cluster), invited(cluster, "new-host"), "new-host")  # what is issued later works
    assert withdraw(cluster, None) == "all invitations in no host's name"
    other_directory = directory / "other"
    other_directory.mkdir()
    assert "was withdrawn" in refusal(cluster, other_directory, other)
    for wrong in ("../evil", "no whole ticket", urlsafe_b64encode(msgspec.msgpack.encode(enrolment.Ticket(b"", b"", b""))).decode()):
        with pytest.raises(BadRequest, match="ticket"):
            withdraw(cluster, wrong)


def test_only_an_invitation_by_name_replaces_a_host(cluster: Cluster, directory: Path) -> None:
    before = cluster.row("fake-0001")
    assert "in this cloud already" in refusal(cluster, directory, invited(cluster), "fake-0001")
    assert cluster.row("fake-0001").public_key == before.public_key
    key = key_of(directory)
    join(directory, key, url(cluster), invited(cluster, "fake-0001"), "fake-0001")
    after = cluster.row("fake-0001")
    assert (after.id, after.public_key) == (before.id, key.public_key().public_bytes_raw().hex())
    join(directory, key, url(cluster), invited(cluster), "fake-0001")  # the same key again is the same host


def test_a_ticket_of_another_cloud_or_changed_on_the_way_opens_nothing(
    cluster: Cluster, directory: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger = Authority.ensure(elsewhere, "another-cloud", 9)
    assert "not a server of the cloud that the ticket is of" in refusal(
        cluster, directory, enrolment.invite(stranger, None, 60)
    )
    good = enrolment.read(invited(cluster))
    forged = enrolment.read(enrolment.invite(stranger, None, 60))
    word = urlsafe_b64encode(msgspec.msgpack.encode(msgspec.structs.replace(forged, pin=good.pin))).decode()
    assert "not of this cloud" in refusal(cluster, directory, word)
    for wrong in ("", "nonsense", invited(cluster)[:-20], "é"):
        with pytest.raises(BadRequest, match="no whole ticket"):
            join(directory, key_of(directory), url(cluster), wrong, "new-host")


def test_where_nothing_listens_is_said(cluster: Cluster, directory: Path) -> None:
    key, word = key_of(directory), invited(cluster)
    with pytest.raises(HostFault, match="refused"):
        join(directory, key, f"wss://127.0.0.1:{free_port()}", word, "new-host")


def test_an_invitation_is_for_a_name() -> None:
    with pytest.raises(BadRequest, match="no host's name"):
        enrolment.invite(None, "a b", 60)  # type: ignore[arg-type]
