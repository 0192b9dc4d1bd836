"""The state directory: who owns what in it, and the secrets of the operator."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

from nephos.errors import SettingsError
from nephos.settings import SERVER_USER, Settings, secret

PASSWORD_LENGTH = 16
USERS = ("admin", "demo")


def server_user() -> pwd.struct_passwd:
    """The unprivileged user. Raises SettingsError when the machine has none."""
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise SettingsError(
            f"There is no user {SERVER_USER!r}: `make install` makes it, or `useradd --system --shell /usr/sbin/nologin {SERVER_USER}`."
        ) from None


def prepare(settings: Settings) -> None:
    """Make the directories with their owners. Raises SettingsError naming the directory that the server cannot enter."""
    user = server_user()
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o755)
    for above in (settings.state, *settings.state.parents):
        if not _may_enter(above, user):
            raise SettingsError(
                f"The server runs as {user.pw_name!r}, which cannot enter {above}: choose a --state below a directory that it can."
            )
    layout = (
        (settings.server_dir, 0o700, user.pw_uid, user.pw_gid),
        (settings.tls_dir, 0o700, user.pw_uid, user.pw_gid),
        (settings.agent_dir, 0o711, 0, 0),
        (settings.run_dir, 0o755, 0, 0),
        (settings.secrets_dir, 0o700, 0, 0),
        (settings.log_dir, 0o755, 0, 0),
        (settings.notifications_log.parent, 0o750, user.pw_uid, user.pw_gid),
    )
    for path, mode, owner, group in layout:
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, owner, group)
        path.chmod(mode)
    roles = [*((role, user.pw_uid) for role in settings.server_roles), ("agent", 0)]
    for name, owner in [(f"{role}.{kind}", owner) for role, owner in roles for kind in ("log", "out")]:
        log = settings.log_dir / name
        log.touch(mode=0o640)
        os.chown(log, owner, 0)


def has_password(url: str) -> bool:
    """Whether a database's address holds a secret."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    if not url or url.startswith("file:"):
        return False
    try:
        parts = make_url(url)
    except ArgumentError:
        return "@" in url
    return parts.password is not None or "password" in parts.query


def keep_database(settings: Settings, given: str) -> bool:
    """Put the database's address into the settings; one with a secret into a file that only the server reads.

    `given` is a URL or `file:PATH` of root's. Answers whether the address is another than before. Raises SettingsError.
    """
    own = settings.server_dir / "database"
    if not given or given == f"file:{own}":
        return False
    url = secret(given)
    if not has_password(url):
        changed, settings.database = settings.database != url, url
        return changed
    known = own.read_text() if own.exists() else ""
    changed, settings.database = known != url or settings.database != f"file:{own}", f"file:{own}"
    write_private(own, url, server_user().pw_uid)
    return changed


def check_database(settings: Settings) -> None:
    """Let the server's user try the database, as the server will. Raises SettingsError with what is wrong."""
    from nephos import settings as all_settings

    all_settings.save(settings)
    user = server_user()
    words = [sys.executable, "-m", "nephos", "server", "--state", str(settings.state), "--check"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd="/", user=user.pw_uid, group=user.pw_gid, extra_groups=[]
    )
    if done.returncode:
        raise SettingsError((done.stderr.strip() or done.stdout.strip())[-2000:])


def trust(settings: Settings) -> None:
    """Have the certificates that a cloud with HTTPS needs, and the authority's where everybody may read it.

    Raises SettingsError for an operator's certificate that the server could not serve.
    """
    from nephos.kernel.tls import authority, keeper

    kept = keeper.of(settings)
    if kept is None:
        return
    user = server_user()
    for path in {*(kept.given or ())}:
        for above in (path, *path.absolute().parents):
            if not (_may_read if above == path else _may_enter)(above, user):
                raise SettingsError(f"The server runs as {user.pw_name!r}, which cannot read {path}: see to {above}.")
    authority.write(settings.authority_file, kept.authority.trusted, 0o644)


def _may_read(path: Path, user: pwd.struct_passwd) -> bool:
    return _may(path.stat(), user, 0o4)


def _may_enter(path: Path, user: pwd.struct_passwd) -> bool:
    return _may(path.stat(), user, 0o1)


def _may(status: os.stat_result, user: pwd.struct_passwd, bit: int) -> bool:
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & bit << 6)
    if status.st_gid == user.pw_gid or status.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return bool(status.st_mode & bit << 3)
    return bool(status.st_mode & bit)


def passwords(settings: Settings) -> dict[str, str]:
    """The first users' passwords, made on first use: 16 letters and digits, 0600 (S1-41)."""
    path = settings.secrets_dir / "passwords.json"
    if path.exists():
        known: dict[str, str] = json.loads(path.read_text())
        return known
    letters = string.ascii_letters + string.digits
    made = {user: "".join(secrets.choice(letters) for _ in range(PASSWORD_LENGTH)) for user in USERS}
    write_private(path, json.dumps(made))
    return made


def write_private(path: Path, text: str, owner: int = 0) -> None:
    """Write a file that only its owner may read, never for a moment otherwise."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchown(descriptor, owner, -1)
    part.replace(path)


def credentials(settings: Settings, user: str) -> dict[str, Any]:
    """What a client needs to log in as one of the first users. Raises SettingsError for another, or without a cloud."""
    if not (settings.secrets_dir / "passwords.json").exists():
        raise SettingsError(f"There is no cloud in {settings.state}: run `nephos up` first, as root.")
    known = passwords(settings)
    if user not in known:
        raise SettingsError(f"{user!r} is none of the first users: {', '.join(known)}.")
    return {
        "auth_url": settings.url + "/v3",
        "username": user,
        "password": known[user],
        "project_name": user,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
