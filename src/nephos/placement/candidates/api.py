"""GET /allocation_candidates."""

from __future__ import annotations

from typing import Any

from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement import query
from nephos.placement import wire as common
from nephos.placement.candidates import wire
from nephos.placement.candidates.search import Candidate, Providers, search
from nephos.placement.candidates.wire import Request
from nephos.placement.providers import actions as providers
from nephos.placement.providers.actions import Provider
from nephos.placement.providers.api import overcommit


def index(call: Call) -> Reply:
    common.accepts(call)
    request = wire.read(call)
    nested = common.at_least(call, 29)
    with call.cloud.database.read() as tx:
        query.check_names(tx, request.groups.values(), request.root_required | request.root_forbidden)
        known = providers.load(tx, overcommit(call))
    found = search(known, request, nested=nested)
    body = {
        "allocation_requests": [_show(call, each) for each in found],
        "provider_summaries": _summaries(call, known, request, found, nested=nested),
    }
    return common.dated(call, Reply(body))


def _show(call: Call, candidate: Candidate) -> dict[str, Any]:
    takes: dict[str, dict[str, int]] = {}
    for (provider_id, name), amount in candidate.amounts.items():
        takes.setdefault(provider_id, {})[name] = amount
    if not common.at_least(call, 12):
        return {
            "allocations": [
                {"resource_provider": {"uuid": provider_id}, "resources": resources}
                for provider_id, resources in takes.items()
            ]
        }
    body: dict[str, Any] = {
        "allocations": {provider_id: {"resources": resources} for provider_id, resources in takes.items()}
    }
    if common.at_least(call, 34):
        body["mappings"] = candidate.mappings
    return body


def _summaries(
    call: Call, known: Providers, request: Request, found: list[Candidate], *, nested: bool
) -> dict[str, Any]:
    """Every provider of a tree that a candidate takes from; before nested providers were known, only those it takes from."""
    taken = {provider_id for candidate in found for provider_id, _ in candidate.amounts}
    roots = {known[each].root_id for each in taken}
    chosen = [each for each in known.values() if (each.root_id in roots if nested else each.id in taken)]
    asked = {name for group in request.groups.values() for name in group.resources}
    return {each.id: _summary(call, each, asked) for each in chosen}


def _summary(call: Call, provider: Provider, asked: set[str]) -> dict[str, Any]:
    everything = common.at_least(call, 27)
    body: dict[str, Any] = {
        "resources": {
            name: {"capacity": inventory.capacity, "used": provider.used.get(name, 0)}
            for name, inventory in provider.inventories.items()
            if everything or name in asked
        }
    }
    if common.at_least(call, 17):
        body["traits"] = sorted(provider.traits)
    if common.at_least(call, 29):
        body["parent_provider_uuid"] = provider.parent_id
        body["root_provider_uuid"] = provider.root_id
    return body


ROUTES = (Route("GET", "/allocation_candidates", index, "placement:allocation_candidates:list", since=Version(1, 10)),)
