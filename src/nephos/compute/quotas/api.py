"""`/os-quota-sets`, `/os-quota-class-sets`, `/limits`."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.quotas import actions, wire
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def _project(call: Call) -> str:
    """The project that is asked about, once its policy has agreed."""
    common.refuse_unknown(call, {"user_id"}, 75)
    project_id = call.params["project"]
    call.permit({"project_id": project_id})
    return project_id


def show(call: Call) -> Reply:
    project_id = _project(call)
    with call.cloud.database.read() as tx:
        limits = actions.limits(tx, call.cloud.settings.quota, project_id, call.query.one("user_id"))
    return Reply({"quota_set": {"id": project_id, **wire.shown(limits, wire.hidden(call, 35))}})


def detail(call: Call) -> Reply:
    project_id, user_id = _project(call), call.query.one("user_id")
    with call.cloud.database.read() as tx:
        limits = actions.limits(tx, call.cloud.settings.quota, project_id, user_id)
        used = actions.usage(tx, project_id, user_id)
    both = {name: {"limit": limits[name], "in_use": used[name], "reserved": 0} for name in limits}
    return Reply({"quota_set": {"id": project_id, **wire.shown(both, wire.hidden(call, 35))}})


def defaults(call: Call) -> Reply:
    project_id = call.params["project"]
    common.refuse_unknown(call, (), 102)
    call.permit({"project_id": project_id})
    with call.cloud.database.read() as tx:
        limits = actions.defaults(tx, call.cloud.settings.quota)
    return Reply({"quota_set": {"id": project_id, **wire.shown(limits, wire.hidden(call, 35))}})


def update(call: Call) -> Reply:
    """A limit below what is used is refused unless forced; a user's may not pass the project's."""
    project_id, user_id = _project(call), call.query.one("user_id")
    body = call.body(wire.QuotaSetBody).quota_set
    hidden = wire.hidden(call, 35)
    amounts = wire.given(body, hidden)
    force = common.truth(body.force)

    def work(tx: Tx) -> dict[str, int]:
        settings = call.cloud.settings.quota
        if not force:
            used = actions.usage(tx, project_id, user_id)
            most = actions.limits(tx, settings, project_id) if user_id else {}
            for name, amount in amounts.items():
                _between(name, amount, used[name], most.get(name, -1))
        actions.put(tx, project_id, user_id or "", amounts)
        return actions.limits(tx, settings, project_id, user_id)

    return Reply({"quota_set": wire.shown(call.cloud.database.write(work), hidden)})


def _between(name: str, amount: int, used: int, most: int) -> None:
    if 0 <= amount < used:
        raise errors.BadRequest(
            f"Quota limit {amount} for {name} must be greater than or equal to already used and reserved {used}."
        )
    if most >= 0 and (amount < 0 or amount > most):
        raise errors.BadRequest(f"Quota limit {amount} for {name} must be less than or equal to {most}.")


def delete(call: Call) -> Reply:
    project_id, user_id = _project(call), call.query.one("user_id")
    call.cloud.database.write(lambda tx: actions.forget(tx, project_id, user_id))
    return Reply()


def _hidden_of_class(call: Call) -> set[str]:
    return wire.hidden(call, 49) | (set() if common.since(call, 50) else set(wire.GROUPS))


def show_class(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    name = call.params["name"]
    with call.cloud.database.read() as tx:
        limits = actions.defaults(tx, call.cloud.settings.quota, name)
    return Reply({"quota_class_set": {"id": name, **wire.shown(limits, _hidden_of_class(call))}})


def update_class(call: Call) -> Reply:
    name, hidden = call.params["name"], _hidden_of_class(call)
    if len(name) > 255:
        raise errors.BadRequest("quota_class_name has more than 255 characters.")
    amounts = wire.given(call.body(wire.ClassBody).quota_class_set, hidden - set(wire.GROUPS))

    def work(tx: Tx) -> dict[str, int]:
        actions.put_class(tx, name, amounts)
        return actions.defaults(tx, call.cloud.settings.quota, name)

    return Reply({"quota_class_set": wire.shown(call.cloud.database.write(work), hidden)})


def limits(call: Call) -> Reply:
    """What the project may have and has. Administrators may ask for another project."""
    common.refuse_unknown(call, {"tenant_id", "reserved"}, 75)
    project_id = call.who.project_id or ""
    other = call.query.one("tenant_id")
    if other is not None:
        call.permit(rule="os_compute_api:limits:other_project")
        project_id = other
    with call.cloud.database.read() as tx:
        allowed: dict[str, Any] = actions.limits(tx, call.cloud.settings.quota, project_id)
        used = actions.usage(tx, project_id)
    return Reply({"limits": {"rate": [], "absolute": wire.absolute(call, allowed, used)}})


_SET, _CLASS = "/v2.1/os-quota-sets/{project}", "/v2.1/os-quota-class-sets/{name}"
_RULE = "os_compute_api:os-quota-sets"

ROUTES = (
    Route("GET", _SET, show, f"{_RULE}:show", target="later"),
    Route("PUT", _SET, update, f"{_RULE}:update", target="later"),
    Route("DELETE", _SET, delete, f"{_RULE}:delete", 202, target="later"),
    Route("GET", _SET + "/detail", detail, f"{_RULE}:detail", target="later"),
    Route("GET", _SET + "/defaults", defaults, f"{_RULE}:defaults", target="later"),
    Route("GET", _CLASS, show_class, "os_compute_api:os-quota-class-sets:show"),
    Route("PUT", _CLASS, update_class, "os_compute_api:os-quota-class-sets:update"),
    Route("GET", "/v2.1/limits", limits, "os_compute_api:limits"),
)
