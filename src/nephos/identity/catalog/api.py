"""/v3/regions, /v3/services and /v3/endpoints."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part
from nephos.identity import wire as shared
from nephos.identity.catalog import actions, wire
from nephos.identity.catalog.store import endpoint, region, service
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

REGION_COLUMNS = {name: region.c[name] for name in ("id", "parent_region_id", "description")}
SERVICE_COLUMNS = {name: service.c[name] for name in ("id", "name", "type", "enabled")}
ENDPOINT_COLUMNS = {name: endpoint.c[name] for name in ("id", "interface", "service_id", "region_id", "enabled")}


def index_regions(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(region), REGION_COLUMNS, key=region.c.id, sort="id")
    items = [wire.region(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "regions", items, listed.marker))


def create_region(call: Call) -> Reply:
    """POST with the id in the body or none, PUT with it in the URL."""
    call.permit(dict(call.params))
    body, extra = shared.member(call, "region", wire.RegionCreate)
    ident = call.params.get("region_id")
    if ident is not None and body.id is not None and body.id != ident:
        raise errors.BadRequest("The region ID in the URL and the one in the body differ.")
    values = {
        "id": ident or body.id or clock.hex_id(),
        "description": body.description or "",
        "parent_region_id": body.parent_region_id,
        "extra": extra or None,
    }
    shared.typed(values, wire.RegionCreate, "region")
    row = part.change(call.cloud, lambda tx: actions.create_region(tx, values))
    return Reply({"region": wire.region(call, row)})


def show_region(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        row = actions.find(tx, region, call.params["region_id"])
    return Reply({"region": wire.region(call, row)})


def update_region(call: Call) -> Reply:
    call.permit(dict(call.params))
    body, extra = shared.member(call, "region", wire.RegionUpdate)
    shared.same_id(call, "region", "region_id")
    changes = shared.given(body)
    shared.something(changes, extra, "region")

    def work(tx: Tx) -> Row[Any]:
        return actions.change_region(tx, actions.find(tx, region, call.params["region_id"]), dict(changes), extra)

    return Reply({"region": wire.region(call, part.change(call.cloud, work))})


def delete_region(call: Call) -> Reply:
    call.permit(dict(call.params))
    ident = call.params["region_id"]
    part.change(call.cloud, lambda tx: actions.remove_region(tx, actions.find(tx, region, ident)))
    return Reply()


def index_services(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(service), SERVICE_COLUMNS, key=service.c.id, sort="type")
    items = [wire.service(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "services", items, listed.marker))


def create_service(call: Call) -> Reply:
    call.permit(dict(call.params))
    body, extra = shared.member(call, "service", wire.ServiceCreate)
    values = {
        "id": clock.hex_id(),
        "type": body.type,
        "name": body.name,
        "enabled": body.enabled,
        "extra": extra or None,
    }
    row = part.change(call.cloud, lambda tx: actions.create_service(tx, values))
    return Reply({"service": wire.service(call, row)})


def show_service(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        row = actions.find(tx, service, call.params["service_id"])
    return Reply({"service": wire.service(call, row)})


def update_service(call: Call) -> Reply:
    call.permit(dict(call.params))
    body, extra = shared.member(call, "service", wire.ServiceUpdate)
    shared.same_id(call, "service", "service_id")
    changes = shared.given(body)
    shared.something(changes, extra, "service")

    def work(tx: Tx) -> Row[Any]:
        return actions.change_service(tx, actions.find(tx, service, call.params["service_id"]), dict(changes), extra)

    return Reply({"service": wire.service(call, part.change(call.cloud, work))})


def delete_service(call: Call) -> Reply:
    call.permit(dict(call.params))
    ident = call.params["service_id"]
    part.change(call.cloud, lambda tx: actions.remove_service(tx, actions.find(tx, service, ident)))
    return Reply()


def index_endpoints(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(endpoint), ENDPOINT_COLUMNS, key=endpoint.c.id, sort="id")
    items = [wire.endpoint(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "endpoints", items, listed.marker))


def create_endpoint(call: Call) -> Reply:
    call.permit(dict(call.params))
    body, extra = shared.member(call, "endpoint", wire.EndpointCreate)
    values = {
        "id": clock.hex_id(),
        "interface": body.interface,
        "service_id": body.service_id,
        "region_id": body.region_id,
        "url": body.url,
        "enabled": body.enabled,
        "extra": extra or None,
    }
    row = part.change(call.cloud, lambda tx: actions.create_endpoint(tx, values, body.region))
    return Reply({"endpoint": wire.endpoint(call, row)})


def show_endpoint(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        row = actions.find(tx, endpoint, call.params["endpoint_id"])
    return Reply({"endpoint": wire.endpoint(call, row)})


def update_endpoint(call: Call) -> Reply:
    call.permit(dict(call.params))
    body, extra = shared.member(call, "endpoint", wire.EndpointUpdate)
    shared.same_id(call, "endpoint", "endpoint_id")
    changes = shared.given(body)
    shared.something(changes, extra, "endpoint")

    def work(tx: Tx) -> Row[Any]:
        return actions.change_endpoint(tx, actions.find(tx, endpoint, call.params["endpoint_id"]), dict(changes), extra)

    return Reply({"endpoint": wire.endpoint(call, part.change(call.cloud, work))})


def delete_endpoint(call: Call) -> Reply:
    call.permit(dict(call.params))
    ident = call.params["endpoint_id"]
    part.change(call.cloud, lambda tx: actions.remove_endpoint(tx, actions.find(tx, endpoint, ident)))
    return Reply()


ROUTES = (
    Route("GET", "/v3/regions", index_regions, "identity:list_regions", target="later"),
    Route("POST", "/v3/regions", create_region, "identity:create_region", 201, target="later"),
    Route("GET", "/v3/regions/{region_id}", show_region, "identity:get_region", target="later"),
    Route("PUT", "/v3/regions/{region_id}", create_region, "identity:create_region", 201, target="later"),
    Route("PATCH", "/v3/regions/{region_id}", update_region, "identity:update_region", target="later"),
    Route("DELETE", "/v3/regions/{region_id}", delete_region, "identity:delete_region", 204, target="later"),
    Route("GET", "/v3/services", index_services, "identity:list_services", target="later"),
    Route("POST", "/v3/services", create_service, "identity:create_service", 201, target="later"),
    Route("GET", "/v3/services/{service_id}", show_service, "identity:get_service", target="later"),
    Route("PATCH", "/v3/services/{service_id}", update_service, "identity:update_service", target="later"),
    Route("DELETE", "/v3/services/{service_id}", delete_service, "identity:delete_service", 204, target="later"),
    Route("GET", "/v3/endpoints", index_endpoints, "identity:list_endpoints", target="later"),
    Route("POST", "/v3/endpoints", create_endpoint, "identity:create_endpoint", 201, target="later"),
    Route("GET", "/v3/endpoints/{endpoint_id}", show_endpoint, "identity:get_endpoint", target="later"),
    Route("PATCH", "/v3/endpoints/{endpoint_id}", update_endpoint, "identity:update_endpoint", target="later"),
    Route("DELETE", "/v3/endpoints/{endpoint_id}", delete_endpoint, "identity:delete_endpoint", 204, target="later"),
)
