"""What can be asked of a server that is to be larger, smaller or elsewhere; each checks its state as Nova does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nephos import errors
from nephos.compute.flavors import actions as flavors
from nephos.compute.lifecycle.actions import require, require_host
from nephos.compute.moving import ending, preconditions
from nephos.compute.moving import store as migrations
from nephos.compute.quotas import actions as quotas
from nephos.compute.servers import actions, states, store
from nephos.hosts import actions as hosts
from nephos.hosts.guest import SteerGuest
from nephos.image.images import actions as images
from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

RESIZE, MIGRATE = "server.resize", "server.migrate"
CONFIRM, REVERT = "server.confirm_resize", "server.revert_resize"
LIVE_MIGRATE = "server.live_migrate"
ABORT, FORCE = "server.live_migration_abort", "server.live_migration_force_complete"
_MOVABLE = frozenset({states.ACTIVE, states.STOPPED})
_RUNNING = frozenset({states.ACTIVE, states.PAUSED})


def resize(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, flavor_id: str, disk_config: str | None) -> None:
    """Begin to give a server another flavor. Raises Conflict, BadRequest for a flavor that cannot be, OverQuota."""
    actions.refuse_locked(row, who, "resize")
    require(row, "resize", _MOVABLE)
    flavor = _flavor(tx, row, flavor_id)
    new, old = actions.flavor_of(flavor), row.flavor
    if flavor.id == row.flavor_id:
        raise errors.BadRequest("When resizing, instances must change flavor!")
    _disks_fit(old, new)
    require_host(tx, cloud, row)
    more = {name: max(new[key] - old[key], 0) for name, key in (("cores", "vcpus"), ("ram", "ram_mb"))}
    quotas.take(tx, cloud.settings.quota, row.project_id, row.user_id, more)
    largest = {key: max(new[key], old[key]) for key in ("vcpus", "ram_mb")}
    if disk_config is not None:
        largest["disk_config"] = disk_config
    row_id = _begin(tx, cloud, row, who, migrations.RESIZE, flavor.id, new, flavor.number)
    store.change(tx, row.id, task_state=states.RESIZE_PREP, progress=0, **largest)
    actions.begin(tx, cloud, RESIZE, row, who, request_id, {"migration": row_id, "parts": _image(tx, row, who)})


def migrate(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, host: str | None) -> None:
    """Begin to move a server, shut down, to another host: the scheduler's choice, or `host` where that passes its
    filters. Raises Conflict; BadRequest for a host that is not there or is the server's own."""
    actions.refuse_locked(row, who, "migrate")
    require(row, "migrate", _MOVABLE)
    require_target(tx, row, host)
    require_host(tx, cloud, row)
    number = _number(tx, row)
    row_id = _begin(tx, cloud, row, who, migrations.COLD, row.flavor_id, row.flavor, number)
    store.change(tx, row.id, task_state=states.RESIZE_PREP, progress=0)
    data = {"migration": row_id, "host": host, "parts": _image(tx, row, who)}
    actions.begin(tx, cloud, MIGRATE, row, who, request_id, data)


def confirm(tx: Tx, cloud: Cloud, row: Any, who: Who | None, request_id: str) -> None:
    """The server stays as it is now: its old host forgets it. `who` None is the cloud itself, after the time for it."""
    if who is not None:
        actions.refuse_locked(row, who, "confirmResize")
    found = _finished(tx, row, "confirmResize")
    migrations.change(tx, found.id, status=migrations.CONFIRMING)
    store.change(tx, row.id, task_state=states.RESIZE_CONFIRMING)
    actions.begin(tx, cloud, CONFIRM, row, who, request_id, {"migration": found.id})


def revert(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    """The server goes back to what it was, where it was. Raises Conflict also while that host is away."""
    actions.refuse_locked(row, who, "revertResize")
    found = _finished(tx, row, "revertResize")
    if not cloud.parts["compute"].building.is_up(tx, found.source_id):
        raise errors.Conflict(f"Service is unavailable at this time: host {found.source_name} is down.")
    migrations.change(tx, found.id, status=migrations.REVERTING)
    store.change(tx, row.id, task_state=states.RESIZE_REVERTING)
    actions.begin(tx, cloud, REVERT, row, who, request_id, {"migration": found.id})


def live_migrate(
    tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, *, host: str | None, block: bool | None, forced: bool
) -> None:
    """Begin to move a running server with its disks: to the scheduler's choice, or to `host`, which passes its filters
    unless `forced`. `block` None decides by itself. Raises Conflict; BadRequest for what cannot be."""
    actions.refuse_locked(row, who, "os-migrateLive")
    require(row, "os-migrateLive", _RUNNING)
    require_target(tx, row, host)
    require_host(tx, cloud, row)
    if block is False:
        raise errors.BadRequest(
            f"{row.host_name} is not on shared storage: Shared storage live-migration requires either shared storage or "
            "boot-from-volume with no local disks."
        )
    if host is not None:
        target = hosts.by_name(tx, host)
        if not cloud.parts["compute"].building.is_up(tx, target.id):
            raise errors.BadRequest(f"Compute service of {host} is unavailable at this time.")
        if why := preconditions.problem(hosts.get(tx, row.host_id), target):
            raise errors.BadRequest(why)
    row_id = _begin(tx, cloud, row, who, migrations.LIVE, row.flavor_id, row.flavor, _number(tx, row))
    migrations.change(tx, row_id, status=migrations.QUEUED)
    store.change(tx, row.id, task_state=states.MIGRATING, progress=0)
    data = {"migration": row_id, "host": host, "forced": forced, "parts": _image(tx, row, who)}
    actions.begin(tx, cloud, LIVE_MIGRATE, row, who, request_id, data)


def steer(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, number: str, action: str) -> None:
    """Have a live migration end soon (`hurry`), or give it up (`abort`). Raises NotFound, Conflict; BadRequest when it is
    not under way."""
    actions.refuse_locked(row, who, "force_complete" if action == "hurry" else "abort live migration")
    if row.task_state != states.MIGRATING:
        raise errors.Conflict(f"Cannot '{action}' instance {row.id} while it is in task_state {row.task_state}")
    found = live_of(tx, row, number)
    early = found.status in (migrations.QUEUED, migrations.PREPARING)
    if found.kind != migrations.LIVE or (found.status != migrations.RUNNING and not (early and action == "abort")):
        raise errors.BadRequest(
            f"Migration {found.number} of server {row.id} is {found.status}: it must be {migrations.RUNNING}."
        )
    task = f"{found.id}:{action}:{clock.now_us()}"
    cloud.hosts.send(tx, task, found.source_id, "guest.steer", SteerGuest(server=row.id, action=action))
    if action == "abort":
        migrations.change(tx, found.id, status=migrations.CANCELLED)
    kind = FORCE if action == "hurry" else ABORT
    cloud.operations.note(
        tx, kind, store.NOUN, row.id, request_id=request_id, project_id=who.project_id, user_id=who.user_id
    )


def live_of(tx: Tx, row: Any, number: str) -> Any:
    """A migration of a server by its number, or its id. Raises NotFound."""
    found = migrations.of_server(tx, row.id, number)
    if found is None:
        raise errors.NotFound(f"Migration {number} for server {row.id} could not be found.")
    return found


def confirm_late(tx: Tx, cloud: Cloud) -> None:
    """Confirm what waits for longer than the setting `resize_confirm_window` allows; 0 lets it wait for ever."""
    window = cloud.settings.compute.resize_confirm_window
    if not window:
        return
    for found in migrations.finished_before(tx, tx.now - window * 1_000_000):
        row = store.by_id(tx, found.server_id)
        if row is not None and not row.deleted and row.vm_state == states.RESIZED and row.task_state is None:
            confirm(tx, cloud, row, None, f"req-{clock.uuid4()}")


def require_target(tx: Tx, row: Any, host: str | None) -> None:
    """A host that is asked for must be there and not the server's own. Raises BadRequest."""
    if host is None:
        return
    try:
        hosts.by_name(tx, host)
    except errors.NotFound as missing:
        raise errors.BadRequest(f"Compute host {host} could not be found.") from missing
    if host == row.host_name:
        raise errors.BadRequest(f"Cannot migrate instance {row.id} to its current host {host}.")


def _flavor(tx: Tx, row: Any, flavor_id: str) -> Any:
    try:
        flavor = flavors.get(tx, flavor_id, row.project_id)
    except errors.NotFound as missing:
        raise errors.BadRequest(missing.message) from missing
    if flavor.disabled:
        raise errors.BadRequest(f"Flavor {flavor_id} could not be found.")
    return flavor


def _disks_fit(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Disks grow and do not shrink. Raises BadRequest."""
    if not new["root_gb"] and old["root_gb"]:
        raise errors.BadRequest("Resize to zero disk flavor is not allowed.")
    for key, name in (("root_gb", "root"), ("ephemeral_gb", "ephemeral")):
        if new[key] < old[key]:
            raise errors.BadRequest(
                f"Resize error: Unable to resize disk down: the {name} disk has {old[key]} GiB, the new flavor {new[key]}."
            )


def _begin(
    tx: Tx, cloud: Cloud, row: Any, who: Who, kind: str, flavor_id: str, flavor: Mapping[str, Any], number: int | None
) -> str:
    """Write the migration; answers its id. Raises Conflict when what an earlier one left is all that there is of the guest."""
    for earlier in migrations.kept(tx, row.id):
        if earlier.status != migrations.FINISHED:
            raise errors.Conflict(
                f"Host {earlier.source_name} keeps instance {row.id} as it was before migration {earlier.number} failed."
            )
        # An operator said that the server is active, and so that the move is to stay.
        ending.let_go(tx, cloud, row.id)
    migration_id = clock.uuid4()
    migrations.add(
        tx,
        {
            "id": migration_id,
            "server_id": row.id,
            "project_id": who.project_id or row.project_id,
            "user_id": who.user_id,
            "kind": kind,
            "status": migrations.PRE_MIGRATING,
            "source_id": row.host_id,
            "source_name": row.host_name,
            "source_zone": row.zone,
            "old_flavor_id": row.flavor_id,
            "old_flavor": row.flavor,
            "old_number": _number(tx, row),
            "new_flavor_id": flavor_id,
            "new_flavor": dict(flavor),
            "new_number": number,
            "ran": row.vm_state == states.ACTIVE,
            "kept": False,
            "secret": clock.hex_id(),
            "created_at": tx.now,
        },
    )
    return migration_id


def _number(tx: Tx, row: Any) -> int | None:
    """The number of a server's flavor; None when the flavor is gone."""
    try:
        return int(flavors.get(tx, row.flavor_id, row.project_id, everything=True).number)
    except errors.NotFound:
        return None


def _image(tx: Tx, row: Any, who: Who) -> dict[str, Any]:
    """The image below the root disk, for a host that may have it already; nothing when it is gone, it comes with the disk."""
    if not row.image_id:
        return {}
    try:
        return {"root": actions.part_of(images.boot_image(tx, who, row.image_id))}
    except errors.NephosError:
        return {}


def _finished(tx: Tx, row: Any, action: str) -> Any:
    """The migration that waits for an answer. Raises Conflict; BadRequest when there is none."""
    require(row, action, {states.RESIZED})
    found = next((each for each in migrations.kept(tx, row.id) if each.status == migrations.FINISHED), None)
    if found is None:
        raise errors.BadRequest("Instance has not been resized.")
    return found
