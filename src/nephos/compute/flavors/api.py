"""`/flavors`: flavors, their extra specs and who may use the private ones."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from sqlalchemy import select

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.flavors import actions, specs, store, wire
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page, page
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version

_SEE_ALL = "os_compute_api:os-flavor-access"
_SEE_SPECS = "os_compute_api:os-flavor-extra-specs:index"
_PARAMETERS = frozenset({"limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"})


def _listed(call: Call) -> tuple[list[Any], Page]:
    minor = call.version.minor
    common.refuse_unknown(call, _PARAMETERS | ({"name"} if minor >= 102 else set()), 75)
    wanted = page(
        call.query,
        most=call.cloud.settings.api.max_limit,
        allowed=frozenset(store.SORTS) - ({"rxtx_factor"} if minor >= 102 else set()),
        default=(("flavorid", False),),
    )
    flavor = store.flavor
    statement = select(flavor)
    if call.allowed(_SEE_ALL):
        shown = _public(call)
        if shown is not None:
            statement = statement.where(flavor.c.public == shown)
    else:
        statement = store.visible(statement, call.who.project_id)
    for parameter, column in (("minRam", flavor.c.ram_mb), ("minDisk", flavor.c.root_gb)):
        least = call.query.one(parameter)
        if least is not None:
            if not least.lstrip("-").isdigit():
                raise errors.BadRequest(f"Invalid {parameter} filter [{least}]")
            statement = statement.where(column >= int(least[:18]))
    name = call.query.one("name")
    if minor >= 102 and name is not None:
        statement = statement.where(flavor.c.name == name)
    with call.cloud.database.read() as tx:
        return list(tx.all(paginate(tx, statement, wanted, store.SORTS, key=flavor.c.id))), wanted


def _public(call: Call) -> bool | None:
    """What `is_public` asks for; "none" asks for both kinds."""
    value = call.query.one("is_public")
    if value is None:
        return True
    if value.lower() == "none":
        return None
    return call.query.boolean("is_public")


def index(call: Call) -> Reply:
    rows, wanted = _listed(call)
    body: dict[str, Any] = {"flavors": [wire.basic(call, row) for row in rows]}
    return _page(call, body, "flavors", rows, wanted)


def detail(call: Call) -> Reply:
    rows, wanted = _listed(call)
    see = call.allowed(_SEE_SPECS)
    body: dict[str, Any] = {"flavors": [wire.detailed(call, row, specs=see) for row in rows]}
    return _page(call, body, "flavors/detail", rows, wanted)


def _page(call: Call, body: dict[str, Any], path: str, rows: list[Any], wanted: Page) -> Reply:
    following = common.next_links(call, path, [row.id for row in rows], wanted)
    if following:
        body["flavors_links"] = following
    return Reply(body)


def show(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = actions.get(tx, call.params["id"], call.who.project_id, everything=call.allowed(_SEE_ALL))
    return _shown(call, row)


def _shown(call: Call, row: Any) -> Reply:
    return Reply({"flavor": wire.detailed(call, row, specs=call.allowed(_SEE_SPECS))})


def create(call: Call) -> Reply:
    body = call.body(wire.NewFlavorBody).flavor
    common.refuse_later(body, call.version, {"description": 55})
    common.refuse_earlier(body, call.version, {"rxtx_factor": 101})
    flavor_id = clock.uuid4() if body.id is None else str(body.id)
    if len(flavor_id) > 255:
        raise errors.BadRequest("Invalid input for field/attribute id: it must be at most 255 characters.")
    factor = 1.0 if body.rxtx_factor is UNSET else float(body.rxtx_factor)
    if factor <= 0:
        raise errors.BadRequest("Invalid input for field/attribute rxtx_factor: it must be above 0.")
    values = {
        "ram_mb": common.whole(body.ram, "ram", least=1),
        "vcpus": common.whole(body.vcpus, "vcpus", least=1),
        "root_gb": common.whole(body.disk, "disk"),
        "ephemeral_gb": common.whole(body.ephemeral, "OS-FLV-EXT-DATA:ephemeral"),
        "swap_mb": common.whole(body.swap, "swap"),
        "rxtx_factor": factor,
        "public": common.truth(body.public),
        "description": None if body.description is UNSET else common.description(body.description, most=65535),
    }
    name = common.name(body.name)
    row = call.cloud.database.write(lambda tx: actions.create(tx, flavor_id=flavor_id, name=name, **values))
    return _shown(call, row)


def change(call: Call) -> Reply:
    text = common.description(call.body(wire.FlavorChangeBody).flavor.description, most=65535)
    return _shown(call, call.cloud.database.write(lambda tx: actions.describe(tx, call.params["id"], text)))


def delete(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.delete(tx, call.params["id"]))
    return Reply()


# --- extra specs ---------------------------------------------------------------------------------------------


def _flavor(call: Call) -> Any:
    with call.cloud.database.read() as tx:
        return actions.get(tx, call.params["id"], call.who.project_id, everything=call.allowed(_SEE_ALL))


def _texts(call: Call, given: wire.Specs) -> dict[str, str]:
    texts = {key: value if isinstance(value, str) else str(value) for key, value in given.items()}
    for key, value in texts.items():
        if len(value) > 255:
            raise errors.BadRequest(f"The value of extra spec {key} is longer than 255 characters.")
    if common.since(call, 86):
        specs.check(texts)
    return texts


def list_specs(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    return Reply({"extra_specs": _flavor(call).extra_specs or {}})


def set_specs(call: Call) -> Reply:
    given = call.body(wire.SpecsBody).extra_specs
    texts = _texts(call, given)
    call.cloud.database.write(lambda tx: actions.set_specs(tx, call.params["id"], texts))
    return Reply({"extra_specs": given})


def show_spec(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    key = call.params["key"]
    found = _flavor(call).extra_specs or {}
    if key not in found:
        raise errors.NotFound(f"Flavor {call.params['id']} has no extra specs with key {key}.")
    return Reply({key: found[key]})


def set_spec(call: Call) -> Reply:
    given = call.body(wire.Specs)
    if len(given) != 1:
        raise errors.BadRequest("The body must hold exactly one extra spec.")
    texts = _texts(call, given)
    if call.params["key"] not in given:
        raise errors.BadRequest("Request body and URI mismatch")
    call.cloud.database.write(lambda tx: actions.set_specs(tx, call.params["id"], texts))
    return Reply(given)


def unset_spec(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.unset_specs(tx, call.params["id"], [call.params["key"]]))
    return Reply()


# --- access --------------------------------------------------------------------------------------------------


def list_access(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    if _flavor(call).public:
        raise errors.NotFound("Access list not available for public flavors.")
    with call.cloud.database.read() as tx:
        return _access(tx, call.params["id"])


def _access(tx: Tx, flavor_id: str) -> Reply:
    found = [{"flavor_id": flavor_id, "tenant_id": each} for each in store.projects_of(tx, flavor_id)]
    return Reply({"flavor_access": found})


def add_access(call: Call) -> Reply:
    project_id = call.body(wire.AddAccess).add.tenant

    def work(tx: Tx) -> Reply:
        actions.grant(tx, call.params["id"], project_id, strict=common.since(call, 7))
        return _access(tx, call.params["id"])

    return call.cloud.database.write(work)  # type: ignore[no-any-return]


def remove_access(call: Call) -> Reply:
    project_id = call.body(wire.RemoveAccess).remove.tenant

    def work(tx: Tx) -> Reply:
        actions.revoke(tx, call.params["id"], project_id)
        return _access(tx, call.params["id"])

    return call.cloud.database.write(work)  # type: ignore[no-any-return]


_FLAVORS, _FLAVOR = "/v2.1/flavors", "/v2.1/flavors/{id}"
_SPECS, _MANAGE, _ACCESS = "os_compute_api:os-flavor-extra-specs", "os_compute_api:os-flavor-manage", _SEE_ALL
_ANYBODY = "os_compute_api:extensions"
"""Every authenticated user may see flavors: Nova has no rule for that, so the one that lets everybody pass stands in."""

ROUTES = (
    Route("GET", _FLAVORS, index, _ANYBODY),
    Route("GET", _FLAVORS + "/detail", detail, _ANYBODY),
    Route("POST", _FLAVORS, create, f"{_MANAGE}:create"),
    Route("GET", _FLAVOR, show, _ANYBODY),
    Route("PUT", _FLAVOR, change, f"{_MANAGE}:update", since=Version(2, 55)),
    Route("DELETE", _FLAVOR, delete, f"{_MANAGE}:delete", 202),
    Route("POST", _FLAVOR + "/action", add_access, f"{_ACCESS}:add_tenant_access", action="addTenantAccess"),
    Route("POST", _FLAVOR + "/action", remove_access, f"{_ACCESS}:remove_tenant_access", action="removeTenantAccess"),
    Route("GET", _FLAVOR + "/os-flavor-access", list_access, _ACCESS),
    Route("GET", _FLAVOR + "/os-extra_specs", list_specs, f"{_SPECS}:index"),
    Route("POST", _FLAVOR + "/os-extra_specs", set_specs, f"{_SPECS}:create"),
    Route("GET", _FLAVOR + "/os-extra_specs/{key}", show_spec, f"{_SPECS}:show"),
    Route("PUT", _FLAVOR + "/os-extra_specs/{key}", set_spec, f"{_SPECS}:update"),
    Route("DELETE", _FLAVOR + "/os-extra_specs/{key}", unset_spec, f"{_SPECS}:delete"),
)
