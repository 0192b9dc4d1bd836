"""Links by which the host that receives a guest has its parts: good for one migration, while it goes on."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import Any

from nephos import errors
from nephos.compute.moving import store
from nephos.kernel.cloud import Cloud


def link(row: Any) -> str:
    """A text safe in a URL's path."""
    return f"{row.id}.{row.secret}"


def open_disks(cloud: Cloud, link: str) -> tuple[str, str]:
    """The host that has the guest set aside, and the guest; of a live migration the host where it runs. Raises Forbidden
    unless the link's migration goes on."""
    row = _open(cloud, link, (store.POST_MIGRATING, store.PREPARING))
    return row.source_id, row.server_id


def open_tunnel(cloud: Cloud, link: str) -> None:
    """Raises Forbidden unless the link's migration goes on and is live."""
    if _open(cloud, link, store.IN_PROGRESS).kind != store.LIVE:
        raise errors.Forbidden("This link is of a guest that does not run.")


def _open(cloud: Cloud, link: str, statuses: Collection[str]) -> Any:
    migration_id, _, secret = link.partition(".")
    with cloud.database.read() as tx:
        row = store.by_id(tx, migration_id)
    if row is None or not hmac.compare_digest(secret.encode(), row.secret.encode()):
        raise errors.Forbidden("This is no link of this cloud.")
    if row.status not in statuses:
        raise errors.Forbidden("This link is over: the migration does not go on.")
    return row
