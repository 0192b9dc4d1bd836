"""The catalog that tokens carry: every enabled service with its endpoints, addresses filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import select

from nephos.identity.catalog.store import endpoint, service
from nephos.identity.endpoint_filters.actions import filtered
from nephos.kernel.db.engine import Tx

_PLACES = re.compile(r"[$%]\((\w+)\)s")
_SERVICES = (
    select(service.c.id, service.c.type, service.c.name)
    .where(service.c.enabled.is_(True))
    .order_by(service.c.created_at, service.c.id)
)
_ENDPOINTS = (
    select(endpoint.c.id, endpoint.c.service_id, endpoint.c.region_id, endpoint.c.interface, endpoint.c.url)
    .where(endpoint.c.enabled.is_(True))
    .order_by(endpoint.c.created_at, endpoint.c.id)
)


def fill(url: str, values: dict[str, str | None]) -> str | None:
    """A URL with its `$(name)s` in place; None when a value is missing. An unknown name stays as it is written."""
    missing = False

    def place(found: re.Match[str]) -> str:
        nonlocal missing
        if found[1] not in values:
            return found[0]
        value = values[found[1]]
        missing = missing or value is None
        return value or ""

    filled = _PLACES.sub(place, url)
    return None if missing else filled


class Catalog:
    """Services as the token API shows them, endpoints included.

    `filtered` are endpoint ids by project: a project that is in it sees these and no others.
    """

    def __init__(self, services: list[dict[str, Any]], url: str, filtered: Mapping[str, set[str]]) -> None:
        self._services = services
        self._url = url
        self._filtered = filtered
        self._personal = any(
            _PLACES.search(one["url"].replace("$(url)s", "")) for s in services for one in s["endpoints"]
        )
        self._encoded: msgspec.Raw | None = None

    def view(self, user_id: str, project_id: str | None) -> list[dict[str, Any]]:
        """For one asker. An endpoint that needs a project is left out where there is none."""
        values = {
            "url": self._url,
            "user_id": user_id,
            "project_id": project_id,
            "tenant_id": project_id,
        }
        only = self._filtered.get(project_id) if project_id is not None else None
        shown = []
        for one in self._services:
            endpoints = []
            for each in one["endpoints"]:
                if only is not None and each["id"] not in only:
                    continue
                url = fill(each["url"], values)
                if url is not None:
                    endpoints.append({**each, "url": url})
            if endpoints or only is None:
                shown.append({**one, "endpoints": endpoints})
        return shown

    def encoded(self, user_id: str, project_id: str | None) -> msgspec.Raw:
        """The same as JSON, made once when no URL depends on the asker."""
        if self._personal or project_id in self._filtered:
            return msgspec.Raw(msgspec.json.encode(self.view(user_id, project_id)))
        if self._encoded is None:
            self._encoded = msgspec.Raw(msgspec.json.encode(self.view(user_id, project_id)))
        return self._encoded


def load(tx: Tx, url: str) -> Catalog:
    """`url` is what clients reach the cloud by."""
    endpoints: dict[str, list[dict[str, Any]]] = {}
    for row in tx.all(_ENDPOINTS):
        endpoints.setdefault(row.service_id, []).append(
            {
                "id": row.id,
                "interface": row.interface,
                "region_id": row.region_id,
                "region": row.region_id,
                "url": row.url,
            }
        )
    return Catalog(
        [
            {"endpoints": endpoints.get(row.id, []), "id": row.id, "type": row.type, "name": row.name or ""}
            for row in tx.all(_SERVICES)
        ],
        url,
        filtered(tx),
    )
