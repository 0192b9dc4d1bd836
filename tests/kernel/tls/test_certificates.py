"""The cloud's own authority and what keeps the server's certificates: profiles, time, files, changes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from nephos.errors import SettingsError
from nephos.kernel import clock
from nephos.kernel.tls import authority as ca
from nephos.kernel.tls import keeper as keepers
from nephos.kernel.tls import rollover
from nephos.kernel.tls.authority import SERVER_NAME, Authority
from nephos.kernel.tls.keeper import Files, Keeper
from nephos.settings import Settings, Tls

DAY = 86_400.0
CLOUD = "0123456789abcdef"


class Time:
    """The clock's `now`, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = clock.now()
        monkeypatch.setattr(clock, "now", lambda: self.at)

    def days(self, count: float) -> None:
        self.at += count * DAY


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.ensure(tmp_path, CLOUD, 3650)


@contextmanager
def shown_by(files: Files) -> Iterator[int]:
    """A port where one TLS connection after the other is taken with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(taken, server_side=True) as connection:
                        connection.recv(1)
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def dial(port: int, trusted: Path, name: str = "127.0.0.1") -> None:
    """As a client does that knows the authority and is strict. Raises ssl.SSLCertVerificationError."""
    context = ssl.create_default_context(cafile=str(trusted))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name),
    ):
        pass


def test_an_authority_is_made_once_and_only_its_owner_reads_its_key(tmp_path: Path) -> None:
    made = Authority.ensure(tmp_path, CLOUD, 100)
    assert Authority.ensure(tmp_path, "another", 5).pin == made.pin == Authority(tmp_path).pin
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600
    shown = ca.show(made.certificate)
    assert shown.subject == shown.issuer == "CN=Nephos cloud 01234567,O=Nephos"
    assert timedelta(days=100) <= shown.not_after - shown.not_before < timedelta(days=101)
    basic = made.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)


def test_of_many_that_begin_at_once_one_makes_the_authority(tmp_path: Path) -> None:
    pins: list[str] = []
    threads = [threading.Thread(target=lambda: pins.append(Authority.ensure(tmp_path, CLOUD, 9).pin)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(pins) == 8 and len(set(pins)) == 1


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for each in (first, second):
        each.mkdir()
        Authority.ensure(each, CLOUD, 1)
    (first / "ca.key").write_bytes((second / "ca.key").read_bytes())
    with pytest.raises(SettingsError, match=r"not the key of ca\.pem"):
        Authority(first)
    (first / "ca.pem").write_text("nothing")
    with pytest.raises(SettingsError, match="cannot be read"):
        Authority(first)


def test_a_strict_client_verifies_name_address_and_authority(authority: Authority, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    ca.write(pem, authority.server(["cloud.example", "127.0.0.1", "2001:db8::1"], 9), 0o600)
    assert ca.show(ca.load(pem)).names == ("cloud.example", "127.0.0.1", "2001:db8::1")
    other = tmp_path / "other"
    other.mkdir()
    with shown_by(Files(pem, pem)) as port:
        dial(port, authority.pem)
        dial(port, authority.pem, "cloud.example")
        for trusted, name, why in (
            (authority.pem, "127.0.0.2", "not valid for '127.0.0.2'"),
            (authority.pem, SERVER_NAME, "Hostname mismatch"),
            (Authority.ensure(other, CLOUD, 9).pem, "127.0.0.1", "unable to get local issuer|self.signed"),
        ):
            with pytest.raises(ssl.SSLCertVerificationError, match=why):
                dial(port, trusted, name)


def test_a_host_certificate_is_for_its_key_and_serves_nothing(authority: Authority, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    certificate = x509.load_pem_x509_certificate(authority.host("host-1", key.public_key().public_bytes_raw(), 7))
    assert ca.ed25519_of(certificate) == key.public_key().public_bytes_raw().hex()
    assert ca.ed25519_of(authority.certificate) == ""
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert ca.signed_by(certificate, authority.certificate)
    assert not ca.signed_by(authority.certificate, certificate)


def test_a_certificate_is_renewed_when_a_third_of_its_time_is_left(authority: Authority, time: Time) -> None:
    keeper = Keeper(authority, ["127.0.0.1"], days=90)
    told: list[bool] = []
    keeper.on_change(lambda: told.append(True))
    first = keeper.ensure()
    keeper.watch()
    keeper.stop()
    time.days(59)
    keeper.look()
    assert (keeper.ensure(), told) == (first, [])
    time.days(2)
    keeper.look()
    second = keeper.ensure()
    assert second.serial != first.serial and second.not_after - first.not_after == timedelta(days=61)
    assert told == [True]
    keeper.look()
    assert told == [True]


def test_an_expired_certificate_is_refused_and_a_start_renews_it(authority: Authority, time: Time) -> None:
    time.days(-91)
    keeper = Keeper(authority, ["127.0.0.1"], days=90)
    old = keeper.ensure()
    assert not old.expired(ca.now())
    with shown_by(keeper.own) as port, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        dial(port, authority.pem)
    time.days(91)
    assert old.expired(ca.now())
    assert Keeper(authority, ["127.0.0.1"], days=90).ensure().serial != old.serial
    with shown_by(keeper.own) as port:
        dial(port, authority.pem)


def test_a_new_name_or_another_authority_needs_a_new_certificate(authority: Authority, tmp_path: Path) -> None:
    first = Keeper(authority, ["127.0.0.1"], 90).ensure()
    assert Keeper(authority, ["127.0.0.1"], 90).ensure().serial == first.serial
    more = Keeper(authority, ["127.0.0.1", "cloud.example"], 90).ensure()
    assert more.serial != first.serial and "cloud.example" in more.names
    assert Keeper(authority, ["127.0.0.1"], 90).ensure().serial == more.serial, "a name too many does no harm"
    (tmp_path / "ca.pem").unlink()
    assert Keeper(Authority.ensure(tmp_path, CLOUD, 1), ["127.0.0.1"], 90).ensure().serial != more.serial


def test_an_operators_certificate_is_served_and_read_again(authority: Authority, tmp_path: Path, time: Time) -> None:
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"

    def issue() -> None:
        pem = authority.server(["cloud.example"], 30)
        begin = pem.index(b"-----BEGIN CERTIFICATE")
        key.write_bytes(pem[:begin])
        certificate.write_bytes(pem[begin:])

    issue()
    keeper = Keeper(authority, ["127.0.0.1"], 90, Files(certificate, key))
    told: list[bool] = []
    keeper.on_change(lambda: told.append(True))
    keeper.ensure()
    keeper.watch()
    keeper.stop()
    assert keeper.shown == (certificate, key)
    keeper.shown.check()
    issue()
    keeper.look()
    assert told == [True]
    key.write_bytes(authority.server(["other"], 30))
    with pytest.raises(SettingsError, match=r"own\.pem with the key .*own\.key cannot be served"):
        keeper.look()
    assert told == [True], "a pair that does not fit is not served"


def test_an_operator_is_told_that_the_certificate_ends(
    authority: Authority, tmp_path: Path, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    given = tmp_path / "own.pem"
    given.write_bytes(authority.server(["cloud.example"], 30))
    keeper = Keeper(authority, ["127.0.0.1"], 90, Files(given, given))
    keeper.look()
    assert not caplog.records
    time.days(21)
    keeper.look()
    keeper.look()
    (record,) = caplog.records
    assert f"{given} ends on {datetime.fromtimestamp(time.at, UTC) + timedelta(days=9):%Y-%m-%d}" in record.message


def settings(path: Path, listen: str, **tls: object) -> Settings:
    (path / "server" / "tls").mkdir(parents=True, exist_ok=True)
    return Settings(state=path, cloud_id=CLOUD, listen=listen, tls=Tls(**tls))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("listen", "mode", "url"),
    [
        ("127.0.0.1:5000", "auto", "http://127.0.0.1:5000"),
        ("localhost:5000", "auto", "http://localhost:5000"),
        ("[::1]:5000", "auto", "http://[::1]:5000"),
        ("127.0.0.1:5000", "on", "https://127.0.0.1:5000"),
        ("10.1.2.3:5000", "auto", "https://10.1.2.3:5000"),
        ("10.1.2.3:5000", "off", "http://10.1.2.3:5000"),
        ("0.0.0.0:5000", "auto", "https://127.0.0.1:5000"),
        ("[::]:5000", "auto", "https://[::1]:5000"),
        ("cloud.example:5000", "auto", "https://cloud.example:5000"),
    ],
)
def test_plain_http_is_for_loopback_unless_somebody_says_so(tmp_path: Path, listen: str, mode: str, url: str) -> None:
    chosen = settings(tmp_path, listen, mode=mode)
    assert (chosen.url, chosen.https) == (url, url.startswith("https"))
    kept = keepers.of(chosen)
    assert (kept is not None) == chosen.https
    if kept is not None:
        names = ca.show(ca.load(kept.own.certificate)).names
        assert {"127.0.0.1", "::1", "localhost", socket.gethostname(), SERVER_NAME} <= set(names)


def test_what_the_certificate_is_good_for_and_what_clients_trust(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "10.1.2.3:5000", names=["cloud.internal", "10.9.9.9"])
    chosen.public_url = "https://cloud.example:8443/api"
    kept = keepers.of(chosen)
    assert kept is not None
    shown = ca.show(ca.load(kept.own.certificate))
    assert shown.subject == "CN=10.1.2.3"
    assert {"10.1.2.3", "cloud.example", "cloud.internal", "10.9.9.9"} <= set(shown.names)
    assert (chosen.url, chosen.local_url) == ("https://cloud.example:8443/api", "https://10.1.2.3:5000")
    assert chosen.client_authority == tmp_path / "ca.pem"
    chosen.tls.certificate = str(kept.own.certificate)
    assert chosen.client_authority is None, "an operator's own certificate is for clients that know who issued it"
    chosen.tls.certificate = str(tmp_path / "nowhere.pem")
    with pytest.raises(SettingsError, match=r"nowhere\.pem"):
        keepers.of(chosen)


class Killed(BaseException):
    """The process was killed here."""


def test_a_rollover_that_is_killed_anywhere_is_completed_by_whoever_looks_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before every file that the change writes or removes: the cloud has an authority that issues all the same, and the keeper,
    running or new, completes the change."""
    calls = 0

    def dying(call: Callable[..., None]) -> Callable[..., None]:
        def counted(*words: Any, **more: Any) -> None:
            nonlocal calls
            calls -= 1
            if calls < 0:
                raise Killed
            call(*words, **more)

        return counted

    for survived in range(20):
        directory = tmp_path / f"killed-{survived}"
        directory.mkdir()
        first = Authority.ensure(directory, CLOUD, 30)
        keeper = Keeper(first, ["10.0.0.1"], 9)
        keeper.ensure()
        rollover.stage(directory, CLOUD, 30)
        second = ca.pin_of(ca.load(directory / ca.NEXT))
        assert not rollover.resume(directory), "staged is no change that was begun"
        calls = survived
        with monkeypatch.context() as patched:
            patched.setattr(ca, "write", dying(ca.write))
            patched.setattr(Path, "unlink", dying(Path.unlink))
            try:
                rollover.change(directory)
                whole = True
            except Killed:
                whole = False
        between = Authority(directory)
        leaf = x509.load_pem_x509_certificate(between.host("a", Ed25519PrivateKey.generate().public_key().public_bytes_raw(), 9))
        assert ca.signed_by(leaf, between.certificate)
        assert {first.pin, second} <= {ca.pin_of(each) for each in x509.load_pem_x509_certificates(between.trusted)}
        keeper.look()
        if rollover.state(directory) == rollover.STAGED:
            assert keeper.authority.pin == first.pin and not (directory / ca.FORMER).exists(), "nothing was begun"
            continue
        assert (rollover.state(directory), keeper.authority.pin, Authority(directory).pin) == (rollover.CHANGED, second, second)
        assert ca.signed_by(ca.load(keeper.own.certificate), keeper.authority.certificate)
        left = {each.name for each in directory.iterdir() if not each.name.endswith(".part")}
        assert left == {"ca.pem", "ca.key", "former.pem", keeper.own.certificate.name}
        if whole:
            break
    else:
        raise AssertionError("it never came to its end")
    assert survived >= 5
    # What an earlier rollover left on a machine to which the files are copied begins nothing.
    rollover.finish(directory)
    rollover.stage(directory, CLOUD, 30)
    (directory / ca.FORMER).write_bytes(first.certificate.public_bytes(Encoding.PEM))
    assert not rollover.resume(directory) and Authority(directory).pin == second
