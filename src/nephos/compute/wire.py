"""What the compute API's nouns share: its microversions, links, pages, and the value types of its request bodies.

Nova takes numbers and booleans as JSON values or as text, so the types here do; functions turn them into one form and
raise BadRequest naming the field. Sources: Nova's API reference and microversion history, 2.1 to 2.104.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.http.call import Call
from nephos.kernel.http.query import Page
from nephos.kernel.http.versions import Microversions, Version

MICROVERSIONS = Microversions("compute", Version(2, 1), Version(2, 104), "X-OpenStack-Nova-API-Version")
PREFIX = "/compute"
ROOT = "/compute/v2.1"
MOST = 2**31 - 1

UUID = r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"
Uuid = Annotated[str, Meta(pattern=UUID)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
"""A name as it came; `name` below checks its characters."""
Tag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]*$")]
Whole = int | Annotated[str, Meta(pattern=r"^-?[0-9]+$", max_length=19)]
Truth = (
    bool
    | Literal["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"]
    | Literal["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"]
)
MetadataKey = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9\-_:. ]{1,255}$")]
Metadata = dict[MetadataKey, Annotated[str, Meta(max_length=255)]]
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body in which a key that the API does not know is refused."""


def since(call: Call, minor: int) -> bool:
    """Whether the request speaks 2.`minor` or later."""
    return call.version.minor >= minor


def refuse_later(body: msgspec.Struct, version: Version, fields: Mapping[str, int]) -> None:
    """Raise BadRequest when `body` holds a field (attribute name → first minor version) that is younger than `version`."""
    for name, minor in fields.items():
        if version.minor < minor and getattr(body, name) is not UNSET:
            refuse(body, name)


def refuse_earlier(body: msgspec.Struct, version: Version, fields: Mapping[str, int]) -> None:
    """Raise BadRequest when `body` holds a field (attribute name → last minor version) that `version` has no more."""
    for name, minor in fields.items():
        if version.minor > minor and getattr(body, name) is not UNSET:
            refuse(body, name)


def refuse(body: msgspec.Struct, name: str) -> None:
    shown = next((f.encode_name for f in msgspec.structs.fields(body) if f.name == name), name)
    raise errors.BadRequest(
        f"Invalid input: Additional properties are not allowed ('{shown}' was unexpected in this microversion)."
    )


def text(value: str | None, default: str = "") -> str:
    return default if value is None else value


def truth(value: bool | str) -> bool:
    return value if isinstance(value, bool) else value.lower() in _TRUE


def whole(value: int | str, field: str, *, least: int = 0, most: int = MOST) -> int:
    """Raises BadRequest unless `value` is a whole number between `least` and `most`."""
    number = int(value)
    if not least <= number <= most:
        raise errors.BadRequest(
            f"Invalid input for field/attribute {field}. Value: {value}. It must be from {least} to {most}."
        )
    return number


def name(value: str, field: str = "name") -> str:
    """A name of printable characters without space at its ends. Raises BadRequest naming the field."""
    if not value or len(value) > 255 or value != value.strip() or not printable(value):
        raise errors.BadRequest(
            f"Invalid input for field/attribute {field}. Value: {value!r}. It must be 1 to 255 printable characters and "
            "can not start or end with whitespace."
        )
    return value


def description(value: str | None, *, most: int = 255) -> str | None:
    if value is not None and (len(value) > most or not printable(value)):
        raise errors.BadRequest(
            f"Invalid input for field/attribute description: it must be at most {most} printable characters."
        )
    return value


def printable(value: str) -> bool:
    for char in value:
        category = unicodedata.category(char)
        if category[0] == "C" or (category[0] == "Z" and category != "Zs"):
            return False
    return True


def address(value: str, field: str, version: int | None = None) -> str:
    """An IP address as text. Raises BadRequest naming the field."""
    try:
        parsed = ip_address(value)
    except ValueError:
        parsed = None
    if parsed is None or (version is not None and parsed.version != version):
        kind = f"IPv{version}" if version else "IP"
        raise errors.BadRequest(
            f"Invalid input for field/attribute {field}. Value: {value}. It is not an {kind} address."
        )
    return str(parsed)


def is_uuid(value: str) -> bool:
    plain = value.replace("-", "")
    return len(plain) == 32 and all(char in "0123456789abcdefABCDEF" for char in plain)


def links(call: Call, collection: str, identifier: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{call.host_url}{ROOT}/{collection}/{identifier}"},
        {"rel": "bookmark", "href": f"{call.host_url}{PREFIX}/{collection}/{identifier}"},
    ]


def bookmark(call: Call, collection: str, identifier: str) -> list[dict[str, str]]:
    return [{"rel": "bookmark", "href": f"{call.host_url}{PREFIX}/{collection}/{identifier}"}]


def next_links(call: Call, path: str, identifiers: Sequence[str], page: Page) -> list[dict[str, str]]:
    """The link to the next page: there is one whenever this page is full, as in Nova."""
    most = call.cloud.settings.api.max_limit if page.limit is None else page.limit
    if not identifiers or len(identifiers) < most:
        return []
    return [{"rel": "next", "href": call.query.next_link(f"{call.host_url}{ROOT}/{path}", identifiers[-1])}]


def refuse_unknown(call: Call, known: Iterable[str], minor: int) -> None:
    """From 2.`minor` on a query parameter that the API does not know is refused. Raises BadRequest."""
    if since(call, minor):
        unknown = sorted(set(call.query) - set(known))
        if unknown:
            raise errors.BadRequest(
                f"Invalid input for query parameters {unknown[0]}: Additional properties are not allowed "
                f"({', '.join(map(repr, unknown))} was unexpected)."
            )


def moment(us: int | None) -> str | None:
    """2026-11-21T09:30:00Z, as most fields have it."""
    return clock.iso(us)


def fine_moment(us: int | None) -> str | None:
    """2026-11-21T09:30:00.000000, as Nova prints a moment without zone."""
    return clock.iso(us, micro=True, zone="")


def parse_moment(value: str, field: str) -> int:
    """Microseconds of an ISO 8601 moment; without a zone it is UTC. Raises BadRequest naming the field."""
    from datetime import UTC, datetime

    try:
        parsed = datetime.fromisoformat(value.strip().replace(" ", "+") if "T" in value else value.strip())
    except ValueError:
        raise errors.BadRequest(
            f"Invalid input for field/attribute {field}. Value: {value}. It is not a date-time."
        ) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp() * 1_000_000)


Json = dict[str, Any]
