"""What all of identity's bodies share: envelopes, links, names, and fields that no struct knows.

Source: Keystone API v3.14. Users, groups, projects, roles, services, endpoints and regions keep members that the API does
not define ("extra"); they are stored as they came and shown beside the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.http.call import Call

S = TypeVar("S", bound=msgspec.Struct)
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
ShortName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\S")]
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]+$")]
LooseId = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=65535)]
Tag = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^,/]*$")]
Options = dict[str, Any]
MOST_TAGS = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_EXTRA = frozenset({"links", "id"})


def member(call: Call, name: str, kind: type[S]) -> tuple[S, dict[str, Any]]:
    """The one object of the body, typed, and its members that the type does not know.

    Raises BadRequest with the path of what is wrong.
    """
    body = call.body(dict[str, Any])
    raw = body.get(name)
    if not isinstance(raw, dict):
        raise errors.BadRequest(f"Expecting to find {name} in the request: an object.")
    if len(body) > 1:
        others = ", ".join(sorted(key for key in body if key != name))
        raise errors.BadRequest(f"Invalid input: the request holds more than {name}: {others[:200]}.")
    return typed(raw, kind, name)


def typed(raw: Mapping[str, Any], kind: type[S], name: str) -> tuple[S, dict[str, Any]]:
    try:
        value = msgspec.convert(raw, kind)
    except msgspec.ValidationError as wrong:
        raise errors.BadRequest(f"Invalid input for {name}: {wrong}") from wrong
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    return value, {key: item for key, item in raw.items() if key not in known and key not in _NEVER_EXTRA}


def given(struct: msgspec.Struct) -> dict[str, Any]:
    """The members that the client sent."""
    return {key: value for key, value in msgspec.structs.asdict(struct).items() if value is not UNSET}


def something(changes: Mapping[str, Any], extra: Mapping[str, Any], name: str) -> None:
    """Raises BadRequest for an update of nothing."""
    if not changes and not extra:
        raise errors.BadRequest(f"Invalid input for {name}: nothing to change is given.")


def same_id(call: Call, name: str, key: str) -> None:
    """Raises BadRequest when the body names another id than the URL."""
    raw = call.body(dict[str, Any]).get(name)
    if isinstance(raw, dict) and "id" in raw and raw["id"] != call.params[key]:
        raise errors.BadRequest(f"Cannot change {name} ID")


def base(call: Call) -> str:
    """The address of the v3 API as the client wrote it."""
    path: str = call.environ.get("PATH_INFO", "")
    return call.host_url + ("/identity/v3" if path.startswith("/identity/") else "/v3")


def url(call: Call) -> str:
    """This request's own address, without the query."""
    path: str = call.environ.get("PATH_INFO", "")
    return call.host_url + path.encode("latin-1", "replace").decode("utf-8", "replace")


def links(call: Call, plural: str, ident: str) -> dict[str, str]:
    return {"self": f"{base(call)}/{plural}/{ident}"}


def collection(call: Call, plural: str, items: Sequence[Any], marker: str | None = None) -> dict[str, Any]:
    """A list as Keystone wraps it. `marker` is the last item of a page that was cut off."""
    here = url(call)
    body: dict[str, Any] = {
        plural: items,
        "links": {
            "next": call.query.next_link(here, marker) if marker is not None else None,
            "self": f"{here}?{call.query.text}" if call.query.text else here,
            "previous": None,
        },
    }
    if marker is not None:
        body["truncated"] = True
    return body


def moment(us: int | None) -> str | None:
    return clock.iso(us, micro=True, zone="")


def parse_moment(text: str, name: str) -> int:
    """ISO 8601, UTC unless it says otherwise, in microseconds. Raises BadRequest."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise errors.BadRequest(f"Invalid input for {name}: {text!r} is no ISO 8601 time.") from wrong
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return (found - _EPOCH) // timedelta(microseconds=1)


def merged(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Options and extra members after an update: null takes one away."""
    both = {**(old or {}), **new}
    return {key: value for key, value in both.items() if value is not None}
