"""What identity keeps in memory: keys, caches and the policies in force.

Caches are keyed by an epoch: a number that every change of identity counts up, in this process at the commit and in
the ledger as a row, which other processes' changes are seen by. An entry of an older epoch is read again, so a role
taken away or a user disabled counts on the next request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import insert, select, update

from nephos.identity.catalog.view import Catalog
from nephos.identity.catalog.view import load as load_catalog
from nephos.identity.credentials.vault import Vault
from nephos.identity.roles.graph import Graph
from nephos.identity.roles.graph import load as load_graph
from nephos.identity.tokens.factors import Passcodes, Receipts
from nephos.identity.tokens.store import epoch
from nephos.identity.tokens.subject import Subject, resolve
from nephos.kernel import clock
from nephos.kernel.auth.fernet import Keys, Tokens
from nephos.kernel.auth.passwords import Passwords
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Database, Tx

LOOK_SECONDS = 0.5
MOST_TOKENS = 4096
MOST_BODIES = 512
V = TypeVar("V")
_COUNT_UP = update(epoch).values(value=epoch.c.value + 1)
_VALUE = select(epoch.c.value)


class Epoch:
    """The number of the newest change known here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next_look = 0.0
        self._looking = threading.Lock()
        self.value = 0

    def now(self) -> int:
        """The epoch; asks the ledger for other processes' changes twice a second."""
        if clock.monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                with self._database.read() as tx:
                    self.value = max(self.value, self.at(tx))
                self._next_look = clock.monotonic() + LOOK_SECONDS
            finally:
                self._looking.release()
        return self.value

    @staticmethod
    def at(tx: Tx) -> int:
        """The epoch of the snapshot that `tx` sees: what is read in it may be kept under this number."""
        return tx.scalar(_VALUE) or 0

    def count_up(self, tx: Tx) -> None:
        """Part of every unit of work that changes what a token means."""
        if tx.execute(_COUNT_UP).rowcount == 0:
            tx.execute(insert(epoch).values(id=1, value=1))
        value = self.at(tx)

        def seen() -> None:
            self.value = max(self.value, value)

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
        self.epoch = Epoch(cloud.database)
        self.passwords = Passwords(cloud.settings.tokens.bcrypt_rounds)
        self._keys = Keys(cloud.settings.server_dir / "fernet-keys")
        self._tokens: Tokens | None = None
        self._vault: Vault | None = None
        self._receipts: Receipts | None = None
        self.passcodes = Passcodes()
        self._starting = threading.Lock()
        self._known: Bounded[_Known] = Bounded(MOST_TOKENS)
        self.bodies: Bounded[tuple[int, bytes]] = Bounded(MOST_BODIES)
        self._graph: tuple[int, Graph] | None = None
        self._catalog: tuple[int, Catalog] | None = None

    @property
    def tokens(self) -> Tokens:
        """Makes the first keys when there are none."""
        if self._tokens is None:
            with self._starting:
                self._keys.initialise()
                self._tokens = Tokens(self._keys)
        return self._tokens

    @property
    def vault(self) -> Vault:
        if self._vault is None:
            with self._starting:
                self._vault = Vault(Keys(self._cloud.settings.server_dir / "credential-keys"))
        return self._vault

    @property
    def receipts(self) -> Receipts:
        if self._receipts is None:
            with self._starting:
                self._receipts = Receipts(Keys(self._cloud.settings.server_dir / "receipt-keys"))
        return self._receipts

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
        token = self.tokens.decode(text, allow_expired=allow_expired)
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
