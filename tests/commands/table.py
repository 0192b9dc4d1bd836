"""Commands as they are typed, each with what its answer must hold: a story is a list of them, typed in order.

STORY = (
    Typed("domain create site", shows={"name": "site"}, keep={"site": "id"}),
    Typed("user list --domain {site}", has={"Name": {"zoe"}}),
    Typed("domain delete nonesuch", refused="No domain with a name or ID"),
)
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from tests.cloud import RunningCloud


class Typed(NamedTuple):
    """One command. Names in braces are what earlier ones kept.

    `shows` are fields of the one thing that it shows. `has` and `lacks` are, by column, values of the list that it shows;
    with `only` the list has no other values. `says` is in its words, `refused` in those of a refusal. `keep` puts a
    field of the one thing, or of a list's first, away under a name.
    """

    words: str
    shows: Mapping[str, Any] = {}
    has: Mapping[str, set[Any]] = {}
    lacks: Mapping[str, set[Any]] = {}
    only: bool = False
    says: str = ""
    refused: str = ""
    keep: Mapping[str, str] = {}
    user: str = "admin"


def play(cloud: RunningCloud, story: Sequence[Typed], kept: dict[str, str]) -> None:
    """Type a story. Raises AssertionError that names the command."""
    for line in story:
        words = [each.format_map(kept) for each in shlex.split(line.words)]
        read = bool(line.shows or line.has or line.lacks or line.keep or line.only)
        answer = cloud.openstack(*words, *(("-f", "json") if read else ()), user=line.user, check=not line.refused)
        told = f"openstack {' '.join(words)}: {answer}"
        if line.refused:
            assert re.search(line.refused, answer), told
        assert re.search(line.says, answer), told
        if not read:
            continue
        found = json.loads(answer)
        for name, value in line.shows.items():
            wanted = value.format_map(kept) if isinstance(value, str) else value
            assert found[name] == wanted, f"{name} is not {wanted!r}: {told}"
        for name, field in line.keep.items():
            kept[name] = str((found[0] if isinstance(found, list) else found)[field])
            assert kept[name], told
        for column, values in line.has.items():
            wanted = {each.format_map(kept) if isinstance(each, str) else each for each in values}
            there = {row[column] for row in found}
            assert there == wanted if line.only else there >= wanted, f"{column} has not {wanted}: {told}"
        for column, values in line.lacks.items():
            unwanted = {each.format_map(kept) if isinstance(each, str) else each for each in values}
            assert not {row[column] for row in found} & unwanted, f"{column} has {unwanted}: {told}"
        assert not line.only or line.has or found == [], told


def commands(group: str) -> set[str]:
    """What the installed client can be told, by its entry points: `openstack.identity.v3`."""
    return {each.name.replace("_", " ") for each in entry_points(group=group)}


def command_of(line: Typed, known: set[str]) -> str:
    """The longest known command that a line types; empty when it types none."""
    words = [each for each in shlex.split(line.words) if each]
    while words and words[0].startswith("--os-"):
        words = words[2:]
    for end in range(len(words), 0, -1):
        if " ".join(words[:end]) in known:
            return " ".join(words[:end])
    return ""
