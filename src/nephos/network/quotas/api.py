"""/quotas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems
from nephos.network.quotas import actions
from nephos.network.resource import V, View

_MOST = (1 << 31) - 1
_body: msgspec.json.Decoder[dict[str, dict[str, Any]]] = msgspec.json.Decoder(dict[str, dict[str, Any]])


def index(call: Call) -> Reply:
    """The projects that have limits of their own."""
    view = View(call)
    call.permit({"project_id": view.project_id, "tenant_id": view.project_id})
    with view.cloud.database.read() as tx:
        found = [
            {**actions.limits(tx, view.cloud, project), "project_id": project, "tenant_id": project}
            for project in actions.own_limits(tx)
            if view.admin or project == view.project_id
        ]
    return Reply({"quotas": found})


def show(call: Call) -> Reply:
    project = _seen(call)
    with call.cloud.database.read() as tx:
        return Reply({"quota": _whole(tx, call, project)})


def show_default(call: Call) -> Reply:
    project = _seen(call)
    limits = {name: actions.default(call.cloud, name) for name in actions.TABLES}
    return Reply({"quota": {**limits, "project_id": project, "tenant_id": project}})


def details(call: Call) -> Reply:
    """Limit, use and reservation of each resource; use is counted, so nothing is ever reserved."""
    project = _seen(call)
    with call.cloud.database.read() as tx:
        found = {
            name: {"limit": limit, "used": actions.used(tx, project, name), "reserved": 0}
            for name, limit in actions.limits(tx, call.cloud, project).items()
        }
    return Reply({"quota": found})


def tenant(call: Call) -> Reply:
    """Which project a token's quotas are of, in the old word."""
    return Reply({"tenant": {"tenant_id": _own(call)}})


def project(call: Call) -> Reply:
    """Which project a token's quotas are of."""
    return Reply({"project": {"project_id": _own(call)}})


def _own(call: Call) -> str:
    call.allowed("get_quota")
    if call.who.project_id is None:
        raise problems.bad("Project ID was missing from quota request.", "QuotaMissingTenant")
    return call.who.project_id


def update(call: Call) -> Reply:
    project = _project(call)
    values, force = _values(call)

    def work(tx: Tx) -> dict[str, Any]:
        if not force:
            _check_used(tx, project, values)
        actions.put(tx, project, values)
        return _whole(tx, call, project)

    return Reply({"quota": call.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    project = _project(call)
    if not call.cloud.database.write(lambda tx: actions.reset(tx, project)):
        raise problems.missing("Quota for tenant", project, "TenantQuotaNotFound")
    return Reply(status=204)


def _check_used(tx: Tx, project: str, values: Mapping[str, int]) -> None:
    """Raises BadRequest for a limit below what is there already."""
    for name, limit in values.items():
        in_use = actions.used(tx, project, name)
        if 0 <= limit < in_use:
            raise problems.bad(
                f"Quota limit {limit} for {name} must be greater than or equal to already used {in_use}.",
                "HTTPBadRequest",
            )


def _seen(call: Call) -> str:
    """The project asked about: whoever has a token of it sees its limits. Raises Forbidden for others."""
    project: str = call.params["project_id"]
    target = {"project_id": project, "tenant_id": project}
    if not call.allowed("get_quota", target) and project != call.who.project_id:
        call.permit(target)
    return project


def _project(call: Call) -> str:
    project = call.params["project_id"]
    call.permit({"project_id": project, "tenant_id": project})
    return project


def _whole(tx: Tx, call: Call, project: str) -> dict[str, Any]:
    return {**actions.limits(tx, call.cloud, project), "project_id": project, "tenant_id": project}


def _values(call: Call) -> tuple[dict[str, int], bool]:
    """The limits of a request, and whether they may be below what is used."""
    try:
        body = _body.decode(call.raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise problems.bad(f"Invalid input: {wrong}", "HTTPBadRequest") from wrong
    if set(body) != {"quota"}:
        raise problems.bad("Unable to find 'quota' in request body", "HTTPBadRequest")
    found: dict[str, int] = {}
    for name, value in body["quota"].items():
        if name in ("project_id", "tenant_id", "force", "check_limit"):
            continue
        if name not in actions.TABLES:
            raise problems.bad(f"Unrecognized attribute(s) '{name}'", "HTTPBadRequest")
        found[name] = _limit(name, value)
    return found, body["quota"].get("force") in (True, 1, "true", "True")


def _limit(name: str, value: Any) -> int:
    """A number, also as text. Raises BadRequest."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"-1|[0-9]{1,10}", text) or int(text) > _MOST:
        raise problems.invalid(name, f"'{value}' is not an integer from -1 to {_MOST}")
    return int(text)


ROUTES = (
    Route("GET", V + "/quotas", index, "get_quota", target="later"),
    Route("GET", V + "/quotas/tenant", tenant, "get_quota", target="later"),
    Route("GET", V + "/quotas/project", project, "get_quota", target="later"),
    Route("GET", V + "/quotas/{project_id}", show, "get_quota", target="later"),
    Route("GET", V + "/quotas/{project_id}/default", show_default, "get_quota", target="later"),
    Route("GET", V + "/quotas/{project_id}/default.json", show_default, "get_quota", target="later"),
    Route("GET", V + "/quotas/{project_id}/details", details, "get_quota", target="later"),
    Route("GET", V + "/quotas/{project_id}/details.json", details, "get_quota", target="later"),
    Route("PUT", V + "/quotas/{project_id}", update, "update_quota", target="later"),
    Route("DELETE", V + "/quotas/{project_id}", delete, "delete_quota", 204, target="later"),
)
