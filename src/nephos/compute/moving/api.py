"""Resize and migration: `/servers/{id}/action`, `/os-migrations`, `/servers/{id}/migrations`."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from sqlalchemy import ColumnElement, or_, select

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.moving import actions, store, wire
from nephos.compute.servers.api import SERVER, owned, seen
from nephos.compute.wire import PREFIX, since
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version

_RULE = "os_compute_api:"
_MIGRATE, _MIGRATIONS = _RULE + "os-migrate-server:migrate", _RULE + "os-migrations:index"
_OF_SERVER = _RULE + "servers:migrations"
_m = store.migration
_FILTERS = {"instance_uuid": _m.c.server_id, "source_compute": _m.c.source_name, "status": _m.c.status}
_KNOWN = {"hidden", "host", "migration_type", *_FILTERS, "limit", "marker", "changes-since"}


def resize(call: Call) -> Reply:
    # The scheduler, and numpy, come into memory here, where no unit of work waits for that.
    import nephos.compute.scheduler.claim  # noqa: F401

    body = call.body(wire.ResizeBody).resize
    disk_config = None if body.disk_config is UNSET else str(body.disk_config)

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        actions.resize(tx, call.cloud, row, call.who, call.request_id, str(body.flavor), disk_config)

    call.cloud.database.write(work)
    return Reply()


def confirm(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.confirm(tx, call.cloud, seen(call, tx), call.who, call.request_id))
    return Reply()


def revert(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.revert(tx, call.cloud, seen(call, tx), call.who, call.request_id))
    return Reply()


def migrate(call: Call) -> Reply:
    # The scheduler, and numpy, come into memory here, where no unit of work waits for that.
    import nephos.compute.scheduler.claim  # noqa: F401

    host: str | None = None
    if since(call, 56):
        target = call.body(wire.MigrateBody).migrate
        host = target.host if target is not None else None

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        if host is not None:
            call.permit(owned(row), rule=_MIGRATE + ":host")
        actions.migrate(tx, call.cloud, row, call.who, call.request_id, host)

    call.cloud.database.write(work)
    return Reply()


def migrate_live(call: Call) -> Reply:
    # The scheduler, and numpy, come into memory here, where no unit of work waits for that.
    import nephos.compute.scheduler.claim  # noqa: F401

    body = call.body(wire.MigrateLiveBody).live
    old = not since(call, 25)
    if old is (body.disk_over_commit is UNSET):
        raise errors.BadRequest("Invalid input for field/attribute os-migrateLive: disk_over_commit is of before 2.25.")
    if body.force is not UNSET and not (since(call, 30) and not since(call, 68)):
        common.refuse(body, "force")
    if body.block_migration == "auto" and old:
        raise errors.BadRequest("Invalid input for field/attribute block_migration. Value: auto. It is of 2.25.")
    forced = body.force is not UNSET and common.truth(body.force)
    if forced and body.host is None:
        raise errors.BadRequest("Can't force to a non-provided destination")
    block = None if body.block_migration == "auto" else common.truth(body.block_migration)

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        if body.host is not None:
            call.permit(owned(row), rule=_MIGRATE + "_live:host")
        actions.live_migrate(
            tx, call.cloud, row, call.who, call.request_id, host=body.host, block=block, forced=forced
        )

    call.cloud.database.write(work)
    return Reply()


def _steer(call: Call, action: str) -> Reply:
    def work(tx: Tx) -> None:
        row = seen(call, tx)
        actions.steer(tx, call.cloud, row, call.who, call.request_id, call.params["migration"], action)

    call.cloud.database.write(work)
    return Reply()


def force_complete(call: Call) -> Reply:
    call.body(wire.ForceCompleteBody)
    return _steer(call, "hurry")


def abort(call: Call) -> Reply:
    return _steer(call, "abort")


# --- migrations --------------------------------------------------------------------------------------------------------


def index(call: Call) -> Reply:
    """The newest first. Without the project's id this is for who may see all projects'."""
    known = _KNOWN | ({"changes-before"} if since(call, 66) else set())
    common.refuse_unknown(call, known | ({"user_id", "project_id"} if since(call, 80) else set()), 59)
    asked = call.query.one("project_id")
    if asked is None or asked != call.who.project_id:
        call.permit(rule=_MIGRATIONS + ":all_projects")
    hosts = call.allowed(_MIGRATIONS + ":host")
    conditions = _conditions(call)
    page = _page(call)
    with call.cloud.database.read() as tx:
        rows = _rows(tx, conditions, page)
    url = f"{call.host_url}{PREFIX}"
    shown = [wire.listed(row, minor=call.version.minor, hosts=hosts, url=url) for row in rows]
    body: dict[str, Any] = {"migrations": shown}
    if since(call, 59):
        following = common.next_links(call, "os-migrations", [row.id for row in rows], page)
        if following:
            body["migrations_links"] = following
    return Reply(body)


def _conditions(call: Call) -> list[ColumnElement[bool]]:
    query = call.query
    found = [column == query.one(name) for name, column in _FILTERS.items() if query.one(name) is not None]
    if query.one("migration_type") is not None:
        found.append(_m.c.kind == query.one("migration_type"))
    host = query.one("host")
    if host is not None:
        found.append(or_(_m.c.source_name == host, _m.c.target_name == host))
    if query.one("project_id") is not None:
        found.append(_m.c.project_id == query.one("project_id"))
    if query.one("user_id") is not None and since(call, 80):
        found.append(_m.c.user_id == query.one("user_id"))
    after = query.one("changes-since") if since(call, 59) else None
    before = query.one("changes-before") if since(call, 66) else None
    least = common.parse_moment(after, "changes-since") if after else None
    most = common.parse_moment(before, "changes-before") if before else None
    if least is not None and most is not None and most < least:
        raise errors.BadRequest("The value of changes-since must be less than or equal to changes-before.")
    if least is not None:
        found.append(or_(_m.c.updated_at >= least, _m.c.created_at >= least))
    if most is not None:
        found.append(or_(_m.c.updated_at <= most, _m.c.updated_at.is_(None)))
    return found


def _page(call: Call) -> Page:
    if not since(call, 59):
        return Page()
    most = call.cloud.settings.api.max_limit
    limit = call.query.integer("limit")
    return Page(most if limit is None else min(limit, most), call.query.one("marker"))


def _rows(tx: Tx, conditions: list[ColumnElement[bool]], page: Page) -> list[Any]:
    """Raises BadRequest for a marker that is no migration's."""
    if page.marker is not None:
        marker = store.by_id(tx, page.marker)
        if marker is None:
            raise errors.BadRequest(f"Marker {page.marker} could not be found.")
        conditions = [*conditions, _m.c.number < marker.number]
    chosen = select(_m).where(*conditions).order_by(_m.c.number.desc())
    return list(tx.all(chosen if page.limit is None else chosen.limit(page.limit)))


def of_server(call: Call) -> Reply:
    """The live migrations of a server that go on."""
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        chosen = select(_m).where(
            _m.c.server_id == row.id, _m.c.kind == store.LIVE, _m.c.status.in_(store.IN_PROGRESS)
        )
        rows = tx.all(chosen.order_by(_m.c.number))
    hosts = call.allowed(_OF_SERVER + ":index:host", owned(row))
    return Reply({"migrations": [wire.of_server(each, minor=call.version.minor, hosts=hosts) for each in rows]})


def one_of_server(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        found = actions.live_of(tx, row, call.params["migration"])
    if found.kind != store.LIVE:
        raise errors.NotFound(f"Migration {found.number} for server {row.id} is not live-migration.")
    if found.status not in store.IN_PROGRESS:
        raise errors.NotFound(f"Live migration {found.number} for server {row.id} is not in progress.")
    return Reply({"migration": wire.of_server(found, minor=call.version.minor)})


def _action(name: str, handler: Any, rule: str, status: int = 202) -> Route:
    return Route("POST", SERVER + "/action", handler, rule, status, target="later", action=name)


_SERVERS = _RULE + "servers:"
_ONE = SERVER + "/migrations/{migration}"
ROUTES = (
    _action("resize", resize, _SERVERS + "resize"),
    _action("confirmResize", confirm, _SERVERS + "confirm_resize", 204),
    _action("revertResize", revert, _SERVERS + "revert_resize"),
    _action("migrate", migrate, _MIGRATE),
    _action("os-migrateLive", migrate_live, _MIGRATE + "_live"),
    Route("GET", "/v2.1/os-migrations", index, _MIGRATIONS),
    Route("GET", SERVER + "/migrations", of_server, _OF_SERVER + ":index", target="later", since=Version(2, 23)),
    Route("GET", _ONE, one_of_server, _OF_SERVER + ":show", target="later", since=Version(2, 23)),
    Route("DELETE", _ONE, abort, _OF_SERVER + ":delete", 202, target="later", since=Version(2, 24)),
    Route(
        "POST",
        _ONE + "/action",
        force_complete,
        _OF_SERVER + ":force_complete",
        202,
        target="later",
        action="force_complete",
        since=Version(2, 22),
    ),
)
