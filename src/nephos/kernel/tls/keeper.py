"""The server's certificates: one of the cloud's own authority, renewed in time, and maybe an operator's, read again when
it changes. Whoever serves them is told of every change."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from nephos.errors import SettingsError
from nephos.kernel.tls import authority as ca
from nephos.kernel.tls import rollover
from nephos.kernel.tls.authority import Authority, Shown

if TYPE_CHECKING:
    from nephos.settings import Settings

log = logging.getLogger(__name__)
LOOK_EVERY = 5.0
"""Seconds between looks at the files: `nephos ca renew` and an operator's new certificate are served within them."""


class Files(NamedTuple):
    """PEM files of a certificate, with those that lead to its authority, and of its key. They may be one."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises SettingsError when one cannot be read, or they do not belong together."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as wrong:  # an ssl.SSLError is an OSError
            raise SettingsError(
                f"The certificate {self.certificate} with the key {self.key} cannot be served: {wrong}"
            ) from wrong


class Keeper:
    """`names` are what the own certificate is good for, `days` how long; `given` is the operator's, if there is one."""

    def __init__(self, authority: Authority, names: Sequence[str], days: int, given: Files | None = None) -> None:
        self.authority, self.given = authority, given
        pem = authority.directory / "server.pem"
        self.own = Files(pem, pem)
        self._names, self._days = tuple(names), days
        self._listeners: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._seen = self._stamps()
        self._warned = ""

    @property
    def shown(self) -> Files:
        """What the APIs are served with."""
        return self.given or self.own

    @property
    def standing(self) -> tuple[str, ...]:
        """What hosts should say of whom they trust and who certified them."""
        trusted = self.authority.trusted
        return (self.authority.pin, *ca.standing(self.authority.certificate, trusted)[1:])

    def ensure(self) -> Shown:
        """Have an own certificate that is good for all names and not due. Safe in several processes at once."""
        with ca.alone(self.authority.directory):
            shown = self._read()
            if shown is None or shown.due(ca.now()) or not set(self._names) <= set(shown.names):
                shown = self._issue()
        return shown

    def renew(self) -> Shown:
        """A new own certificate, whatever the present one is."""
        with ca.alone(self.authority.directory):
            return self._issue()

    def on_change(self, call: Callable[[], None]) -> None:
        """Call when a file holds another certificate than before, from a thread of its own."""
        self._listeners.append(call)

    def watch(self) -> None:
        """Look after the certificates from now on."""
        self._seen = self._stamps()
        threading.Thread(target=self._watch, name="keeper", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Renew what is due; complete what was interrupted (`rollover`); tell of a change, whoever made it. A pair that does not fit is not told of: the former
        one is served on. Raises SettingsError for that."""
        rollover.resume(self.authority.directory)
        self.authority = Authority(self.authority.directory)
        self.ensure()
        if self.given is not None:
            self._warn(self.given.certificate)
        stamps = self._stamps()
        if stamps != self._seen:
            self.shown.check()
            self._seen = stamps
            for call in self._listeners:
                call()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            try:
                self.look()
            except SettingsError as wrong:
                log.error("%s", wrong.message)
            except Exception:
                log.exception("looking after the server's certificates")

    def _stamps(self) -> tuple[int, ...]:
        directory = self.authority.directory
        trusted = (directory / "ca.pem", directory / ca.NEXT, directory / ca.FORMER)
        return tuple(_stamp(path) for path in dict.fromkeys((*self.own, *(self.given or ()), *trusted)))

    def _warn(self, path: Path) -> None:
        """Say once a day that the operator's own certificate is to be renewed: only they can."""
        shown, now = ca.show(ca.load(path)), ca.now()
        if shown.due(now) and self._warned != f"{now:%Y-%m-%d}":
            self._warned = f"{now:%Y-%m-%d}"
            log.warning("the certificate %s ends on %s: renew it", path, f"{shown.not_after:%Y-%m-%d %H:%M} UTC")

    def _read(self) -> Shown | None:
        try:
            certificate = ca.load(self.own.certificate)
        except SettingsError:
            return None
        return ca.show(certificate) if ca.signed_by(certificate, self.authority.certificate) else None

    def _issue(self) -> Shown:
        ca.write(self.own.certificate, self.authority.server(self._names, self._days), 0o600)
        shown = ca.show(ca.load(self.own.certificate))
        log.info("issued %s for %s until %s", shown.serial, ", ".join(shown.names), f"{shown.not_after:%Y-%m-%d}")
        return shown


def of(settings: Settings) -> Keeper | None:
    """What serves a cloud's certificates, its own one issued; None for a cloud that speaks plain HTTP.

    Raises SettingsError for an operator's certificate that cannot be served.
    """
    if not settings.https:
        return None
    tls = settings.tls
    authority = Authority.ensure(settings.tls_dir, settings.cloud_id, tls.authority_days)
    if rollover.resume(settings.tls_dir):
        authority = Authority(settings.tls_dir)
    given = Files(Path(tls.certificate), Path(tls.key or tls.certificate)) if tls.certificate else None
    keeper = Keeper(authority, names(settings), tls.server_days, given)
    keeper.ensure()
    keeper.shown.check()
    return keeper


def names(settings: Settings) -> list[str]:
    """What a server of these settings is reached by: addresses and names, the listening one first."""
    host, _ = settings.address
    reached = _addresses() if host in ("0.0.0.0", "::") else [host]
    public = urlsplit(settings.public_url).hostname
    found = [*reached, socket.gethostname(), *([public] if public else []), *settings.tls.names]
    return list(dict.fromkeys([*found, "localhost", "127.0.0.1", "::1", ca.SERVER_NAME]))


def _addresses() -> list[str]:
    """The machine's own, but for those of one link only."""
    done = subprocess.run(["ip", "-j", "address"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"The addresses of this machine cannot be listed: {done.stderr.strip()}")
    found = [each for link in json.loads(done.stdout) for each in link.get("addr_info", ())]
    return [each["local"] for each in found if each.get("scope") == "global"]


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
