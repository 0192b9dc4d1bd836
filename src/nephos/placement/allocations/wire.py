"""Allocation bodies, version by version, lifted to one shape."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from nephos import errors
from nephos.kernel.http.call import Call
from nephos.placement import wire
from nephos.placement.allocations.replace import Wanted
from nephos.placement.allocations.reshape import Inventories
from nephos.placement.inventories.wire import AllInventories

NOBODY = "00000000-0000-0000-0000-000000000000"
"""Project and user of a consumer whose client did not say (before 1.8)."""
_Amount = Annotated[int, msgspec.Meta(ge=1, le=wire.MOST)]
_Resources = Annotated[dict[wire.ClassName, _Amount], msgspec.Meta(min_length=1)]
_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F-]{36}\Z")]
_Group = Annotated[str, msgspec.Meta(pattern=r"^([a-zA-Z0-9_-]{1,64})?\Z")]
_Type = Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9_]+\Z", min_length=1, max_length=255)]


class ProviderId(msgspec.Struct, forbid_unknown_fields=True):
    uuid: str


class ListedAllocation(msgspec.Struct, forbid_unknown_fields=True):
    resource_provider: ProviderId
    resources: _Resources


class Consumer0(msgspec.Struct, forbid_unknown_fields=True):
    """Before 1.8: whose it is nobody says."""

    allocations: Annotated[list[ListedAllocation], msgspec.Meta(min_length=1)]


class Consumer8(Consumer0, forbid_unknown_fields=True):
    project_id: wire.Name
    user_id: wire.Name


class ProviderAllocation(msgspec.Struct, forbid_unknown_fields=True):
    resources: _Resources
    generation: int = 0


class Consumer13(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """From 1.12 on, by provider; empty from 1.13 on in a POST and from 1.28 on everywhere."""

    allocations: dict[_Id, ProviderAllocation]
    project_id: wire.Name
    user_id: wire.Name


class Consumer28(Consumer13, forbid_unknown_fields=True, kw_only=True):
    consumer_generation: int | None


class Consumer34(Consumer28, forbid_unknown_fields=True, kw_only=True):
    """`mappings` comes from a candidate and means nothing here."""

    mappings: (
        Annotated[dict[_Group, Annotated[list[str], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Consumer38(Consumer34, forbid_unknown_fields=True, kw_only=True):
    consumer_type: _Type


def _kind(call: Call) -> type[Consumer13]:
    kinds: tuple[tuple[int, type[Consumer13]], ...] = ((38, Consumer38), (34, Consumer34), (28, Consumer28))
    return next((kind for minor, kind in kinds if wire.at_least(call, minor)), Consumer13)


def read_one(call: Call, consumer_id: str) -> Wanted:
    """The body of a PUT. Raises BadRequest."""
    if not wire.at_least(call, 12):
        listed = wire.body(call, Consumer8 if wire.at_least(call, 8) else Consumer0)
        project_id, user_id = (listed.project_id, listed.user_id) if isinstance(listed, Consumer8) else (NOBODY, NOBODY)
        return Wanted(
            consumer_id,
            {
                wire.uuid(each.resource_provider.uuid, "resource_provider"): each.resources
                for each in listed.allocations
            },
            project_id,
            user_id,
        )
    body = wire.body(call, _kind(call))
    if not body.allocations and not wire.at_least(call, 28):
        raise errors.BadRequest("JSON does not validate: {} does not have enough properties - at `$.allocations`")
    return _lift(consumer_id, body)


def read_many(call: Call) -> list[Wanted]:
    """The body of a POST. Raises BadRequest."""
    kind: Any = dict[_Id, _kind(call)]  # type: ignore[misc]
    body: dict[str, Any] = wire.body(call, kind)
    if not body:
        raise errors.BadRequest("JSON does not validate: {} does not have enough properties")
    return [_lift(wire.uuid(consumer_id, "consumer"), each) for consumer_id, each in body.items()]


def _lift(consumer_id: str, body: Consumer13) -> Wanted:
    for group in getattr(body, "mappings", None) or {}:
        for each in body.mappings[group]:  # type: ignore[attr-defined]
            wire.uuid(each, "mappings")
    return Wanted(
        consumer_id,
        {provider_id.lower(): each.resources for provider_id, each in body.allocations.items()},
        body.project_id,
        body.user_id,
        consumer_type=getattr(body, "consumer_type", msgspec.UNSET),
        generation=getattr(body, "consumer_generation", msgspec.UNSET),
    )


def read_reshape(call: Call) -> tuple[dict[str, Inventories], list[Wanted]]:
    """The body of a reshape: provider id → its inventories, and what consumers are to have. Raises BadRequest."""
    kind: Any = msgspec.defstruct(
        "Reshape",
        [
            ("inventories", Annotated[dict[_Id, AllInventories], msgspec.Meta(min_length=1)]),
            ("allocations", dict[_Id, _kind(call)]),  # type: ignore[misc]
        ],
        forbid_unknown_fields=True,
    )
    body: Any = wire.body(call, kind)
    inventories = {
        wire.uuid(provider_id, "inventories"): Inventories(
            each.resource_provider_generation,
            {name: record.inventory() for name, record in each.inventories.items()},
        )
        for provider_id, each in body.inventories.items()
    }
    wanted = [_lift(wire.uuid(consumer_id, "consumer"), each) for consumer_id, each in body.allocations.items()]
    return inventories, wanted
