"""A small client of the cloud's own APIs for the operator's commands: as admin, never through a proxy (S1-35)."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from nephos.cli.state import credentials
from nephos.errors import SettingsError, Unavailable
from nephos.settings import Settings


def opener(settings: Settings) -> urllib.request.OpenerDirector:
    """Asks the cloud of this machine itself: no proxy, and no certificate but the one that it was given."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if settings.https:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if settings.tls.certificate:
            # The operator's is known by itself, whoever issued it and for whatever name.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.check_hostname = False
        try:
            context.load_verify_locations(settings.tls.certificate or settings.authority_file)
        except OSError as wrong:
            raise SettingsError(f"{settings.tls.certificate or settings.authority_file}: {wrong}") from wrong
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


class Client:
    """Logs in as admin when it first needs to. Raises Unavailable with what was tried and what answered (S1-40)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = ""
        self._opener = opener(settings)

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Any) -> Any:
        if not self._token:
            self._token = self._login()
        return json.loads(self._call(method, path, body, {"X-Auth-Token": self._token})[1])

    def _login(self) -> str:
        known = credentials(self._settings, "admin")
        domain = {"name": known["user_domain_name"]}
        user = {"name": known["username"], "password": known["password"], "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": known["project_name"], "domain": domain}},
            }
        }
        headers, _ = self._call("POST", "/v3/auth/tokens", body, {})
        return str(headers["X-Subject-Token"])

    def _call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[Any, bytes]:
        url = self._settings.local_url + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            raise Unavailable(f"{method} {url} answered {refused.code}: {_words(refused.read())}") from refused
        except OSError as wrong:
            raise Unavailable(f"{method} {url}: {getattr(wrong, 'reason', wrong)}") from wrong


def _words(answer: bytes) -> str:
    """The message of a fault; whatever came where it is none."""
    text = answer.decode(errors="replace")[:500]
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return text
