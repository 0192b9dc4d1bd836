"""Find what could be allocated: a pure function over all providers.

A candidate has an *anchor*, the root of the tree that it takes resources from. To a tree belong its own providers and
those that share with any of them: providers with the trait MISC_SHARES_VIA_AGGREGATE in one of their aggregates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from nephos.placement.candidates.wire import Request
from nephos.placement.providers.actions import Provider
from nephos.placement.query import Wanted, has_room

SHARES = "MISC_SHARES_VIA_AGGREGATE"
Providers = Mapping[str, Provider]


class Candidate(NamedTuple):
    """(provider id, resource class) → amount, and group suffix → ids of the providers that satisfy it."""

    amounts: dict[tuple[str, str], int]
    mappings: dict[str, list[str]]

    def key(self) -> tuple[object, ...]:
        groups = tuple(sorted((suffix, tuple(sorted(ids))) for suffix, ids in self.mappings.items()))
        return (frozenset(self.amounts.items()), groups)


class Part(NamedTuple):
    """What satisfies one group: resource class → provider id; the ids of all providers in it."""

    takes: dict[str, str]
    ids: frozenset[str]


class Trees:
    """The providers of each tree, those that share with it included."""

    def __init__(self, known: Providers) -> None:
        self.known = known
        self.own: dict[str, list[Provider]] = {}
        for provider in known.values():
            self.own.setdefault(provider.root_id, []).append(provider)
        self.sharing = [each for each in known.values() if SHARES in each.traits]
        self._aggregates = {
            root: set().union(*(each.aggregates for each in providers)) for root, providers in self.own.items()
        }

    def shared(self, root: str) -> list[Provider]:
        """Who shares with a tree and is not of it."""
        return [each for each in self.sharing if each.root_id != root and each.aggregates & self._aggregates[root]]


def search(known: Providers, request: Request, *, nested: bool) -> list[Candidate]:
    """Every candidate once, up to the request's limit. Without `nested` those that take from more than one provider of
    a tree are left out."""
    trees = Trees(known)
    found: dict[object, Candidate] = {}
    for root in trees.own:
        anchor = known.get(root)
        if anchor is None or not request.root_required <= anchor.traits or request.root_forbidden & anchor.traits:
            continue
        for candidate in _of_anchor(trees, root, request):
            if nested or _one_a_tree(known, candidate):
                found.setdefault(candidate.key(), candidate)
            if request.limit is not None and len(found) == request.limit:
                return list(found.values())
    return list(found.values())


def _of_anchor(trees: Trees, root: str, request: Request) -> Iterator[Candidate]:
    parts: dict[str, list[Part]] = {}
    for suffix, group in request.groups.items():
        parts[suffix] = list(_same_provider(trees, root, group) if suffix else _spread(trees, root, group))
        if not parts[suffix]:
            return
    suffixes = list(parts)
    for choice in product(*parts.values()):
        chosen = dict(zip(suffixes, choice, strict=True))
        if request.isolate and not _isolated(chosen):
            continue
        if not all(_one_subtree(trees.known, chosen, each) for each in request.same_subtrees):
            continue
        amounts: dict[tuple[str, str], int] = {}
        for suffix, part in chosen.items():
            for name, provider_id in part.takes.items():
                key = (provider_id, name)
                amounts[key] = amounts.get(key, 0) + request.groups[suffix].resources[name]
        if all(_fits(trees.known[provider_id], name, amount) for (provider_id, name), amount in amounts.items()):
            yield Candidate(amounts, {suffix: sorted(part.ids) for suffix, part in chosen.items()})


def _same_provider(trees: Trees, root: str, group: Wanted) -> Iterator[Part]:
    """One provider that has everything a group asks for."""
    for provider in (*trees.own[root], *trees.shared(root)):
        if (
            group.fits_resources(provider)
            and group.fits_traits(provider.traits)
            and group.fits_aggregates(provider.aggregates)
            and _in_tree(trees.known, provider, group)
        ):
            yield Part(dict.fromkeys(group.resources, provider.id), frozenset((provider.id,)))


def _spread(trees: Trees, root: str, group: Wanted) -> Iterator[Part]:
    """Providers of a tree that have everything together, one for each resource class."""
    spread = (*trees.own[root], *trees.shared(root))
    choices: list[list[Provider]] = []
    for name, amount in group.resources.items():
        able = [
            each
            for each in spread
            if has_room(each, name, amount)
            and not group.forbidden & each.traits
            and _member(trees.known, each, group)
            and _in_tree(trees.known, each, group)
        ]
        if not able:
            return
        choices.append(able)
    for choice in product(*choices):
        have = set().union(*(each.traits for each in choice))
        if all(each & have for each in group.required):
            takes = {name: each.id for name, each in zip(group.resources, choice, strict=True)}
            yield Part(takes, frozenset(takes.values()))


def _member(known: Providers, provider: Provider, group: Wanted) -> bool:
    """An aggregate of a root spans its whole tree, but not those that share with it."""
    root = known.get(provider.root_id, provider).aggregates
    mine = provider.aggregates
    wanted = group.member_of
    return (all(each & mine for each in wanted) or all(each & root for each in wanted)) and not (
        group.forbidden_aggregates & (mine | root)
    )


def _in_tree(known: Providers, provider: Provider, group: Wanted) -> bool:
    if group.in_tree is None:
        return True
    asked = known.get(group.in_tree)
    return asked is not None and asked.root_id == provider.root_id


def _fits(provider: Provider, name: str, amount: int) -> bool:
    """Several groups may ask one provider for the same class: together it must be had too."""
    inventory = provider.inventories[name]
    return amount <= inventory.max_unit and provider.used.get(name, 0) + amount <= inventory.capacity


def _isolated(chosen: Mapping[str, Part]) -> bool:
    granular = [part.ids for suffix, part in chosen.items() if suffix]
    return len(frozenset().union(*granular)) == len(granular)


def _one_subtree(known: Providers, chosen: Mapping[str, Part], suffixes: Iterable[str]) -> bool:
    """Whether one of the providers of these groups is above all others."""
    ids = frozenset().union(*(chosen[suffix].ids for suffix in suffixes if suffix in chosen))
    if len(ids) < 2:
        return True
    above = [_ancestors(known, each) for each in ids]
    return any(all(each in other for other in above) for each in ids)


def _ancestors(known: Providers, provider_id: str) -> set[str]:
    found: set[str] = set()
    above: str | None = provider_id
    while above is not None and above not in found:
        found.add(above)
        above = known[above].parent_id if above in known else None
    return found


def _one_a_tree(known: Providers, candidate: Candidate) -> bool:
    ids = {provider_id for provider_id, _ in candidate.amounts}
    return len({known[each].root_id for each in ids}) == len(ids)
