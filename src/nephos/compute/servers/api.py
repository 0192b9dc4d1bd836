"""`/servers`: create, list, show, change, delete."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from nephos import errors
from nephos.compute import notifications
from nephos.compute import wire as common
from nephos.compute.building import wish
from nephos.compute.servers import actions, store, wire
from nephos.compute.showing import bodies, listing, views
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def owned(row: Any) -> dict[str, Any]:
    """A server as a policy target."""
    return {"project_id": row.project_id, "tenant_id": row.project_id, "user_id": row.user_id}


def seen(call: Call, tx: Tx, *, deleted: bool = False) -> Any:
    """The server of the URL, once the caller may do what the route is for.

    Raises NotFound also for another project's, which a caller without rights over all projects does not see.
    """
    server_id = call.params["server"]
    row = store.by_id(tx, server_id)
    if row is None or (row.deleted and not deleted):
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    if row.project_id != call.who.project_id and not call.allowed("os_compute_api:servers:allow_all_filters"):
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    call.permit(owned(row))
    return row


def create(call: Call) -> Reply:
    # The first server brings the scheduler, and numpy, into memory: here, where no unit of work waits for that.
    import nephos.compute.scheduler.claim  # noqa: F401

    began = clock.now_us()
    body = call.body(wire.NewServerBody)
    wanted = wish.wish_of(call, body)
    ids = call.cloud.database.write(
        lambda tx: actions.create(tx, call.cloud, call.who, wanted, request_id=call.request_id, began=began)
    )
    if common.truth(body.server.return_reservation_id):
        return Reply({"reservation_id": wanted.reservation_id})
    links = views.links(call.host_url, ids[0])
    shown = {
        "id": ids[0],
        "links": links,
        "OS-DCF:diskConfig": wanted.disk_config,
        "security_groups": [{"name": each} for each in wanted.security_groups or ("default",)],
        "adminPass": wanted.admin_pass,
    }
    return Reply({"server": shown}, headers={"Location": links[0]["href"]})


def index(call: Call) -> Reply:
    conditions = listing.chosen(call, everywhere="os_compute_api:servers:index:get_all_tenants")
    page = listing.page_of(call)
    server = store.server
    with call.cloud.database.read() as tx:
        rows = listing.rows(tx, call, conditions, (server.c.id, server.c.name), page)
    body: dict[str, Any] = {"servers": [views.basic(call.host_url, row) for row in rows]}
    following = common.next_links(call, "servers", [row.id for row in rows], page)
    if following:
        body["servers_links"] = following
    return Reply(body)


def detail(call: Call) -> Reply:
    conditions = listing.chosen(call, everywhere="os_compute_api:servers:detail:get_all_tenants")
    page = listing.page_of(call)
    view = views.of(call)
    with call.cloud.database.read() as tx:
        rows = listing.rows(tx, call, conditions, bodies.KEY_COLUMNS, page)
        parts = bodies.details(tx, call.cloud.parts["compute"].bodies, view, rows)
    return Reply(listing.body(call, "servers/detail", parts, [row.id for row in rows], page))


def show(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        view = views.of(call, owned(row))._replace(groups=True)
        extras = bodies.extras_of(tx, row, host_status=view.host_status)
    return Reply({"server": views.detailed(view, row, extras)})


def change(call: Call) -> Reply:
    body = call.body(wire.ServerChangeBody).server
    common.refuse_later(body, call.version, wire.CHANGE_SINCE)
    values: dict[str, Any] = {}
    if body.name is not UNSET:
        values["name"] = common.name(body.name)
    if body.disk_config is not UNSET:
        values["disk_config"] = body.disk_config
    for name, field, version in (("access_ipv4", "accessIPv4", 4), ("access_ipv6", "accessIPv6", 6)):
        address = getattr(body, name)
        if address is not UNSET:
            values[name] = common.address(address, field, version) if address else None
    if body.description is not UNSET:
        values["description"] = common.description(body.description)
    if body.hostname is not UNSET:
        values["hostname"] = wish.check_hostname(call, body.hostname)

    def work(tx: Tx) -> tuple[Any, views.Extras]:
        row = seen(call, tx)
        if body.pinned_availability_zone is not UNSET:
            values["wanted_zone"] = _pin(row, body.pinned_availability_zone)
        if values:
            actions.change(tx, call.cloud, row, **values)
            notifications.updated(tx, row, old_name=row.name if "name" in values else None)
            row = actions.get(tx, row.id)
        return row, bodies.extras_of(tx, row, host_status=common.since(call, 75))

    row, extras = call.cloud.database.write(work)
    view = views.of(call, owned(row))._replace(whole=common.since(call, 75), groups=True)
    return Reply({"server": views.detailed(view, row, extras)})


def _pin(row: Any, zone: str | None) -> str | None:
    """The zone that a server is kept in (2.104). Raises Conflict for one that it is not in."""
    if zone is not None and row.wanted_zone != zone and (row.wanted_zone is not None or row.zone != zone):
        raise errors.Conflict(
            f"Instance {row.id} cannot be pinned to availability zone {zone}: it is in {row.zone} and pinned to "
            f"{row.wanted_zone}."
        )
    return zone


def delete(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        actions.delete(tx, call.cloud, seen(call, tx), call.who, call.request_id)

    call.cloud.database.write(work)
    return Reply()


SERVERS, SERVER, RULE = "/v2.1/servers", "/v2.1/servers/{server}", "os_compute_api:servers"

ROUTES = (
    Route("POST", SERVERS, create, f"{RULE}:create", 202),
    Route("GET", SERVERS, index, f"{RULE}:index"),
    Route("GET", SERVERS + "/detail", detail, f"{RULE}:detail"),
    Route("GET", SERVER, show, f"{RULE}:show", target="later"),
    Route("PUT", SERVER, change, f"{RULE}:update", target="later"),
    Route("DELETE", SERVER, delete, f"{RULE}:delete", 204, target="later"),
)
