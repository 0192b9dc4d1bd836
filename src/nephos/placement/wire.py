"""What all nouns of the placement API share on the wire."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.versions import Version

T = TypeVar("T")
CONCURRENT_UPDATE = "placement.concurrent_update"
DUPLICATE_NAME = "placement.duplicate_name"
INVENTORY_IN_USE = "placement.inventory.inuse"
PROVIDER_IN_USE = "placement.resource_provider.inuse"
HAS_CHILDREN = "placement.resource_provider.cannot_delete_parent"
BAD_VALUE = "placement.query.bad_value"
MISSING_VALUE = "placement.query.missing_value"
DUPLICATE_KEY = "placement.query.duplicate_key"

PREFIX = "/placement"
CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+", re.ASCII)
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
ClassName = Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9_]+\Z", max_length=255)]
MOST = 2147483647
_DASHED = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def is_uuid(text: str) -> bool:
    """With hyphens or without, as oslo.utils takes them."""
    return bool(_DASHED.fullmatch(text) or re.fullmatch(r"[0-9a-fA-F]{32}", text, re.ASCII))


def uuid(text: str, what: str) -> str:
    """With hyphens, in lower case. Raises BadRequest."""
    if not is_uuid(text):
        raise errors.BadRequest(f"JSON does not validate: {what}: {text!r} is not a 'uuid'. Failed validating 'format'")
    return str(UUID(text))


def at_least(call: Call, minor: int) -> bool:
    return call.version >= Version(1, minor)


def check_media(call: Call) -> None:
    """Raises UnsupportedMedia for a body that is no JSON, BadRequest for one that does not say what it is."""
    media = call.environ.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
    if not media and call.environ.get("CONTENT_LENGTH") not in (None, "", "0"):
        raise errors.BadRequest("content-type header required when content-length > 0")
    if media != "application/json":
        raise errors.UnsupportedMedia(f"The media type {media or 'None'} is not supported, use application/json")


def body(call: Call, kind: type[T]) -> T:
    """The request's body. Raises UnsupportedMedia, and BadRequest with what is wrong and where."""
    check_media(call)
    raw = call.raw
    if b"\\u0000" in raw or b"\x00" in raw:
        raise errors.BadRequest("Malformed JSON: it holds a null character.")
    try:
        plain = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise errors.BadRequest(f"Malformed JSON: {wrong}") from wrong
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as wrong:
        raise errors.BadRequest(f"JSON does not validate: {_in_schema_words(str(wrong), plain)}") from wrong


_WORDS = (
    (
        r"Object contains unknown field `(.*?)`",
        "additionalProperties",
        r"Additional properties are not allowed ('\1' was unexpected)",
    ),
    (r"Object missing required field `(.*?)`", "required", r"'\1' is a required property"),
    (r"Expected `\w+` of length <= \d+", "maxLength", "{} is too long"),
    (r"Expected `str` of length >= \d+", "minLength", "{} is too short"),
    (r"Expected `object` of length >= \d+", "minProperties", "{} does not have enough properties"),
    (r"Expected `array` of length >= \d+", "minItems", "{} is too short"),
    (r"Expected `str` matching regex '(.*?)'(?= - at|$)", "pattern", "{} does not match '\\1'"),
    (r"Expected `(?:int|float)` >= (\S+)", "minimum", r"{} is less than the minimum of \1"),
    (r"Expected `(?:int|float)` <= (\S+)", "maximum", r"{} is greater than the maximum of \1"),
    (r"Expected `(\w+)[^`]*`, got `\w+`", "type", r"{} is not of type '\1'"),
)
_TYPES = {"'int'": "'integer'", "'str'": "'string'"}


def _in_schema_words(wrong: str, plain: Any) -> str:
    """What is wrong, in the words of JSON schema, which clients of Placement know, and with the value."""
    key = wrong.partition(" - at `key` in ")[2]
    if key:
        return f"a key of {key} does not match any of the regexes: {wrong}"
    for pattern, rule, words in _WORDS:
        found = re.match(pattern, wrong)
        if found:
            shown = found.expand(words).replace("{}", _value(plain, wrong))
            for ours, theirs in _TYPES.items():
                shown = shown.replace(f"of type {ours}", f"of type {theirs}")
            return f"{shown}{wrong[found.end() :]}. Failed validating '{rule}' in schema"
    return wrong


def _value(plain: Any, wrong: str) -> str:
    """The value at the path that a message ends with; where the path leaves out a key, what it would be called."""
    path = wrong.rpartition(" - at `$")[2].rstrip("`") if " - at `$" in wrong else ""
    for name, at in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path):
        if name and isinstance(plain, dict) and name in plain:
            plain = plain[name]
        elif at.isdigit() and isinstance(plain, list) and int(at) < len(plain):
            plain = plain[int(at)]
        elif at == "..." and isinstance(plain, dict) and len(plain) == 1:
            plain = next(iter(plain.values()))
        else:
            return "a value"
    return repr(plain)[:200]


def accepts(call: Call) -> None:
    """Raises NotAcceptable when the client wants no JSON."""
    wanted = call.header("Accept")
    if not wanted:
        return
    kinds = {part.split(";")[0].strip().lower() for part in wanted.split(",")}
    if not kinds & {"application/json", "application/*", "*/*"}:
        raise errors.NotAcceptable("Only application/json is provided")


def query_names(call: Call, allowed: set[str], pattern: re.Pattern[str] | None = None) -> None:
    """Raises BadRequest for a parameter that this version does not know."""
    for name in call.query:
        if name not in allowed and not (pattern and pattern.fullmatch(name)):
            why = (
                f"'{name}' does not match any of the regexes: '^{pattern.pattern}$'"
                if pattern
                else f"Additional properties are not allowed ('{name}' was unexpected)"
            )
            raise errors.BadRequest(f"Invalid query string parameters: {why}")


def dated(call: Call, reply: Reply, modified: int | None = None) -> Reply:
    """From 1.15 on answers tell when they last changed, and that they are not to be cached. Microseconds."""
    if at_least(call, 15):
        seconds = (clock.now_us() if modified is None else modified) // 1_000_000
        reply.headers = {
            **reply.headers,
            "Last-Modified": formatdate(seconds, usegmt=True),
            "Cache-Control": "no-cache",
        }
    return reply


def located(call: Call, path: str) -> dict[str, str]:
    return {"Location": call.host_url + PREFIX + path}


def link(path: str, rel: str = "self") -> dict[str, Any]:
    return {"rel": rel, "href": PREFIX + path}
