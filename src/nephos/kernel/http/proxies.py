"""What a reverse proxy says of the request that it passed on: believed of trusted ones only.

Source: RFC 7239 (`Forwarded`), and the `X-Forwarded-…` headers that oslo.middleware's http_proxy_to_wsgi reads. Of several
proxies in a row, the word of the outermost that is trusted counts: what lies left of it a client may have written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from nephos import errors

CLIENT, PREFIX = "nephos.client", "nephos.prefix"
"""Keys of the environ: the address that the request came from, and the path that the proxy took off its URL."""

_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,8}")
_PAIR = re.compile(r'\s*([A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*')
_PORTS = {"http": "80", "https": "443"}

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Proxies:
    """Trusted proxies by address or CIDR. Raises SettingsError for what is neither."""

    def __init__(self, trusted: Sequence[str]) -> None:
        try:
            self._trusted: tuple[Network, ...] = tuple(ip_network(each, strict=False) for each in trusted)
        except ValueError as wrong:
            raise errors.SettingsError(f"api.trusted_proxies: {wrong}") from wrong

    def apply(self, environ: dict[str, Any]) -> None:
        """Put scheme, host, prefix and client of the first request in place of those of the proxy's own."""
        if not self._trusted or not self._trusts(environ.get("REMOTE_ADDR", "")):
            return
        said = self._forwarded(environ.get("HTTP_FORWARDED", "")) or self._x_forwarded(environ)
        scheme = said.get("proto", "").lower()
        if scheme in _PORTS:
            environ["wsgi.url_scheme"] = scheme
        host = said.get("host", "")
        if _HOST.fullmatch(host):
            environ["HTTP_HOST"] = host
        client = _address(said.get("for", ""))
        if client is not None:
            environ[CLIENT] = str(client)
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
        if _PREFIX.fullmatch(prefix):
            environ[PREFIX] = prefix

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)

    def _forwarded(self, header: str) -> dict[str, str]:
        """RFC 7239: one element a proxy, the nearest one's last."""
        said: dict[str, str] = {}
        for element in reversed(header.split(",")):
            if not element.strip():
                continue
            pairs = {name.lower(): value.strip('"') for name, value in _PAIR.findall(element)}
            said = {**said, **pairs}
            if not self._trusts(pairs.get("for", "")):
                break
        return said

    def _x_forwarded(self, environ: dict[str, Any]) -> dict[str, str]:
        """Each proxy adds an address to X-Forwarded-For; the other headers may hold one value a proxy or just one."""
        clients = _values(environ, "HTTP_X_FORWARDED_FOR")
        hops = 1
        while hops < len(clients) and self._trusts(clients[-hops]):
            hops += 1
        said = {"for": clients[-hops]} if clients else {}
        for name in ("proto", "host", "port"):
            values = _values(environ, f"HTTP_X_FORWARDED_{name.upper()}")
            if values:
                said[name] = values[max(0, len(values) - hops)]
        port = said.pop("port", "")
        host = said.get("host") or environ.get("HTTP_HOST", "")
        if port.isdigit() and host and not re.search(r":[0-9]+$", host) and port != _PORTS.get(said.get("proto", "")):
            said["host"] = f"{host}:{port}"
        return said


def host_url(environ: dict[str, Any]) -> str:
    """Scheme, host and prefix that the client used: what links of its answer begin with. No slash at the end."""
    host = environ.get("HTTP_HOST", "")
    if not _HOST.fullmatch(host):
        host = f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    return f"{environ.get('wsgi.url_scheme', 'http')}://{host}{environ.get(PREFIX, '')}"


def client_of(environ: dict[str, Any]) -> str:
    """The address that the request came from, as far as trusted proxies tell."""
    return str(environ.get(CLIENT) or environ.get("REMOTE_ADDR") or "-")


def _values(environ: dict[str, Any], name: str) -> list[str]:
    return [each for each in (part.strip() for part in environ.get(name, "").split(",")) if each]


def _address(text: str) -> Address | None:
    """An address with or without port, brackets and quotes; None for a name, `unknown` and nonsense."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
