"""What all nouns of the network API have in common, as Neutron's clients know it.

Lists with filters, `fields`, sorting and pages; bulk create; rules for single attributes; revisions and If-Match. A
noun says in a `Noun` what it is made of; its handlers are a few lines each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    update,
)

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth.who import SYSTEM, Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page
from nephos.network import filters, notifications, problems
from nephos.network.filters import TRUE, Filter

V = "/v2.0"
_RESERVED = frozenset({"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"})
_UNKNOWN = re.compile(r"unknown field `([^`]+)`(?: - at `\$(?:\[[^\]]*\])+`)?$")
_READ_ONLY = frozenset({"id", "project_id", "tenant_id", "created_at", "updated_at", "revision_number", "tags"})
NO_REVISIONS = frozenset({"revision_number"})
M = TypeVar("M", bound="Base")
T = TypeVar("T")

Item = dict[str, Any]
VIEWER: BindParameter[str] = bindparam("viewer", type_=Text)
"""The viewer's project in the statements of nouns: they are built once, and run with `View.bind`."""


class View:
    """Who looks. `sees_all` are those that lists are not narrowed for: admins and services."""

    __slots__ = ("_allows", "admin", "bind", "call", "cloud", "project_id", "sees_all", "who")

    def __init__(self, call: Call) -> None:
        self.call, self.who = call, call.who
        self.cloud: Cloud = call.cloud
        self.project_id: str = call.who.project_id or ""
        self.bind = {"viewer": self.project_id}
        self._allows: Callable[[str, Who, Mapping[str, Any]], bool] = self.cloud.policies.of["network"].allows
        self.admin = is_admin(self.cloud, call.who)
        self.sees_all = self.admin or "service" in call.who.roles or "advsvc" in call.who.roles

    def allowed(self, rule: str, target: Mapping[str, Any]) -> bool:
        """As `Call.allowed`, for the many small questions of a page: only of this service's rules."""
        self.call.checked = True
        return self._allows(rule, self.who, target)


class SystemView(View):
    """The cloud itself looks, and sees everything: for what is told of resources that no request shows."""

    __slots__ = ()

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.who, self.project_id = cloud, SYSTEM, ""
        self.bind = {"viewer": ""}
        self.admin = self.sees_all = True

    def allowed(self, rule: str, target: Mapping[str, Any]) -> bool:
        return True


def is_admin(cloud: Cloud, who: Who) -> bool:
    """Whether the service's own notion of an administrator (context_is_admin) holds."""
    return who.is_admin or cloud.policies.of["network"].allows("context_is_admin", who)


Loaded = Mapping[str, Any]


def _nothing(tx: Tx, rows: Sequence[Row[Any]], view: View) -> Loaded:
    return {}


def _own(row: Any) -> Mapping[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id}


@dataclass(frozen=True)
class Noun:
    """A kind of resource.

    `name` is its word in rule names, and in bodies where no other `word` is given. `select` gives all columns that
    `render` needs, `scope` narrows it to what a viewer who does not see all may see; both know the viewer as VIEWER.
    `load` reads what hangs on a page of rows in a constant number of queries.
    `columns` are the attributes that lists are filtered and sorted by, beside the standard ones that the table has;
    `filters` those that are only filtered by, or in a way of their own, and `orders` those that are only sorted by. The API
    `lacks` some of the standard ones: tags, or revisions and times ("revision_number").
    `hidden` are attributes that `get_<name>:<attribute>` guards, `guarded` those that are guarded on create and update. `read_only` are shown and
    never set, beside what lists are filtered by and the standard attributes.
    """

    name: str
    plural: str
    title: str
    table: Table
    select: Select[Any]
    scope: ColumnElement[bool]
    render: Callable[[Any, Loaded, View], Item]
    columns: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    filters: Mapping[str, Filter | ColumnElement[Any]] = field(default_factory=dict)
    orders: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    load: Callable[[Tx, Sequence[Row[Any]], View], Loaded] = _nothing
    target: Callable[[Any], Mapping[str, Any]] = _own
    hidden: tuple[str, ...] = ()
    guarded: frozenset[str] = frozenset()
    word: str = ""
    read_only: frozenset[str] = frozenset()

    @property
    def missing(self) -> str:
        return "".join(word[:1].upper() + word[1:] for word in self.title.split()) + "NotFound"

    @cached_property
    def clauses(self) -> Mapping[str, Filter]:
        """All that lists are filtered by."""
        more = {
            name: filters.of(one) if isinstance(one, ColumnElement) else one
            for name, one in {**self.columns, **self.filters}.items()
        }
        return {**filters.standard_filters(self.table, self.lacks), **more}

    @cached_property
    def sorts(self) -> Mapping[str, ColumnElement[Any]]:
        """All that lists are sorted by."""
        return {**filters.standard_sorts(self.table), **self.columns, **self.orders}

    @cached_property
    def hidden_rules(self) -> tuple[tuple[str, str], ...]:
        """Each hidden attribute with its rule."""
        return tuple((name, f"get_{self.name}:{name}") for name in self.hidden)

    @cached_property
    def narrowed(self) -> Select[Any]:
        return self.select.where(self.scope)

    @cached_property
    def ordered(self) -> tuple[Select[Any], Select[Any]]:
        """Everything by id: for who sees all, and for who does not."""
        return self.select.order_by(self.table.c.id), self.narrowed.order_by(self.table.c.id)

    @cached_property
    def one(self) -> Select[Any]:
        return self.select.where(self.table.c.id == bindparam("key"))

    @cached_property
    def some(self) -> Select[Any]:
        return self.select.where(self.table.c.id.in_(bindparam("keys", expanding=True)))


# --- reading ---------------------------------------------------------------------------------------------------------


def index(call: Call, noun: Noun, view: View | None = None) -> Reply:
    """GET of a collection."""
    view = view or View(call)
    call.allowed(f"get_{noun.name}")
    fields = frozenset(call.query.many("fields")) - {""}
    page = _page(call, noun)
    with view.cloud.database.read() as tx:
        rows = _rows(tx, call, noun, view, page)
        loaded = noun.load(tx, rows, view) if rows else {}
    if page.reverse:
        rows = list(reversed(rows))
    items, rule = [], f"get_{noun.name}"
    for row in rows:
        target = noun.target(row)
        if view.allowed(rule, target):
            items.append(shown(noun, row, loaded, view, fields, target))
    body: dict[str, Any] = {noun.plural: items}
    if page.limit:
        body[f"{noun.plural}_links"] = _links(call, page, [row.id for row in rows])
    return Reply(body)


def _rows(tx: Tx, call: Call, noun: Noun, view: View, page: Page) -> Sequence[Row[Any]]:
    clauses = list(_clauses(call, noun, view))
    plain = page.limit is None and page.marker is None and not page.reverse and not page.sorts
    if plain and not clauses:
        return tx.all(noun.ordered[0 if view.sees_all else 1], view.bind)
    statement = narrowed(noun, view).where(*clauses)
    if plain:
        return tx.all(statement.order_by(noun.table.c.id), view.bind)
    found = paginate(
        tx, statement, page, noun.sorts, key=noun.table.c.id, missing="MarkerNotFound", parameters=view.bind
    )
    return tx.all(found, view.bind)


def narrowed(noun: Noun, view: View) -> Select[Any]:
    """The noun's rows that the viewer may see; to be run with `view.bind`."""
    return noun.select if view.sees_all else noun.narrowed


def show(call: Call, noun: Noun, key: str, view: View | None = None) -> Reply:
    """GET of one."""
    view = view or View(call)
    with view.cloud.database.read() as tx:
        row = fetch(tx, noun, view, key)
        loaded = noun.load(tx, [row], view)
    return Reply({noun.word or noun.name: shown(noun, row, loaded, view, frozenset(call.query.many("fields")) - {""})})


def readers(noun: Noun) -> tuple[Callable[[Call], Reply], Callable[[Call], Reply]]:
    """The handlers of GET of the collection, and of one by the URL's `id`."""
    return lambda call: index(call, noun), lambda call: show(call, noun, call.params["id"])


def fetch(tx: Tx, noun: Noun, view: View, key: str, rule: str | None = None) -> Any:
    """The row, if the viewer may see it and `rule` allows. Raises NotFound, Forbidden."""
    row = tx.first(noun.one, {**view.bind, "key": key})
    if row is None:
        view.call.allowed(f"get_{noun.name}")
        raise problems.missing(noun.title, key, noun.missing)
    target = noun.target(row)
    if rule is not None and view.call.allowed(rule, target):
        return row
    if not view.call.allowed(f"get_{noun.name}", target):
        raise problems.missing(noun.title, key, noun.missing)
    if rule is not None:
        view.call.permit(target, rule=rule)
    return row


def reply(tx: Tx, noun: Noun, view: View, keys: Sequence[str]) -> list[Item]:
    """Rows just written, in the order of their keys, as the API shows them."""
    if len(keys) == 1:
        found = tx.all(noun.one, {**view.bind, "key": keys[0]})
    else:
        found = tx.all(noun.some, {**view.bind, "keys": list(keys)})
    rows = {row.id: row for row in found}
    ordered = [rows[key] for key in keys]
    loaded = noun.load(tx, ordered, view)
    return [shown(noun, row, loaded, view, frozenset()) for row in ordered]


def shown(
    noun: Noun, row: Any, loaded: Loaded, view: View, fields: frozenset[str], target: Mapping[str, Any] | None = None
) -> Item:
    """One resource without what the viewer may not see, cut to `fields` when there are any. `target` is the row's."""
    item = noun.render(row, loaded, view)
    if noun.hidden:
        target = noun.target(row) if target is None else target
        for name, rule in noun.hidden_rules:
            if name in item and not view.allowed(rule, target):
                del item[name]
    if fields:
        return {name: value for name, value in item.items() if name in fields}
    return item


def _page(call: Call, noun: Noun) -> Page:
    """Neutron's paging. Raises BadRequest for an unknown sort key or direction, or a bad limit."""
    query = call.query
    directions, sorts = query.many("sort_dir"), []
    keys = query.many("sort_key")
    if directions and len(directions) != len(keys):
        raise problems.bad("The number of sort_keys and sort_dirs must be same", "HTTPBadRequest")
    for position, name in enumerate(keys):
        given = directions[position] if position < len(directions) else "asc"
        if given not in ("asc", "desc"):
            raise problems.bad(
                f"'{given}' is invalid value for sort_dirs, valid value is 'asc' and 'desc'", "HTTPBadRequest"
            )
        if name not in noun.sorts:
            raise problems.bad(f"['{name}'] is invalid attribute for sort_keys", "HTTPBadRequest")
        sorts.append((name, given == "desc"))
    limit = None
    if "limit" in query:
        try:
            limit = int(query.one("limit") or "")
        except ValueError:
            limit = -1
        if limit < 0 or limit > 1 << 53:
            raise problems.bad("Bad limit value. It must be a whole number from 0.", "HTTPBadRequest")
        limit = min(limit, call.cloud.settings.api.max_limit) or None
    reverse = (query.one("page_reverse") or "").lower() in TRUE
    return Page(limit, query.one("marker") or None, tuple(sorts), reverse)


def check_query(call: Call, noun: Noun) -> None:
    """For what writes before it lists. Raises BadRequest for what `index` would refuse."""
    view = View(call)
    _page(call, noun)
    list(_clauses(call, noun, view))


def _clauses(call: Call, noun: Noun, view: View) -> Iterable[ColumnElement[bool]]:
    unknown = [name for name in call.query if name not in noun.clauses and name not in _RESERVED]
    if unknown:
        raise problems.bad(
            f"[{', '.join(repr(name) for name in unknown)}] is invalid attribute for filtering", "HTTPBadRequest"
        )
    for name, values in call.query.items():
        if name not in _RESERVED:
            yield noun.clauses[name](values, view)


def _links(call: Call, page: Page, ids: list[str]) -> list[dict[str, str]]:
    """The ways on and back. From an empty page behind the end the way back is the last page, which no marker names."""
    url = call.host_url + call.environ.get("PATH_INFO", "")
    others = call.query.without("marker", "page_reverse")
    links = []
    full = len(ids) >= (page.limit or 0)
    if full or page.reverse:
        links.append({"rel": "next", "href": _link(url, [*others, *(("marker", each) for each in ids[-1:])])})
    if full or not page.reverse:
        back = [*others, *(("marker", each) for each in ids[:1]), ("page_reverse", "True")]
        links.append({"rel": "previous", "href": _link(url, back)})
    return links


def _link(url: str, pairs: list[tuple[str, str]]) -> str:
    return url + "?" + urlencode(pairs, quote_via=quote)


def standard(row: Any) -> Item:
    """The attributes that every noun ends with."""
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "description": row.description,
        "tags": row.tags or [],
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision,
    }


# --- writing ---------------------------------------------------------------------------------------------------------


class Base(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of what requests hold."""


class Owned(Base, kw_only=True):
    """Base of what a create takes: whose it will be."""

    project_id: str | UnsetType = UNSET
    tenant_id: str | UnsetType = UNSET


class Body(Generic[M]):
    """Reads `{"noun": {...}}` or, on create, `{"nouns": [{...}, …]}` and `{"nouns": [{"noun": {...}}, …]}`, in the lax
    way that Neutron takes values ("true" and 1 are booleans, "7" a number)."""

    def __init__(self, noun: Noun, model: type[M], *, bulk: bool = False) -> None:
        self.noun, self.model = noun, model
        self.names = {part.encode_name for part in msgspec.structs.fields(model)}
        self.attributes = [(part.encode_name, part.name, part.default) for part in msgspec.structs.fields(model)]
        self._one = msgspec.json.Decoder(dict[str, model], strict=False)  # type: ignore[valid-type]
        many: Any = dict[str, list[model]] if bulk else None  # type: ignore[valid-type]
        self._many = msgspec.json.Decoder(many, strict=False) if bulk else None
        wrapped: Any = dict[str, list[dict[str, model]]]  # type: ignore[valid-type]
        self._wrapped = msgspec.json.Decoder(wrapped, strict=False)
        self._is_wrapped = re.compile(rb'\s*\{[^:]*:\s*\[\s*\{\s*"%s"\s*:\s*\{' % (noun.word or noun.name).encode())

    def one(self, call: Call) -> M:
        """Raises BadRequest saying which attribute is wrong."""
        raw = raw_body(call)
        found: dict[str, M] = self._decode(self._one, raw, creating=False)
        return self._only(found, self.noun.word or self.noun.name)

    def all(self, call: Call) -> tuple[list[M], bool]:
        """The resources to make and whether they came as a list."""
        raw = raw_body(call)
        if self._many is not None and _first_key(raw) == self.noun.plural:
            if self._is_wrapped.match(raw):
                inner: dict[str, list[dict[str, M]]] = self._decode(self._wrapped, raw, creating=True)
                word = self.noun.word or self.noun.name
                models = [self._only(each, word) for each in self._only(inner, self.noun.plural)]
            else:
                found: dict[str, list[M]] = self._decode(self._many, raw, creating=True)
                models = self._only(found, self.noun.plural)
            if not models:
                raise problems.bad("Resources required", "HTTPBadRequest")
            return models, True
        single: dict[str, M] = self._decode(self._one, raw, creating=True)
        return [self._only(single, self.noun.word or self.noun.name)], False

    def _only(self, found: Mapping[str, T], key: str) -> T:
        if len(found) != 1 or key not in found:
            raise problems.bad(f"Unable to find '{key}' in request body", "HTTPBadRequest")
        return found[key]

    def _decode(self, decoder: msgspec.json.Decoder[Any], raw: bytes, *, creating: bool) -> Any:
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as wrong:
            unknown = _UNKNOWN.search(str(wrong))
            if unknown is None:
                raise problems.bad(f"Invalid input: {wrong}", "HTTPBadRequest") from wrong
            name = unknown[1]
            if name in _READ_ONLY - self.noun.lacks or name in self.noun.read_only or name in self.noun.clauses:
                words = (
                    f"Attribute '{name}' not allowed in POST"
                    if creating
                    else f"Cannot update read-only attribute {name}"
                )
                raise problems.bad(words, "HTTPBadRequest") from wrong
            raise problems.bad(f"Unrecognized attribute(s) '{name}'", "HTTPBadRequest") from wrong
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise problems.bad(f"The request body is not valid JSON: {wrong}", "HTTPBadRequest") from wrong

    def given(self, model: M) -> dict[str, Any]:
        """Attribute name → value, of those that the request set to something other than the default."""
        found = {}
        for wire, name, default in self.attributes:
            value = getattr(model, name)
            if value is not UNSET and (default is msgspec.NODEFAULT or value != default):
                found[wire] = value
        return found

    def enforce(self, view: View, model: M, target: Mapping[str, Any], verb: str) -> None:
        """Check the rules of single attributes: `create_network:shared`, `create_port:fixed_ips:ip_address`.

        Raises Forbidden naming the rule.
        """
        guarded = self.noun.guarded
        for wire, value in self.given(model).items():
            if wire not in guarded:
                continue
            rule = f"{verb}_{self.noun.name}:{wire}"
            policies = view.cloud.policies
            whole = {**target, wire: value} if isinstance(value, str | bool) else target
            if rule in policies:
                view.call.permit(whole, rule=rule)
            parts = value if isinstance(value, list) else [value]
            for part in parts:
                if isinstance(part, msgspec.Struct):
                    for name in part.__struct_fields__:
                        inner = f"{rule}:{name}"
                        if getattr(part, name) is not UNSET and inner in policies:
                            view.call.permit(target, rule=inner)


def raw_body(call: Call) -> bytes:
    """Raises BadRequest for null characters, which no text of the API may hold."""
    raw = call.raw
    if b"\\u0000" in raw or b"\x00" in raw:
        raise problems.bad("The body holds a null character.", "HTTPBadRequest")
    return raw


def _first_key(raw: bytes) -> str:
    match = re.match(rb'\s*\{\s*"([^"\\]{1,64})"', raw)
    return match[1].decode(errors="replace") if match else ""


def owner(view: View, model: Owned) -> str:
    """Whose the new resource will be. Raises BadRequest: only an administrator makes things for others."""
    given = {value for value in (model.project_id, model.tenant_id) if isinstance(value, str)}
    if len(given) > 1:
        raise problems.bad("'project_id' and 'tenant_id' do not match", "HTTPBadRequest")
    wanted = given.pop() if given else view.who.project_id
    if wanted is None:
        raise problems.bad("Running without a project: 'project_id' is required", "HTTPBadRequest")
    if len(wanted) > 255:
        raise problems.invalid("project_id", "it is longer than 255 characters")
    if wanted != view.who.project_id and not view.sees_all:
        raise problems.bad(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin "
            "privileges",
            "HTTPBadRequest",
        )
    return wanted


def make(call: Call, noun: Noun, body: Body[M], work: Callable[[Tx, View, M], str], view: View | None = None) -> Reply:
    """POST: one resource or many, all or none. `work` checks, writes and answers the new id."""
    view = view or View(call)
    models, bulk = body.all(call)

    def all_of_them(tx: Tx) -> dict[str, Any]:
        keys = [work(tx, view, model) for model in models]
        items = reply(tx, noun, view, keys)
        shown: dict[str, Any] = {noun.plural: items} if bulk else {noun.word or noun.name: items[0]}
        notifications.created(tx, noun.name, call.raw, shown, keys)
        return shown

    return Reply(view.cloud.database.write(all_of_them), 201)


def change(
    call: Call, noun: Noun, key: str, body: Body[M], work: Callable[[Tx, View, Any, M], None], view: View | None = None
) -> Reply:
    """PUT: `work` gets the row, already permitted by the noun's update rule and by those of the attributes set."""
    view = view or View(call)
    model = body.one(call)

    def one(tx: Tx) -> dict[str, Any]:
        row = fetch(tx, noun, view, key, f"update_{noun.name}")
        if_match(call, noun, row)
        body.enforce(view, model, noun.target(row), "update")
        work(tx, view, row, model)
        shown = {noun.word or noun.name: reply(tx, noun, view, [key])[0]}
        notifications.updated(tx, noun.name, call.raw, shown, key)
        return shown

    return Reply(view.cloud.database.write(one))


def remove(call: Call, noun: Noun, key: str, work: Callable[[Tx, View, Any], None], view: View | None = None) -> Reply:
    """DELETE: `work` gets the row, already permitted."""
    view = view or View(call)

    def one(tx: Tx) -> None:
        row = fetch(tx, noun, view, key, f"delete_{noun.name}")
        if_match(call, noun, row)
        was = {noun.word or noun.name: reply(tx, noun, view, [key])[0]} if tx.outbox is not None else {}
        work(tx, view, row)
        notifications.deleted(tx, noun.name, was, key)

    view.cloud.database.write(one)
    return Reply(status=204)


def if_match(call: Call, noun: Noun, row: Any) -> None:
    """The revision-if-match extension. Raises PreconditionFailed, BadRequest for another form."""
    wanted = call.header("If-Match")
    if wanted is None:
        return
    form = re.fullmatch(r'\s*"?revision_number=(\d{1,18})"?\s*', wanted)
    if form is None:
        raise problems.bad("Invalid value for If-Match header: it must be revision_number=N", "HTTPBadRequest")
    if int(form[1]) != row.revision:
        raise errors.PreconditionFailed(
            f"Constrained to {form[1]}, but current revision is {row.revision}",
            code="RevisionNumberConstraintFailed",
        )


def revise(tx: Tx, table: Table, key: str, values: Mapping[str, Any] | None = None) -> None:
    """Set columns; the resource is of a new revision."""
    tx.execute(
        update(table)
        .where(table.c.id == bindparam("key"))
        .values(revision=table.c.revision + 1, updated_at=tx.now, **(values or {})),
        {"key": key},
    )


def given(value: T | UnsetType | None) -> T | None:
    """The value of an attribute, None when the request did not set it."""
    return None if isinstance(value, UnsetType) else value


def settings_of(model: msgspec.Struct, **columns: str) -> dict[str, Any]:
    """Column → value of the fields that the request set; `columns` name those whose column is called otherwise."""
    found: dict[str, Any] = {}
    for name in model.__struct_fields__:
        value = getattr(model, name)
        if value is not UNSET:
            found[columns.get(name, name)] = value
    return found
