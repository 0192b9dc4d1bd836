"""What providers are asked for: resources, traits, aggregates, trees, as the query strings of the API say it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call
from nephos.placement import wire
from nephos.placement.classes import actions as classes
from nephos.placement.providers.actions import Provider
from nephos.placement.traits import actions as traits


class Wanted(msgspec.Struct):
    """What one provider, or several together, must have.

    `required` is a list of sets: of each set at least one trait. `member_of` likewise, of aggregates. `in_tree` is the
    id of any provider of the tree.
    """

    resources: dict[str, int] = {}
    required: list[set[str]] = []
    forbidden: set[str] = set()
    member_of: list[set[str]] = []
    forbidden_aggregates: set[str] = set()
    in_tree: str | None = None

    def fits_aggregates(self, mine: set[str]) -> bool:
        return all(each & mine for each in self.member_of) and not self.forbidden_aggregates & mine

    def fits_traits(self, mine: set[str]) -> bool:
        return all(each & mine for each in self.required) and not self.forbidden & mine

    def fits_resources(self, provider: Provider) -> bool:
        return all(has_room(provider, name, amount) for name, amount in self.resources.items())


def has_room(provider: Provider, name: str, amount: int) -> bool:
    inventory = provider.inventories.get(name)
    return inventory is not None and inventory.refusal(amount, provider.used.get(name, 0)) is None


def resources(text: str) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:1024`. Raises BadRequest."""
    form = "Badly formed resources parameter. Expected resources query string parameter in form: ?resources=VCPU:2,MEMORY_MB:1024."
    if not text.strip():
        raise errors.BadRequest(f"{form} Got: empty string.")
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.partition(":")
        if not colon or ":" in amount:
            raise errors.BadRequest(f"{form} Got: {part}.")
        if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", amount, re.ASCII):
            raise errors.BadRequest(f"Requested resource {name} expected positive integer amount. Got: {amount}.")
        if int(amount) < 1:
            raise errors.BadRequest(f"Requested resource {name} requires amount >= 1. Got: {int(amount)}.")
        found[name] = int(amount)
    return found


def required(call: Call, suffix: str = "") -> tuple[list[set[str]], set[str]]:
    """The traits of `required`: `A,!B`, and from 1.39 on `in:A,B`, repeated. Raises BadRequest."""
    values = call.query.many("required" + suffix)
    any_of = wire.at_least(call, 39)
    found: tuple[list[set[str]], set[str]] = ([], set())
    for value in values if any_of else values[-1:]:
        one, other = _traits(value, forbidden=wire.at_least(call, 22), any_of=any_of)
        found[0].extend(one)
        found[1].update(other)
    return found


def _traits(value: str, *, forbidden: bool, any_of: bool) -> tuple[list[set[str]], set[str]]:
    begin = "Invalid query string parameters: "
    if value.startswith("in:"):
        names = {each.strip() for each in value[3:].split(",")}
        form = "in:HW_CPU_X86_VMX,CUSTOM_MAGIC"
        if not any_of:
            raise errors.BadRequest(f"{begin}The format '{form}' only supported since microversion 1.39. Got: {value}")
        if "" in names:
            raise errors.BadRequest(
                f"{begin}Expected 'required' parameter value of the form: {form}. Got an empty trait in: {value}"
            )
        if any(each.startswith("!") for each in names):
            raise errors.BadRequest(f"{begin}The format '{form}' does not support forbidden traits. Got: {value}")
        return [names], set()
    parts = [each.strip() for each in value.split(",")]
    form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC" if forbidden else "HW_CPU_X86_VMX,CUSTOM_MAGIC"
    if not all(each.lstrip("!") for each in parts):
        raise errors.BadRequest(
            f"{begin}Expected 'required' parameter value of the form: {form}. Got an empty trait in: {value}"
        )
    unwanted = {each.lstrip("!") for each in parts if each.startswith("!")}
    if unwanted and not forbidden:
        raise errors.BadRequest(f"{begin}Expected 'required' parameter value of the form: {form}. Got: {value}")
    return [{each} for each in parts if not each.startswith("!")], unwanted


def member_of(call: Call, suffix: str = "") -> tuple[list[set[str]], set[str]]:
    """The aggregates of `member_of`: `A`, `in:A,B`, and from 1.32 on `!A`, `!in:A,B`. Raises BadRequest."""
    values = call.query.many("member_of" + suffix)
    if len(values) > 1 and not wire.at_least(call, 24):
        raise errors.BadRequest(f"Multiple member_of{suffix} parameters are not supported")
    wanted: list[set[str]] = []
    unwanted: set[str] = set()
    for value in values:
        negative = value.startswith("!")
        text = value[1:] if negative else value
        if "," in text and not text.startswith("in:"):
            raise errors.BadRequest(
                "Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the valid "
                f"microversion. Got: {value}"
            )
        ids = text.removeprefix("in:").split(",")
        for each in ids:
            if not wire.is_uuid(each):
                raise errors.BadRequest(
                    "Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). "
                    f"Got: {each}"
                )
        if negative and not wire.at_least(call, 32):
            raise errors.BadRequest(
                f"Forbidden member_of{suffix} parameters are not supported in the specified microversion"
            )
        if negative:
            unwanted.update(ids)
        else:
            wanted.append(set(ids))
    return wanted, unwanted


def in_tree(value: str) -> str:
    """Raises BadRequest."""
    if not wire.is_uuid(value.strip()):
        raise errors.BadRequest(
            f"Invalid query string parameters: Expected 'in_tree' parameter to be a format of uuid. Got: {value}"
        )
    return value.strip()


def check_names(tx: Tx, wanted: Iterable[Wanted], also: Iterable[str] = (), *, where: str = "") -> None:
    """Raises BadRequest for resource classes and traits that do not exist."""
    wanted = list(wanted)
    wrong = classes.unknown(tx, {name for each in wanted for name in each.resources})
    if wrong:
        raise errors.BadRequest(f"Invalid resource class in resources parameter: No such resource class {wrong[0]}.")
    names = set(also)
    for each in wanted:
        names |= each.forbidden.union(*each.required)
    wrong = traits.unknown(tx, names)
    if wrong:
        raise errors.BadRequest(f"{where}No such trait(s): {', '.join(wrong)}.")
