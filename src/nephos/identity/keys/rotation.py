"""Rotating keys, and sealing credentials with the new one: each step is whole, and what a crash left is done next time."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any

from sqlalchemy import Row

from nephos import errors
from nephos.identity import part
from nephos.identity.credentials import actions as credentials
from nephos.identity.keys import actions, rings
from nephos.identity.keys.actions import CREDENTIALS, KINDS, RECEIPTS
from nephos.identity.tokens.factors import RECEIPT_SECONDS
from nephos.kernel import clock
from nephos.kernel.auth.token import JWS
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

log = logging.getLogger(__name__)

MICRO = 1_000_000
AT_ONCE = 100
"""Credentials that are sealed anew in one unit of work."""


def start(cloud: Cloud) -> None:
    """Make the keys that are missing; of those there are, change nothing. Every server calls it when it starts.

    Raises SettingsError when the master key is not the one of this cloud.
    """
    identity, chosen = part.of(cloud), cloud.settings.tokens.provider
    with cloud.database.read() as tx:
        lacking = rings.missing(tx, chosen)
        fresh = not actions.all_keys(tx)
    if lacking:
        master = identity.open_master(make=fresh)
        made = {kind: rings.first(kind, master, cloud.settings.server_dir) for kind in lacking}

        def work(tx: Tx) -> None:
            for kind, sealed in made.items():
                actions.begin(tx, kind, sealed)
            identity.epoch.count_up(tx, keys=True)

        cloud.database.write(work)
    assert identity.ring


def rotate(cloud: Cloud, kind: str, *, force: bool = False, unless_since: int | None = None) -> Row[Any] | None:
    """The new primary key; None when `unless_since` says that there is nothing to do.

    Credentials are sealed with it before this returns. Raises NotFound for an unknown kind, Conflict when a key would
    go whose tokens still count.
    """
    identity, settings = part.of(cloud), cloud.settings
    if kind == CREDENTIALS:
        reseal(cloud)  # what a rotation before left when it was cut short
    new = identity.open_master().seal(rings.new_key(kind))
    # a second is what other servers may take to see that a key is not the primary any more
    lifetime = {CREDENTIALS: 0, RECEIPTS: RECEIPT_SECONDS + 1}.get(kind, settings.tokens.lifetime + 1) * MICRO

    def work(tx: Tx) -> Row[Any] | None:
        needed = credentials.keys_in_use(tx) if kind == CREDENTIALS else ()
        row = actions.rotate(
            tx,
            kind,
            new,
            most=settings.keys.max_active,
            lifetime=lifetime,
            needed=needed,
            force=force,
            unless_since=unless_since,
        )
        if row is not None:
            identity.epoch.count_up(tx, keys=True)
        return row

    row = cloud.database.write(work)
    if row is not None:
        _reseal_keys(cloud, kind)
        log.info("%s keys rotated: %d is primary", kind, row.number)
        if kind == CREDENTIALS:
            reseal(cloud)
    return row


def _reseal_keys(cloud: Cloud, kind: str) -> None:
    """With the master key's first line, which may be a newer one than sealed them."""
    master = part.of(cloud).open_master()
    with cloud.database.read() as tx:
        anew = rings.sealed_anew(actions.of_kind(tx, kind), master)
    cloud.database.write(lambda tx: actions.reseal(tx, anew))


def reseal(cloud: Cloud) -> int:
    """Seal every credential with the primary key. Returns how many were changed; one that cannot be opened is logged
    and left, and keeps its key alive."""
    vault = part.of(cloud).vault
    changed, after = 0, ""
    while True:
        with cloud.database.read() as tx:
            rows = credentials.sealed_otherwise(tx, vault.key_id, after, AT_ONCE)
        if not rows:
            return changed
        after = rows[-1].id
        anew = []
        for row in rows:
            try:
                anew.append((row.id, row.sealed, vault.seal(vault.open(row.sealed))))
            except errors.Unavailable as wrong:
                log.error("credential %s: %s", row.id, wrong.message)
        cloud.database.write(partial(credentials.reseal_all, sealed=anew, key_id=vault.key_id))
        changed += len(anew)


class Automatic:
    """Rotates what is older than the setting says, whenever somebody uses the keys; of many servers the first one does."""

    def __init__(self, cloud: Cloud) -> None:
        keys, lifetime = cloud.settings.keys, cloud.settings.tokens.lifetime
        self._cloud = cloud
        self._every = keys.rotate_hours * 3600 * MICRO
        if self._every and self._every * (keys.max_active - 2) < lifetime * MICRO:
            raise errors.SettingsError(
                f"keys.rotate_hours: with {keys.max_active} active keys and tokens of {lifetime} s, rotating every "
                f"{keys.rotate_hours} h would lose tokens that still count: allow more active keys"
            )
        self._next_try = 0.0
        self._busy = threading.Lock()

    def look(self, ring: rings.Ring) -> None:
        """Costs a comparison when nothing is due."""
        if not self._every or ring.oldest + self._every > clock.now_us() or clock.monotonic() < self._next_try:
            return
        if self._busy.acquire(blocking=False):
            self._next_try = clock.monotonic() + 60
            threading.Thread(target=self._run, name="key-rotation", daemon=True).start()

    def _run(self) -> None:
        try:
            for kind in self._kinds():
                rotate(self._cloud, kind, unless_since=clock.now_us() - self._every)
        except Exception:
            log.exception("the keys could not be rotated; tried again in a minute")
        finally:
            self._busy.release()

    def _kinds(self) -> list[str]:
        with self._cloud.database.read() as tx:
            return [kind for kind in KINDS if kind != JWS or actions.of_kind(tx, JWS)]
