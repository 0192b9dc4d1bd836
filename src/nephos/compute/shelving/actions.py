"""Shelving: a server becomes an image and its host is freed (S3-26); unshelving makes it a guest again, perhaps elsewhere.

A shelved server keeps its id, its ports with their addresses, and its quota.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import select

from nephos import errors
from nephos.compute.aggregates import store as aggregates
from nephos.compute.lifecycle.actions import require, require_host
from nephos.compute.servers import actions, states, store
from nephos.compute.snapshots import actions as snapshots
from nephos.hosts import actions as hosts
from nephos.image.images import actions as images
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

SHELVE, OFFLOAD, UNSHELVE = "server.shelve", "server.shelve_offload", "server.unshelve"
_FROM = frozenset({states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED})
_SHELVED = frozenset({states.SHELVED, states.SHELVED_OFFLOADED})


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Where to unshelve. `zone` UNSET leaves it as it was, None lets the server be in any zone."""

    zone: Any = UNSET
    host: str | None = None


def shelve(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    """Begin to shelve. Raises Conflict in a state that does not allow it or when the host is away."""
    actions.refuse_locked(row, who, "shelve")
    require(row, "shelve", _FROM)
    require_host(tx, cloud, row)
    image_id = snapshots.queue(tx, row, who, f"{row.name}-shelved"[:255], "snapshot", {})
    data = {"image": image_id, "was": row.vm_state}
    _begin(tx, cloud, row, SHELVE, states.SHELVING, data, request_id, who.project_id, who.user_id)


def offload(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    """Begin to free the host of a shelved server. Raises Conflict when it is not shelved, or its image is gone."""
    actions.refuse_locked(row, who, "shelveOffload")
    require(row, "shelveOffload", {states.SHELVED})
    found = images.images_of(tx, [row.shelved_image_id]).get(row.shelved_image_id)
    if found is None or found.row.status != images.ACTIVE:
        raise errors.Conflict(f"Instance {row.id} has no image any more: only its host has its disk.")
    begin_offload(tx, cloud, row, request_id, who.project_id, who.user_id)


def begin_offload(
    tx: Tx, cloud: Cloud, row: Any, request_id: str, project_id: str | None, user_id: str | None
) -> None:
    _begin(tx, cloud, row, OFFLOAD, states.SHELVING_OFFLOADING, {}, request_id, project_id, user_id)


def unshelve(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, wish: Wish) -> None:
    """Begin to unshelve. Raises Conflict in a state that does not allow it, or when the image is gone; BadRequest for a zone
    or a host that there is not."""
    actions.refuse_locked(row, who, "unshelve")
    require(row, "unshelve", _SHELVED)
    offloaded = row.vm_state == states.SHELVED_OFFLOADED
    if (wish.zone is not UNSET or wish.host is not None) and not offloaded:
        raise errors.Conflict(
            f"Specifying an availability zone or a host when unshelving server {row.id} with status '{row.vm_state}' is "
            f"not supported. The server status must be {states.SHELVED_OFFLOADED}."
        )
    zone = row.wanted_zone if wish.zone is UNSET else wish.zone
    if wish.zone is not UNSET and zone is not None and zone not in aggregates.zones(tx, cloud.settings.compute.zone):
        raise errors.BadRequest("The requested availability zone is not available")
    if wish.host is not None:
        _check_host(tx, cloud, wish.host, zone)
    if offloaded:
        data: dict[str, Any] = {"parts": _parts(tx, row, who), "host": wish.host}
        if zone != row.wanted_zone:
            store.change(tx, row.id, wanted_zone=zone)
    else:
        require_host(tx, cloud, row)
        data = {"here": True}
    _begin(tx, cloud, row, UNSHELVE, states.UNSHELVING, data, request_id, who.project_id, who.user_id)


def due(tx: Tx, cloud: Cloud) -> None:
    """Begin to free the hosts of servers that were shelved `shelved_offload_time` seconds ago."""
    seconds = cloud.settings.compute.shelved_offload_time
    if seconds <= 0:
        return
    s = store.server
    chosen = select(s).where(
        s.c.vm_state == states.SHELVED,
        s.c.task_state.is_(None),
        ~s.c.deleted,
        s.c.shelved_at <= tx.now - seconds * 1_000_000,
    )
    for row in tx.all(chosen):
        if cloud.operations.live(tx, store.NOUN, row.id) is None:
            begin_offload(tx, cloud, row, "", row.project_id, row.user_id)


def _check_host(tx: Tx, cloud: Cloud, name: str, zone: str | None) -> None:
    try:
        host = hosts.by_name(tx, name)
    except errors.NotFound as missing:
        raise errors.BadRequest(f"Compute host {name} could not be found.") from missing
    its = host.zone or cloud.settings.compute.zone
    if zone is not None and its != zone:
        raise errors.Conflict(f"Host {name} is not in the availability zone {zone}: it is in {its}.")


def _parts(tx: Tx, row: Any, who: Who) -> dict[str, dict[str, Any]]:
    """What the host is to fetch: the image that the server became, kernel and ramdisk as before."""
    try:
        return actions.parts_of(tx, who, images.boot_image(tx, who, row.shelved_image_id or ""))
    except errors.BadRequest as gone:
        raise errors.Conflict(f"Instance {row.id} cannot be unshelved: {gone.message}") from gone


def _begin(
    tx: Tx,
    cloud: Cloud,
    row: Any,
    kind: str,
    task_state: str,
    data: Mapping[str, Any],
    request_id: str,
    project_id: str | None,
    user_id: str | None,
) -> None:
    store.change(tx, row.id, task_state=task_state)
    cloud.operations.start(
        tx,
        kind,
        store.NOUN,
        row.id,
        request_id=request_id,
        project_id=project_id,
        user_id=user_id,
        data=data,
    )
