"""Resource providers over HTTP, with their traits, aggregates and usages."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement import query, wire
from nephos.placement.providers import actions
from nephos.placement.providers.actions import Provider
from nephos.placement.query import Wanted
from nephos.settings import Compute

_ProviderName = Annotated[str, msgspec.Meta(max_length=200)]
_RELATIONS = (("inventories", 0), ("usages", 0), ("aggregates", 1), ("traits", 6), ("allocations", 11))


class NewProvider(msgspec.Struct, forbid_unknown_fields=True):
    name: _ProviderName
    uuid: str | None = None


class NewProvider14(NewProvider, forbid_unknown_fields=True):
    parent_provider_uuid: str | None = None


class ChangedProvider(msgspec.Struct, forbid_unknown_fields=True):
    name: _ProviderName


class ChangedProvider14(ChangedProvider, forbid_unknown_fields=True):
    parent_provider_uuid: str | msgspec.UnsetType | None = msgspec.UNSET


class SetTraits(msgspec.Struct, forbid_unknown_fields=True):
    traits: list[wire.Name]
    resource_provider_generation: int


class SetAggregates(msgspec.Struct, forbid_unknown_fields=True):
    aggregates: list[str]
    resource_provider_generation: int


def overcommit(call: Call) -> Compute:
    chosen: Compute = call.cloud.settings.compute
    return chosen


def _path(provider_id: str) -> str:
    return f"/resource_providers/{provider_id}"


def _show(call: Call, provider: Provider) -> dict[str, Any]:
    path = _path(provider.id)
    links = [wire.link(path)]
    links += [wire.link(f"{path}/{name}", name) for name, since in _RELATIONS if wire.at_least(call, since)]
    body: dict[str, Any] = {
        "uuid": provider.id,
        "name": provider.name,
        "generation": provider.generation,
        "links": links,
    }
    if wire.at_least(call, 14):
        body["parent_provider_uuid"] = provider.parent_id
        body["root_provider_uuid"] = provider.root_id
    return body


def one(call: Call) -> Provider:
    """The provider of the URL. Raises NotFound."""
    with call.cloud.database.read() as tx:
        return actions.get(tx, overcommit(call), call.params["uuid"])


def index(call: Call) -> Reply:
    wire.accepts(call)
    since = {"name": 0, "uuid": 0, "member_of": 3, "resources": 4, "in_tree": 14, "required": 18}
    wire.query_names(call, {name for name, minor in since.items() if wire.at_least(call, minor)})
    for name in ("uuid", "in_tree"):
        value = call.query.one(name)
        if value is not None and not wire.is_uuid(value):
            raise errors.BadRequest(f"Invalid query string parameters: {value!r} is not a 'uuid'")
    wanted = Wanted(in_tree=call.query.one("in_tree"))
    if "member_of" in call.query:
        wanted.member_of, wanted.forbidden_aggregates = query.member_of(call)
    if "required" in call.query:
        wanted.required, wanted.forbidden = query.required(call)
    if "resources" in call.query:
        wanted.resources = query.resources(call.query.one("resources") or "")
    with call.cloud.database.read() as tx:
        query.check_names(tx, (wanted,), where='Invalid trait(s) in "required" parameter: ')
        found = actions.load(tx, overcommit(call))
    chosen = [each for each in found.values() if _fits(each, wanted, found)]
    for name, value in (("name", call.query.one("name")), ("id", call.query.one("uuid"))):
        if value is not None:
            chosen = [each for each in chosen if getattr(each, name) == value]
    reply = Reply({"resource_providers": [_show(call, each) for each in chosen]})
    return wire.dated(call, reply, max((each.updated_at for each in chosen), default=None))


def _fits(provider: Provider, wanted: Wanted, known: dict[str, Provider]) -> bool:
    if wanted.in_tree is not None:
        asked = known.get(wanted.in_tree)
        if asked is None or asked.root_id != provider.root_id:
            return False
    return (
        wanted.fits_aggregates(provider.aggregates)
        and wanted.fits_traits(provider.traits)
        and wanted.fits_resources(provider)
    )


def show(call: Call) -> Reply:
    wire.accepts(call)
    provider = one(call)
    return wire.dated(call, Reply(_show(call, provider)), provider.updated_at)


def create(call: Call) -> Reply:
    wanted = wire.body(call, NewProvider14 if wire.at_least(call, 14) else NewProvider)
    provider_id = clock.uuid4() if wanted.uuid is None else wire.uuid(wanted.uuid, "uuid")
    parent = wanted.parent_provider_uuid if isinstance(wanted, NewProvider14) else None
    parent_id = None if parent is None else wire.uuid(parent, "parent_provider_uuid")

    def work(tx: Tx) -> Provider:
        try:
            actions.create(tx, overcommit(call), provider_id, wanted.name, parent_id)
        except errors.BadRequest as wrong:
            raise errors.BadRequest(
                f'Unable to create resource provider "{wanted.name}", {provider_id}: {wrong.message}'
            ) from wrong
        return actions.get(tx, overcommit(call), provider_id)

    provider = call.cloud.database.write(work)
    headers = wire.located(call, _path(provider_id))
    if not wire.at_least(call, 20):
        return Reply(status=201, headers=headers)
    return wire.dated(call, Reply(_show(call, provider), headers=headers), provider.updated_at)


def update(call: Call) -> Reply:
    wire.check_media(call)
    provider_id = one(call).id
    wanted = wire.body(call, ChangedProvider14 if wire.at_least(call, 14) else ChangedProvider)

    def work(tx: Tx) -> Provider:
        provider = actions.get(tx, overcommit(call), provider_id)
        parent_id = provider.parent_id
        if isinstance(wanted, ChangedProvider14) and wanted.parent_provider_uuid is not msgspec.UNSET:
            given = wanted.parent_provider_uuid
            parent_id = None if given is None else wire.uuid(given, "parent_provider_uuid")
        actions.change(tx, overcommit(call), provider, wanted.name, parent_id, reparent=wire.at_least(call, 37))
        return provider

    provider = call.cloud.database.write(work)
    return wire.dated(call, Reply(_show(call, provider)), provider.updated_at)


def remove(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.remove(tx, overcommit(call), call.params["uuid"]))
    return Reply()


def _traits(call: Call, provider: Provider) -> Reply:
    body = {"traits": sorted(provider.traits), "resource_provider_generation": provider.generation}
    return wire.dated(call, Reply(body))


def show_traits(call: Call) -> Reply:
    wire.accepts(call)
    return _traits(call, one(call))


def set_traits(call: Call) -> Reply:
    wanted = wire.body(call, SetTraits)

    def work(tx: Tx) -> Provider:
        provider = actions.get(tx, overcommit(call), call.params["uuid"])
        actions.check_generation(provider, wanted.resource_provider_generation)
        actions.set_traits(tx, provider, wanted.traits)
        return provider

    return _traits(call, call.cloud.database.write(work))


def delete_traits(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        actions.set_traits(tx, actions.get(tx, overcommit(call), call.params["uuid"]), ())

    call.cloud.database.write(work)
    return Reply()


def _aggregates(call: Call, provider: Provider, ids: list[str] | None = None) -> Reply:
    body: dict[str, Any] = {"aggregates": sorted(provider.aggregates) if ids is None else ids}
    if wire.at_least(call, 19):
        body["resource_provider_generation"] = provider.generation
    return wire.dated(call, Reply(body))


def show_aggregates(call: Call) -> Reply:
    wire.accepts(call)
    return _aggregates(call, one(call))


def set_aggregates(call: Call) -> Reply:
    wire.check_media(call)
    provider_id = one(call).id
    generation: int | None = None
    if wire.at_least(call, 19):
        wanted = wire.body(call, SetAggregates)
        ids, generation = wanted.aggregates, wanted.resource_provider_generation
    else:
        ids = wire.body(call, list[str])
    for each in ids:
        wire.uuid(each, "aggregates")
    if len(set(ids)) != len(ids):
        raise errors.BadRequest(f"JSON does not validate: {ids} has non-unique elements")

    def work(tx: Tx) -> Provider:
        provider = actions.get(tx, overcommit(call), provider_id)
        if generation is not None:
            actions.check_generation(provider, generation)
        actions.set_aggregates(tx, provider, ids, swap=generation is not None)
        return provider

    return _aggregates(call, call.cloud.database.write(work), ids)


def usages(call: Call) -> Reply:
    wire.accepts(call)
    provider = one(call)
    used = {name: provider.used.get(name, 0) for name in provider.inventories}
    return wire.dated(call, Reply({"resource_provider_generation": provider.generation, "usages": used}))


_RULE = "placement:resource_providers:"
_ONE = "/resource_providers/{uuid}"
_TRAITS, _AGGREGATES = Version(1, 6), Version(1, 1)
ROUTES = (
    Route("GET", "/resource_providers", index, _RULE + "list"),
    Route("POST", "/resource_providers", create, _RULE + "create"),
    Route("GET", _ONE, show, _RULE + "show"),
    Route("PUT", _ONE, update, _RULE + "update"),
    Route("DELETE", _ONE, remove, _RULE + "delete", 204),
    Route("GET", _ONE + "/traits", show_traits, _RULE + "traits:list", since=_TRAITS),
    Route("PUT", _ONE + "/traits", set_traits, _RULE + "traits:update", since=_TRAITS),
    Route("DELETE", _ONE + "/traits", delete_traits, _RULE + "traits:delete", 204, since=_TRAITS),
    Route("GET", _ONE + "/aggregates", show_aggregates, _RULE + "aggregates:list", since=_AGGREGATES),
    Route("PUT", _ONE + "/aggregates", set_aggregates, _RULE + "aggregates:update", since=_AGGREGATES),
    Route("GET", _ONE + "/usages", usages, _RULE + "usages"),
)
