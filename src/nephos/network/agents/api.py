"""/agents and /availability_zones."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete as remove
from sqlalchemy import insert, select, update

from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource, touch
from nephos.network.agents import store, wire
from nephos.network.resource import V

_FILTERS = (
    "id",
    "agent_type",
    "binary",
    "topic",
    "host",
    "admin_state_up",
    "alive",
    "availability_zone",
    "description",
)


def index(call: Call) -> Reply:
    fields = set(call.query.many("fields"))
    unknown = [name for name in call.query if name not in _FILTERS and name not in resource._RESERVED]
    if unknown:
        raise problems.bad(f"{unknown} is invalid attribute for filtering", "HTTPBadRequest")
    with call.cloud.database.read() as tx:
        found = _agents(tx, call)
    for name in _FILTERS:
        wanted = {value.lower() for value in call.query.many(name)}
        if wanted:
            found = [agent for agent in found if str(agent[name]).lower() in wanted]
    return Reply({"agents": [_cut(agent, fields) for agent in found]})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        agent = _agent(tx, call, call.params["id"])
    return Reply({"agent": _cut(agent, set(call.query.many("fields")))})


def change(call: Call) -> Reply:
    model = call.body(dict[str, wire.Update]).get("agent")
    if model is None:
        raise problems.bad("Unable to find 'agent' in request body", "HTTPBadRequest")
    values = resource.settings_of(model)

    def work(tx: Tx) -> dict[str, Any]:
        agent = _agent(tx, call, call.params["id"])
        table = store.agent
        if tx.first(select(table.c.id).where(table.c.id == agent["id"])) is None:
            tx.execute(insert(table), {"id": agent["id"], "admin_state_up": True, "description": ""})
        if values:
            tx.execute(update(table).where(table.c.id == agent["id"]).values(**values))
        return _agent(tx, call, call.params["id"])

    return Reply({"agent": call.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    """Forget what was set of an agent whose host is down. Raises Conflict for one that is alive: it would come back."""

    def work(tx: Tx) -> None:
        agent = _agent(tx, call, call.params["id"])
        if agent["alive"]:
            raise problems.refused(f"Agent {agent['id']} is alive on host {agent['host']}.", "AgentInUse")
        tx.execute(remove(store.agent).where(store.agent.c.id == agent["id"]))

    call.cloud.database.write(work)
    return Reply()


def zones(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        names = sorted(touch.zones(tx, call.cloud))
    found = [{"name": name, "resource": kind, "state": "available"} for name in names for kind in ("network", "router")]
    for key in ("name", "resource", "state"):
        wanted = set(call.query.many(key))
        found = [zone for zone in found if not wanted or zone[key] in wanted]
    return Reply({"availability_zones": found})


def _agents(tx: Tx, call: Call) -> list[dict[str, Any]]:
    known = {row.id: row for row in tx.all(select(store.agent))}
    zone = call.cloud.settings.compute.zone
    return [agent for row in hosts.all_hosts(tx) for agent in wire.agents_of(row, tx.now, zone, known)]


def _agent(tx: Tx, call: Call, key: str) -> dict[str, Any]:
    for agent in _agents(tx, call):
        if agent["id"] == key:
            return agent
    raise problems.missing("Agent", key)


def _cut(agent: dict[str, Any], fields: set[str]) -> dict[str, Any]:
    return {name: value for name, value in agent.items() if name in fields} if fields else agent


ROUTES = (
    Route("GET", V + "/agents", index, "get_agent"),
    Route("GET", V + "/agents/{id}", show, "get_agent"),
    Route("PUT", V + "/agents/{id}", change, "update_agent"),
    Route("DELETE", V + "/agents/{id}", delete, "delete_agent", 204),
    Route("GET", V + "/availability_zones", zones, "get_availability_zone"),
)
