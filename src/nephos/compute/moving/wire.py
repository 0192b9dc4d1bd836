"""Bodies of the moves, and how a migration is shown in each microversion (Nova's API reference, 2.1 to 2.104)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from nephos.compute.moving import store
from nephos.compute.wire import Strict, Truth, fine_moment

FlavorRef = Annotated[str, Meta(min_length=1, max_length=1024)] | int
Host = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-._]*$")] | None


class Resize(Strict):
    flavor: FlavorRef = field(name="flavorRef")
    disk_config: Literal["AUTO", "MANUAL"] | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")


class ResizeBody(Strict):
    resize: Resize


class Target(Strict):
    host: Host = None


class MigrateBody(Strict):
    """From 2.56 on; before, whatever the action holds is not looked at."""

    migrate: Target | None


class MigrateLive(Strict):
    host: Host
    block_migration: Truth | Literal["auto"]
    disk_over_commit: Truth | UnsetType = UNSET
    force: Truth | UnsetType = UNSET


class MigrateLiveBody(Strict):
    live: MigrateLive = field(name="os-migrateLive")


class ForceCompleteBody(Strict):
    force_complete: None


def listed(row: Any, *, minor: int, hosts: bool, url: str) -> dict[str, Any]:
    """A migration in `/os-migrations`. `hosts` is whether the caller may see where from and where to; `url` is the root
    that links begin with."""
    shown = {
        "id": row.number,
        "instance_uuid": row.server_id,
        "status": row.status,
        "old_instance_type_id": row.old_number,
        "new_instance_type_id": row.new_number,
        "created_at": fine_moment(row.created_at),
        "updated_at": fine_moment(row.updated_at),
        **_places(row, hosts=hosts),
    }
    if minor >= 23:
        shown["migration_type"] = row.kind
        if row.kind == store.LIVE and row.status in store.IN_PROGRESS:
            path = f"servers/{row.server_id}/migrations/{row.number}"
            shown["links"] = [
                {"rel": "self", "href": f"{url}/v2.1/{path}"},
                {"rel": "bookmark", "href": f"{url}/{path}"},
            ]
    return shown | _later(row, minor)


def of_server(row: Any, *, minor: int, hosts: bool = True) -> dict[str, Any]:
    """A live migration that goes on, with its server."""
    progress = row.progress or {}
    amounts = {
        f"{what}_{how}_bytes": progress.get(f"{what}_{how}")
        for what in ("memory", "disk")
        for how in ("total", "processed", "remaining")
    }
    return {
        "id": row.number,
        "server_uuid": row.server_id,
        "status": row.status,
        "created_at": fine_moment(row.created_at),
        "updated_at": fine_moment(row.updated_at),
        **amounts,
        **_places(row, hosts=hosts),
        **_later(row, minor),
    }


def _places(row: Any, *, hosts: bool) -> dict[str, Any]:
    return {
        "source_compute": row.source_name if hosts else None,
        "source_node": row.source_name if hosts else None,
        "dest_compute": row.target_name if hosts else None,
        "dest_node": row.target_name if hosts else None,
        "dest_host": row.target_name if hosts else None,
    }


def _later(row: Any, minor: int) -> dict[str, Any]:
    shown: dict[str, Any] = {"uuid": row.id} if minor >= 59 else {}
    return shown | ({"user_id": row.user_id, "project_id": row.project_id} if minor >= 80 else {})
