"""What identity keeps in memory: keys, caches and the policies in force.

Caches are keyed by an epoch: a number that every change of identity counts up, in this process at the commit and in
the ledger as a row, which other processes' changes are seen by. An entry of an older epoch is read again, so a role
taken away or a user disabled counts on the next request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import func, insert, select, update

from nephos import errors
from nephos.identity.catalog.view import Catalog
from nephos.identity.catalog.view import load as load_catalog
from nephos.identity.credentials.vault import Vault
from nephos.identity.keys.master import Master
from nephos.identity.keys.rings import Ring
from nephos.identity.keys.rings import load as load_ring
from nephos.identity.roles.graph import Graph
from nephos.identity.roles.graph import load as load_graph
from nephos.identity.tokens.factors import Receipts
from nephos.identity.tokens.store import epoch
from nephos.identity.tokens.subject import Subject, resolve
from nephos.kernel import clock
from nephos.kernel.auth.passwords import Passwords
from nephos.kernel.auth.token import Tokens
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.doorbell.base import Doorbell

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
WAIT_SECONDS = 1.0
STALE_SECONDS = 5.0
TOPIC = "identity"
MOST_TOKENS = 4096
MOST_BODIES = 512
V = TypeVar("V")
_COUNT_UP = update(epoch).values(value=epoch.c.value + 1)
_KEYS_UP = update(epoch).values(key_epoch=func.coalesce(epoch.c.key_epoch, 0) + 1)
_VALUE = select(epoch.c.value)
_BOTH = select(epoch.c.value, epoch.c.key_epoch)


class Epoch:
    """The number of the newest change known here, and that of the newest change of keys.

    On an embedded ledger every change is made here, and looking twice a second finds what a tool did beside the server.
    Where several servers share a ledger each request looks for itself: whoever was told that a token is revoked finds
    it revoked at every server. When the ledger cannot be read nobody is believed: Unavailable, never a stale yes; the
    embedded one is given five seconds.
    """

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database, self._doorbell = database, doorbell
        self._looked = float("-inf")
        self._failed = float("-inf")
        self._looking = threading.Lock()
        self.value = self.keys = 0
        doorbell.listen(self._heard)

    def now(self) -> int:
        """The epoch. Raises Unavailable when it has not been read for too long.

        Inside a read it is no newer than that read: ask before it.
        """
        if not self._database.embedded:
            with self._database.read() as tx:
                self.learn(tx)
            return self.value
        began = clock.monotonic()
        if began - self._looked >= LOOK_SECONDS:
            self._look(began)
        return self.value

    def _look(self, began: float) -> None:
        # while one thread looks others go on with what is known, but only for so long as others' changes may take
        wait = 0.0 if began - self._looked < WAIT_SECONDS else STALE_SECONDS
        if self._looking.acquire(timeout=wait) if wait else self._looking.acquire(blocking=False):
            try:
                if self._looked < began and self._failed < began - LOOK_SECONDS:
                    began = clock.monotonic()
                    with self._database.read() as tx:
                        self.learn(tx)
                    self._looked = began
            except Exception as wrong:
                self._failed = clock.monotonic()
                log.error("the epoch could not be read: %s", wrong)
            finally:
                self._looking.release()
        if clock.monotonic() - self._looked > STALE_SECONDS:
            raise errors.Unavailable("The ledger cannot be read, so no token can be checked. Try again.", retry_after=1)

    def _heard(self, topic: str) -> None:
        if topic == TOPIC:
            self._looked = min(self._looked, clock.monotonic() - LOOK_SECONDS)

    @staticmethod
    def at(tx: Tx) -> int:
        """The epoch of the snapshot that `tx` sees: what is read in it may be kept under this number."""
        return tx.scalar(_VALUE) or 0

    def learn(self, tx: Tx) -> None:
        """Take over what a snapshot says. Not for a unit of work, which may still come to nothing."""
        row = tx.first(_BOTH)
        if row is not None:
            self.value, self.keys = max(self.value, row.value), max(self.keys, row.key_epoch or 0)

    def count_up(self, tx: Tx, *, keys: bool = False) -> None:
        """Part of every unit of work that changes what a token means, and with `keys` of one that changes keys."""
        if tx.execute(_COUNT_UP).rowcount == 0:
            tx.execute(insert(epoch).values(id=1, value=1))
        if keys:
            tx.execute(_KEYS_UP)
        row = tx.first(_BOTH)
        assert row is not None
        value, newest = row.value, row.key_epoch or 0

        def seen() -> None:
            self.value, self.keys = max(self.value, value), max(self.keys, newest)
            self._doorbell.ring(TOPIC)

        tx.after_commit(seen)


class Bounded(dict[str, V]):
    """Forgets its oldest eighth when it is full."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._lock = threading.Lock()

    def keep(self, key: str, value: V) -> None:
        if len(self) >= self._most:
            with self._lock:
                for old in list(self)[: max(0, len(self) - self._most * 7 // 8)]:
                    self.pop(old, None)
        self[key] = value


class _Known(NamedTuple):
    epoch: int
    who: Who
    subject: Subject


class Identity:
    """One a server; `of(cloud)` finds it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.epoch = Epoch(cloud.database, cloud.doorbell)
        self.passwords = Passwords(cloud.settings.tokens.bcrypt_rounds)
        self._ring: Ring | None = None
        self._next_load = 0.0
        self.used: Callable[[Ring], None] = lambda ring: None
        """Told whenever somebody uses the keys."""
        self._starting = threading.Lock()
        self._known: Bounded[_Known] = Bounded(MOST_TOKENS)
        self.bodies: Bounded[tuple[int, bytes]] = Bounded(MOST_BODIES)
        self._graph: tuple[int, Graph] | None = None
        self._catalog: tuple[int, Catalog] | None = None

    @property
    def ring(self) -> Ring:
        """The keys of now. Raises SettingsError when there are none that the master key opens."""
        self.epoch.now()
        ring = self._ring
        if ring is None or (ring.revision != self.epoch.keys and clock.monotonic() >= self._next_load):
            with self._starting:
                ring = self._ring = self._load(self._ring)
        self.used(ring)
        return ring

    def _load(self, kept: Ring | None) -> Ring:
        """Those in memory stay in use when the new ones cannot be opened: tokens count on, and the log says why."""
        if kept is not None and kept.revision == self.epoch.keys:
            return kept
        try:
            with self._cloud.database.read() as tx:
                self.epoch.learn(tx)
                return load_ring(tx, self.open_master(), self.epoch.keys, self._cloud.settings.tokens.provider)
        except errors.SettingsError as wrong:
            if kept is None:
                raise
            log.error("%s; the keys in memory stay in use", wrong.message)
            self._next_load = clock.monotonic() + WAIT_SECONDS
            return kept

    def open_master(self, *, make: bool = False) -> Master:
        return Master(self._cloud.settings.server_dir / "master.key", make=make)

    @property
    def tokens(self) -> Tokens:
        return self.ring.tokens

    @property
    def vault(self) -> Vault:
        return self.ring.vault

    @property
    def receipts(self) -> Receipts:
        return self.ring.receipts

    def graph(self, tx: Tx) -> Graph:
        """The roles as a read sees them. Not for a unit of work, which may have changed them itself."""
        now = self.epoch.at(tx)
        kept = self._graph
        if kept is None or kept[0] != now:
            self._graph = kept = (now, load_graph(tx))
        return kept[1]

    def catalog(self, tx: Tx) -> Catalog:
        """The catalog as a read sees it."""
        now = self.epoch.at(tx)
        kept = self._catalog
        if kept is None or kept[0] != now:
            self._catalog = kept = (now, load_catalog(tx, self._cloud.settings.url))
        return kept[1]

    def verify(self, token: str, service_token: str | None) -> Who:
        """Who a token speaks for. Raises Unauthorized. With a service's token beside it, that one's roles too."""
        known = self._known.get(token)
        if known is None or known.epoch != self.epoch.now() or known.who.expires <= clock.now_us():
            known = self._look_up(token)
        if service_token is None:
            return known.who
        service = self.verify(service_token, None)
        return msgspec.structs.replace(known.who, service_roles=service.roles, service_user_id=service.user_id)

    def subject(self, token: str, *, allow_expired: bool = False) -> Subject:
        """The whole of what a token says. Raises Unauthorized."""
        known = self._known.get(token)
        if known is None or known.epoch != self.epoch.now() or known.who.expires <= clock.now_us():
            known = self._look_up(token, allow_expired=allow_expired)
        return known.subject

    def _look_up(self, text: str, *, allow_expired: bool = False) -> _Known:
        window = self._cloud.settings.tokens.expired_window * 1_000_000 if allow_expired else 0
        token = self.tokens.decode(text, window=window)
        with self._cloud.database.read() as tx:
            now = self.epoch.at(tx)
            subject = resolve(tx, self.graph(tx), token)
        known = _Known(now, subject.who(), subject)
        if token.expires > clock.now_us():
            self._known.keep(text, known)
        return known


def of(cloud: Cloud) -> Identity:
    part = cloud.parts["identity"]
    assert isinstance(part, Identity)
    return part


def change(cloud: Cloud, work: Callable[[Tx], V]) -> V:
    """A unit of work that changes what tokens mean."""
    identity = of(cloud)

    def both(tx: Tx) -> V:
        result = work(tx)
        identity.epoch.count_up(tx)
        return result

    return cloud.database.write(both)
