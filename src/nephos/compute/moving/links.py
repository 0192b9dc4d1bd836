"""Links by which the host that receives a guest has its parts: good for one migration, while it goes on."""

from __future__ import annotations

import hmac
from typing import Any

from nephos import errors
from nephos.compute.moving import store
from nephos.kernel.cloud import Cloud


def link(row: Any) -> str:
    """A text safe in a URL's path."""
    return f"{row.id}.{row.secret}"


def open_disks(cloud: Cloud, link: str) -> tuple[str, str]:
    """The host that has the guest set aside, and the guest. Raises Forbidden unless the link's migration goes on."""
    migration_id, _, secret = link.partition(".")
    with cloud.database.read() as tx:
        row = store.by_id(tx, migration_id)
    if row is None or not hmac.compare_digest(secret.encode(), row.secret.encode()):
        raise errors.Forbidden("This is no link of this cloud.")
    if row.status != store.POST_MIGRATING:
        raise errors.Forbidden("This link is over: the migration does not go on.")
    return row.source_id, row.server_id
