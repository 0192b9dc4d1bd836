"""Keys in the ledger: rotation loses no token, every server follows, a crash in the middle is made good."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from nephos import app, errors
from nephos.identity import part
from nephos.identity.credentials import actions as credentials
from nephos.identity.credentials.store import credential
from nephos.identity.keys import actions, rotation
from nephos.identity.keys.store import signing_key
from nephos.kernel import clock
from nephos.kernel.auth import fernet
from nephos.kernel.cloud import Cloud
from nephos.settings import Settings
from tests.harness import Client, Harness

HOUR = 3600 * 1_000_000


@pytest.fixture
def other(cloud: Harness) -> Iterator[Cloud]:
    """A second server of the same cloud."""
    second = app.compose(cloud.cloud.settings)
    yield second
    second.database.close()


def states(cloud: Cloud, kind: str) -> dict[int, str]:
    with cloud.database.read() as tx:
        return {row.number: actions.state(row) for row in actions.of_kind(tx, kind)}


def age(cloud: Cloud, kind: str, by: int = HOUR + 2_000_000) -> None:
    """What was signed with keys that are primary no more has expired."""
    k = signing_key.c
    cloud.database.write(
        lambda tx: tx.execute(
            update(signing_key)
            .where(k.kind == kind, k.number > 0)
            .values(retired_at=k.retired_at - by, primary_at=k.primary_at - by)
        )
    )


def eventually(check: Any, seconds: float = 1.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not within a second"
        time.sleep(0.02)


def test_a_new_cloud_has_a_staged_and_a_primary_key_of_each_kind(cloud: Harness) -> None:
    assert states(cloud.cloud, "fernet") == states(cloud.cloud, "credentials") == {1: "primary", 0: "staged"}
    assert states(cloud.cloud, "receipts") == {1: "primary", 0: "staged"}
    assert states(cloud.cloud, "jws") == {}, "nothing signs with these"
    master = cloud.cloud.settings.server_dir / "master.key"
    assert master.stat().st_mode & 0o777 == 0o600
    with cloud.cloud.database.read() as tx:
        rows = actions.all_keys(tx)
    opened = part.of(cloud.cloud).open_master()
    assert all(opened.open(row.sealed).decode() not in row.sealed for row in rows)


def test_rotation_loses_no_token(cloud: Harness) -> None:
    first = cloud.login("demo", "demo").token or ""
    rotation.rotate(cloud.cloud, "fernet")
    assert states(cloud.cloud, "fernet") == {2: "primary", 1: "secondary", 0: "staged"}
    second = cloud.login("demo", "demo").token or ""
    for text in (first, second):
        assert cloud.cloud.verify(text, None).user_name == "demo"
    with pytest.raises(errors.Conflict, match="key 1 would go, and what it signed counts until"):
        rotation.rotate(cloud.cloud, "fernet")
    assert states(cloud.cloud, "fernet") == {2: "primary", 1: "secondary", 0: "staged"}
    age(cloud.cloud, "fernet")
    rotation.rotate(cloud.cloud, "fernet")
    assert states(cloud.cloud, "fernet") == {3: "primary", 2: "secondary", 0: "staged"}
    with pytest.raises(errors.Unauthorized):
        cloud.cloud.verify(first, None)
    assert cloud.cloud.verify(second, None)


def test_force_ends_tokens_at_once(cloud: Harness) -> None:
    """What one does when a key has leaked."""
    text = cloud.login("demo", "demo").token or ""
    assert cloud.cloud.verify(text, None)
    rotation.rotate(cloud.cloud, "fernet")
    rotation.rotate(cloud.cloud, "fernet", force=True)
    with pytest.raises(errors.Unauthorized):
        cloud.cloud.verify(text, None)


def test_every_server_follows_a_rotation(cloud: Harness, other: Cloud) -> None:
    seen = part.of(other)
    assert seen.ring.revision == part.of(cloud.cloud).ring.revision
    rotation.rotate(cloud.cloud, "fernet")
    # the staged key was known before it signed, so nobody has to wait for the other server
    assert other.verify(cloud.login("demo", "demo").token or "", None).user_name == "demo"
    eventually(lambda: seen.ring.revision == part.of(cloud.cloud).ring.revision)
    age(cloud.cloud, "fernet")
    rotation.rotate(cloud.cloud, "fernet")
    assert other.verify(cloud.login("demo", "demo").token or "", None).user_name == "demo"


def test_two_servers_rotate_at_once(cloud: Harness, other: Cloud) -> None:
    since = clock.now_us()
    done: list[object] = []
    threads = [
        threading.Thread(target=lambda one=one: done.append(rotation.rotate(one, "fernet", unless_since=since)))
        for one in (cloud.cloud, other)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([row for row in done if row is not None]) == 1
    assert states(cloud.cloud, "fernet") == {2: "primary", 1: "secondary", 0: "staged"}


def test_rotation_by_the_clock(tmp_path: Path) -> None:
    def hourly(settings: Settings) -> None:
        settings.keys.rotate_hours = 1

    with Harness(tmp_path, hourly) as cloud:
        text = cloud.login("demo", "demo").token or ""
        assert states(cloud.cloud, "fernet") == {1: "primary", 0: "staged"}
        for kind in ("fernet", "credentials", "receipts"):
            age(cloud.cloud, kind)
        part.of(cloud.cloud)._ring = None
        assert cloud.cloud.verify(text, None)
        for kind in ("fernet", "credentials", "receipts"):
            eventually(lambda kind=kind: states(cloud.cloud, kind) == {2: "primary", 1: "secondary", 0: "staged"}, 10)
        assert cloud.cloud.verify(text, None)

    def too_often(settings: Settings) -> None:
        settings.keys.rotate_hours, settings.tokens.lifetime = 1, 7200

    with pytest.raises(errors.SettingsError, match=r"rotating every 1 h would lose tokens"):
        Harness(tmp_path / "b", too_often)


def ec2(admin: Client, many: int) -> list[dict[str, Any]]:
    user = admin.get("/v3/users?name=demo").json["users"][0]["id"]
    project = admin.get("/v3/projects?name=demo").json["projects"][0]["id"]
    path = f"/v3/users/{user}/credentials/OS-EC2"
    return [admin.post(path, {"tenant_id": project}).json["credential"] for _ in range(many)]


def readable(cloud: Harness, made: list[dict[str, Any]]) -> None:
    admin = cloud.login("admin", "admin")
    for one in made:
        shown = admin.get(f"/v3/users/{one['user_id']}/credentials/OS-EC2/{one['access']}").json["credential"]
        assert shown["secret"] == one["secret"]


def counted(cloud: Harness) -> dict[str | None, int]:
    with cloud.cloud.database.read() as tx:
        return credentials.counted(tx)


def test_credentials_are_sealed_with_the_new_key(cloud: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "AT_ONCE", 2)
    made = ec2(cloud.login("admin", "admin"), 5)
    for expected in (2, 3, 4):
        rotation.rotate(cloud.cloud, "credentials")
        assert counted(cloud) == {part.of(cloud.cloud).vault.key_id: 5}
        assert max(states(cloud.cloud, "credentials")) == expected
        readable(cloud, made)
    assert states(cloud.cloud, "credentials") == {4: "primary", 3: "secondary", 0: "staged"}


def test_a_crash_between_credentials(cloud: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was sealed anew and whatever was not stays readable, and the next rotation ends the work."""
    monkeypatch.setattr(rotation, "AT_ONCE", 2)
    made = ec2(cloud.login("admin", "admin"), 5)
    whole, works = credentials.reseal_all, []

    def dies(tx: Any, **given: Any) -> None:
        works.append(given)
        if len(works) == 2:
            raise SystemError("the server was killed")
        whole(tx, **given)

    with monkeypatch.context() as patch:
        patch.setattr(credentials, "reseal_all", dies)
        with pytest.raises(SystemError):
            rotation.rotate(cloud.cloud, "credentials")
        assert sorted(counted(cloud).values()) == [2, 3]
        readable(cloud, made)
        # until it is made good no key goes that a credential needs
        patch.setattr(rotation, "reseal", lambda cloud: 0)
        for _ in range(3):
            rotation.rotate(cloud.cloud, "credentials", force=True)
        readable(cloud, made)
    rotation.rotate(cloud.cloud, "credentials")
    assert counted(cloud) == {part.of(cloud.cloud).vault.key_id: 5}
    readable(cloud, made)
    assert len(states(cloud.cloud, "credentials")) == 3


def test_a_credential_that_changes_meanwhile_keeps_its_change(cloud: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = ec2(cloud.login("admin", "admin"), 1)
    whole = credentials.reseal_all
    identity = part.of(cloud.cloud)

    def late(tx: Any, sealed: Any, key_id: str) -> None:
        vault = identity.vault
        tx.execute(update(credential).values(sealed=vault.seal("newer"), key_id=vault.key_id))
        whole(tx, sealed, key_id)

    monkeypatch.setattr(credentials, "reseal_all", late)
    rotation.rotate(cloud.cloud, "credentials")
    with cloud.cloud.database.read() as tx:
        (sealed,) = tx.column(select(credential.c.sealed))
    assert identity.vault.open(sealed) == "newer", one["access"]


def test_what_the_first_release_kept_in_files_goes_on(tmp_path: Path) -> None:
    """An upgrade loses neither tokens nor credentials; their columns say nothing of keys."""
    folders = {"fernet-keys": "fernet", "credential-keys": "credentials", "receipt-keys": "receipts"}
    made: dict[str, list[bytes]] = {}
    for folder in folders:
        place = tmp_path / "server" / folder
        place.mkdir(parents=True)
        made[folder] = [fernet.new_key() for _ in range(3)]
        for number, key in zip((0, 3, 4), made[folder], strict=True):
            (place / str(number)).write_bytes(key)
    with Harness(tmp_path) as cloud:
        assert states(cloud.cloud, "fernet") == {4: "primary", 3: "secondary", 0: "staged"}
        master = part.of(cloud.cloud).open_master()
        for folder, kind in folders.items():
            with cloud.cloud.database.read() as tx:
                opened = [master.open(row.sealed) for row in actions.of_kind(tx, kind)]
            assert opened == [made[folder][2], made[folder][1], made[folder][0]]
        old = ec2(cloud.login("admin", "admin"), 2)
        cloud.cloud.database.write(
            lambda tx: [
                tx.execute(
                    update(credential)
                    .where(credential.c.id == row.id)
                    .values(
                        key_id=None,
                        sealed=fernet.crypt([made["credential-keys"][1]])
                        .encrypt(part.of(cloud.cloud).vault.open(row.sealed).encode())
                        .decode(),
                    )
                )
                for row in tx.all(select(credential))
            ]
        )
        readable(cloud, old)
        rotation.rotate(cloud.cloud, "credentials")
        readable(cloud, old)
        assert None not in counted(cloud)


def test_another_master_key_is_refused_in_words(tmp_path: Path) -> None:
    with Harness(tmp_path):
        pass
    path = tmp_path / "server" / "master.key"
    good = path.read_bytes()
    path.write_bytes(fernet.new_key())
    with pytest.raises(errors.SettingsError, match=r"master\.key: this master key does not open"):
        Harness(tmp_path)
    path.write_bytes(b"scrap")
    with pytest.raises(errors.SettingsError, match="each line is a key of 32 bytes"):
        Harness(tmp_path)
    path.unlink()
    with pytest.raises(errors.SettingsError, match=r"cannot be read: No such file.*another server of this cloud"):
        Harness(tmp_path)
    assert not path.exists(), "a new one would open nothing"
    path.write_bytes(good)
    with Harness(tmp_path) as cloud:
        assert cloud.login("admin", "admin")


def test_a_new_master_key_takes_over(cloud: Harness) -> None:
    path = cloud.cloud.settings.server_dir / "master.key"
    old, new = path.read_bytes(), fernet.new_key()
    path.write_bytes(new + b"\n" + old)
    for kind in ("fernet", "credentials", "receipts"):
        rotation.rotate(cloud.cloud, kind)
    path.write_bytes(new)
    part.of(cloud.cloud)._ring = None
    assert cloud.login("admin", "admin")


def test_a_master_key_that_others_may_open_is_named(cloud: Harness, caplog: pytest.LogCaptureFixture) -> None:
    path = cloud.cloud.settings.server_dir / "master.key"
    path.chmod(0o644)
    part.of(cloud.cloud).open_master()
    assert f"{path}: others than its owner may open the master key (mode 0644)" in caplog.text


def test_a_running_server_outlives_a_lost_master_key(
    cloud: Harness, other: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    text = cloud.login("demo", "demo").token or ""
    assert other.verify(text, None)
    path = cloud.cloud.settings.server_dir / "master.key"
    rotation.rotate(cloud.cloud, "fernet")
    kept = path.read_bytes()
    path.unlink()
    with caplog.at_level(logging.ERROR):
        fresh = app.compose(cloud.cloud.settings)
        part.of(other).epoch._looked = 0
        assert other.verify(text, None)
        assert other.verify(cloud.login("demo", "demo").token or "", None)
    assert "the keys in memory stay in use" in caplog.text
    with pytest.raises(errors.SettingsError):
        fresh.verify(text, None)
    fresh.database.close()
    path.write_bytes(kept)


def signed(settings: Settings) -> None:
    settings.tokens.provider = "jws"


def test_changing_the_form_of_tokens_ends_none(tmp_path: Path) -> None:
    with Harness(tmp_path) as cloud:
        sealed = cloud.login("demo", "demo").token or ""
    with Harness(tmp_path, signed) as cloud:
        assert cloud.cloud.verify(sealed, None).user_name == "demo"
        demo = cloud.login("demo", "demo")
        text = demo.token or ""
        assert text.count(".") == 2
        assert demo.get("/v3/auth/tokens", **{"X-Subject-Token": text}).status == 200
        assert demo.get("/compute/v2.1/servers").status == 200
        rotation.rotate(cloud.cloud, "jws")
        assert states(cloud.cloud, "jws") == {2: "primary", 1: "secondary", 0: "staged"}
        assert cloud.cloud.verify(text, None)
        again = demo.post(
            "/v3/auth/tokens",
            {"auth": {"identity": {"methods": ["token"], "token": {"id": text}}, "scope": "unscoped"}},
        )
        assert again.status == 201
        assert demo.delete("/v3/auth/tokens", **{"X-Subject-Token": text}).status == 204
        with pytest.raises(errors.Unauthorized):
            cloud.cloud.verify(text, None)
        kept = cloud.login("demo", "demo").token or ""
    with Harness(tmp_path) as cloud:
        assert cloud.cloud.verify(kept, None).user_name == "demo"
        assert "." not in (cloud.login("demo", "demo").token or "")


def test_there_is_no_such_kind(cloud: Harness) -> None:
    with pytest.raises(errors.NotFound, match="the kinds are fernet, jws, credentials, receipts"):
        rotation.rotate(cloud.cloud, "passwords")
