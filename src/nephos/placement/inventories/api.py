"""Inventories over HTTP."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.placement import wire
from nephos.placement.classes import actions as classes
from nephos.placement.inventories import actions as inventories
from nephos.placement.inventories.actions import Inventory
from nephos.placement.inventories.wire import AllInventories, NewInventory, OneInventory
from nephos.placement.providers import actions as providers
from nephos.placement.providers.actions import Provider
from nephos.placement.providers.api import one, overcommit


def _path(provider: Provider, name: str) -> str:
    return f"/resource_providers/{provider.id}/inventories/{name}"


def _all(call: Call, provider: Provider) -> Reply:
    body = {
        "resource_provider_generation": provider.generation,
        "inventories": {name: each._asdict() for name, each in provider.inventories.items()},
    }
    return wire.dated(call, Reply(body))


def _one(call: Call, provider: Provider, name: str, *, status: int = 200) -> Reply:
    body: dict[str, Any] = provider.inventories[name]._asdict()
    body["resource_provider_generation"] = provider.generation
    return wire.dated(call, Reply(body, status=status))


def index(call: Call) -> Reply:
    wire.accepts(call)
    return _all(call, one(call))


def show(call: Call) -> Reply:
    wire.accepts(call)
    provider, name = one(call), call.params["resource_class"]
    if name not in provider.inventories:
        raise errors.NotFound(f"No inventory of class {name} for {provider.id}")
    return _one(call, provider, name)


def _check_capacity(call: Call, provider: Provider, name: str, inventory: Inventory, verb: str = "update") -> None:
    least = 0 if wire.at_least(call, 26) else 1
    if inventory.capacity < least:
        how = "greater than" if least == 0 else "greater than or equal to"
        raise errors.BadRequest(
            f"Unable to {verb} inventory for resource provider {provider.id}: Invalid inventory for '{name}' on "
            f"resource provider '{provider.id}'. The reserved value is {how} total."
        )


def _check_unused(provider: Provider, names: set[str]) -> None:
    used = sorted(names & provider.used.keys(), key=classes.rank)
    if used:
        raise errors.Conflict(
            f"update conflict: Inventory for '{', '.join(used)}' on resource provider '{provider.id}' in use.",
            code=wire.INVENTORY_IN_USE,
        )


def _change(call: Call, work: Any) -> Provider:
    """Run `work(tx, provider)` with the provider of the URL, and answer the provider as it is then."""

    def whole(tx: Tx) -> Provider:
        provider = providers.get(tx, overcommit(call), call.params["uuid"])
        work(tx, provider)
        return providers.get(tx, overcommit(call), provider.id)

    changed: Provider = call.cloud.database.write(whole)
    return changed


def create(call: Call) -> Reply:
    wire.check_media(call)
    one(call)
    wanted = wire.body(call, NewInventory)
    name = wanted.resource_class

    def work(tx: Tx, provider: Provider) -> None:
        _check_capacity(call, provider, name, wanted.inventory(), "create")
        if name in provider.inventories:
            raise errors.Conflict(
                f"Update conflict: inventory of class {name} for {provider.id} exists already.",
                code=wire.CONCURRENT_UPDATE,
            )
        providers.bump(tx, provider)
        inventories.write(tx, provider.id, name, wanted.inventory())

    provider = _change(call, work)
    reply = _one(call, provider, name, status=201)
    reply.headers = {**reply.headers, **wire.located(call, _path(provider, name))}
    return reply


def replace(call: Call) -> Reply:
    wire.check_media(call)
    one(call)
    wanted = wire.body(call, AllInventories)

    def work(tx: Tx, provider: Provider) -> None:
        providers.check_generation(provider, wanted.resource_provider_generation)
        for name, record in wanted.inventories.items():
            _check_capacity(call, provider, name, record.inventory())
        gone = provider.inventories.keys() - wanted.inventories.keys()
        _check_unused(provider, gone)
        providers.bump(tx, provider)
        for name in gone:
            inventories.erase(tx, provider.id, name)
        for name, record in wanted.inventories.items():
            inventories.write(tx, provider.id, name, record.inventory())

    return _all(call, _change(call, work))


def update(call: Call) -> Reply:
    wire.check_media(call)
    one(call)
    wanted, name = wire.body(call, OneInventory), call.params["resource_class"]

    def work(tx: Tx, provider: Provider) -> None:
        providers.check_generation(provider, wanted.resource_provider_generation)
        _check_capacity(call, provider, name, wanted.inventory())
        if name not in provider.inventories:
            raise errors.BadRequest(
                f"No inventory record with resource class for resource provider {provider.id}: {name}"
            )
        providers.bump(tx, provider)
        inventories.write(tx, provider.id, name, wanted.inventory())

    return _one(call, _change(call, work), name)


def remove(call: Call) -> Reply:
    name = call.params["resource_class"]

    def work(tx: Tx, provider: Provider) -> None:
        if name not in provider.inventories:
            raise errors.NotFound(f"No inventory of class {name} found for delete")
        if name in provider.used:
            raise errors.Conflict(
                f"Unable to delete inventory of class {name}: Inventory for '{name}' on resource provider "
                f"'{provider.id}' in use.",
                code=wire.CONCURRENT_UPDATE,
            )
        providers.bump(tx, provider)
        inventories.erase(tx, provider.id, name)

    _change(call, work)
    return Reply()


def remove_all(call: Call) -> Reply:
    if not wire.at_least(call, 5):
        raise errors.MethodNotAllowed("The method DELETE is not allowed for this resource.")

    def work(tx: Tx, provider: Provider) -> None:
        _check_unused(provider, set(provider.inventories))
        providers.bump(tx, provider)
        for name in list(provider.inventories):
            inventories.erase(tx, provider.id, name)

    _change(call, work)
    return Reply()


_RULE = "placement:resource_providers:inventories:"
_ALL = "/resource_providers/{uuid}/inventories"
_CLASS = _ALL + "/{resource_class}"
ROUTES = (
    Route("GET", _ALL, index, _RULE + "list"),
    Route("POST", _ALL, create, _RULE + "create", 201),
    Route("PUT", _ALL, replace, _RULE + "update"),
    Route("DELETE", _ALL, remove_all, _RULE + "delete", 204),
    Route("GET", _CLASS, show, _RULE + "show"),
    Route("PUT", _CLASS, update, _RULE + "update"),
    Route("DELETE", _CLASS, remove, _RULE + "delete", 204),
)
