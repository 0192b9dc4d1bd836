"""/agents, and which of them serve networks and routers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import filters, problems, resource
from nephos.network.agents import actions, disabled
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.resource import Item, Noun, V, View
from nephos.network.routers.wire import NOUN as ROUTER

_NULL = b"null"
"""What adding answers, as Neutron does: clients read it."""
_FILTERS = ("id", "agent_type", "binary", "topic", "host", "availability_zone", "description")
_FLAGS = ("alive", "admin_state_up")


class _Update(resource.Base, kw_only=True):
    admin_state_up: bool | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class _UpdateBody(resource.Base, kw_only=True):
    agent: _Update


class _Network(resource.Base, kw_only=True):
    network_id: str


class _Router(resource.Base, kw_only=True):
    router_id: str
    ha_chassis_priority: int | None = None


class _Priority(resource.Base, kw_only=True):
    ha_chassis_priority: int


def index(call: Call) -> Reply:
    """GET of all agents; who may see none gets an empty list, as with every list of this API."""
    if not call.allowed("get_agent"):
        return Reply({"agents": []})
    with call.cloud.database.read() as tx:
        found = actions.all_agents(tx, call.cloud)
    for name, values in call.query.items():
        if name in _FILTERS:
            # Old clients write "DHCP Agent"; Neutron's database compares without case.
            wanted = {value.lower() for value in values}
            found = [each for each in found if str(each[name]).lower() in wanted]
        elif name in _FLAGS:
            flags = {filters.boolean(value) for value in values}
            found = [each for each in found if each[name] in flags]
        elif name not in ("fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse"):
            raise problems.bad(f"['{name}'] is invalid attribute for filtering", "HTTPBadRequest")
    fields = set(call.query.many("fields"))
    return Reply({"agents": [{k: v for k, v in each.items() if not fields or k in fields} for each in found]})


def show(call: Call) -> Reply:
    """GET of one. Raises NotFound, also for who may not see it."""
    if not call.allowed("get_agent"):
        raise problems.missing("Agent", call.params["id"])
    with call.cloud.database.read() as tx:
        return Reply({"agent": _one(tx, call)})


def _one(tx: Tx, call: Call) -> Item:
    for each in actions.all_agents(tx, call.cloud):
        if each["id"] == call.params["id"]:
            return each
    raise problems.missing("Agent", call.params["id"])


def update(call: Call) -> Reply:
    model = _decode(call, _UpdateBody).agent

    def work(tx: Tx) -> Item:
        actions.put(tx, call.cloud, call.params["id"], resource.settings_of(model))
        return _one(tx, call)

    return Reply({"agent": call.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    """Only what an operator said is forgotten: an agent is there as long as its host is."""
    with call.cloud.database.read() as tx:
        row, _ = actions.find(tx, call.params["id"])
    raise problems.refused(f"Agent {call.params['id']} is part of host {row.name} and goes with it.", "AgentInUse")


def _decode(call: Call, kind: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.json.decode(resource.raw_body(call), type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise problems.bad(f"Invalid input: {wrong}", "HTTPBadRequest") from wrong


# --- DHCP ------------------------------------------------------------------------------------------------------------


def networks(call: Call) -> Reply:
    view = View(call)
    with view.cloud.database.read() as tx:
        row, _ = actions.find(tx, call.params["id"], actions.DHCP)
        ids = actions.networks_served(tx, row.id)
        return Reply({"networks": _shown(tx, NETWORK, view, ids)})


def _shown(tx: Tx, noun: Noun, view: View, ids: list[str]) -> list[Item]:
    rows = tx.all(noun.some, {**view.bind, "keys": ids})
    loaded = noun.load(tx, rows, view) if rows else {}
    return [resource.shown(noun, row, loaded, view, frozenset()) for row in rows]


def add_network(call: Call) -> Reply:
    return _serve(call, _decode(call, _Network).network_id, serves=True)


def remove_network(call: Call) -> Reply:
    return _serve(call, call.params["network_id"], serves=False)


def _serve(call: Call, network_id: str, *, serves: bool) -> Reply:
    view = View(call)

    def work(tx: Tx) -> None:
        row, _ = actions.find(tx, call.params["id"], actions.DHCP)
        network = resource.fetch(tx, NETWORK, view, network_id)
        present = network.id in actions.networks_served(tx, row.id)
        if present and serves:
            raise problems.refused(
                f"The network {network_id} has been already hosted by the DHCP Agent {call.params['id']}.",
                "NetworkHostedByDHCPAgent",
            )
        if not present and not serves:
            raise problems.refused(
                f"The network {network_id} is not hosted by the DHCP agent {call.params['id']}.",
                "NetworkNotHostedByDhcpAgent",
            )
        actions.serve(tx, view.cloud, row.id, network_id, serves=serves)

    view.cloud.database.write(work)
    return Reply(_NULL, 201) if serves else Reply(status=204)


def dhcp_agents(call: Call) -> Reply:
    view = View(call)
    with view.cloud.database.read() as tx:
        network = resource.fetch(tx, NETWORK, view, call.params["id"])
        ids = {disabled.key_of(host_id, actions.DHCP) for host_id in actions.hosts_serving(tx, network.id)}
        return Reply({"agents": [each for each in actions.all_agents(tx, view.cloud) if each["id"] in ids]})


# --- routers ---------------------------------------------------------------------------------------------------------


def routers(call: Call) -> Reply:
    view = View(call)
    with view.cloud.database.read() as tx:
        row, _ = actions.find(tx, call.params["id"], disabled.L3)
        return Reply({"routers": _shown(tx, ROUTER, view, actions.routers_on(tx, row.id))})


def add_router(call: Call) -> Reply:
    view, model = View(call), _decode(call, _Router)

    def work(tx: Tx) -> None:
        host, _ = actions.find(tx, call.params["id"], disabled.L3)
        row = resource.fetch(tx, ROUTER, view, model.router_id)
        actions.add_router(tx, view.cloud, host.id, row)
        if model.ha_chassis_priority is not None:
            actions.prefer(tx, view.cloud, host.id, row, model.ha_chassis_priority)

    view.cloud.database.write(work)
    return Reply(_NULL, 201)


def update_router(call: Call) -> Reply:
    view, priority = View(call), _decode(call, _Priority).ha_chassis_priority

    def work(tx: Tx) -> None:
        host, _ = actions.find(tx, call.params["id"], disabled.L3)
        row = resource.fetch(tx, ROUTER, view, call.params["router_id"])
        actions.prefer(tx, view.cloud, host.id, row, priority)

    view.cloud.database.write(work)
    return Reply(_NULL)


def remove_router(call: Call) -> Reply:
    view = View(call)

    def work(tx: Tx) -> None:
        row, _ = actions.find(tx, call.params["id"], disabled.L3)
        actions.drop_router(tx, view.cloud, row.id, resource.fetch(tx, ROUTER, view, call.params["router_id"]))

    view.cloud.database.write(work)
    return Reply(status=204)


def l3_agents(call: Call) -> Reply:
    view = View(call)
    with view.cloud.database.read() as tx:
        row = resource.fetch(tx, ROUTER, view, call.params["id"])
        states = actions.hosts_of_router(tx, row)
        priorities = actions.priorities_of(tx, row)
        found = [each for each in actions.all_agents(tx, view.cloud) if each["id"] in states]
        more = {key: {"ha_state": state, "ha_chassis_priority": priorities.get(key)} for key, state in states.items()}
        return Reply({"agents": [{**each, **more[each["id"]]} for each in found]})


_ONE = V + "/agents/{id}"
ROUTES = (
    Route("GET", V + "/agents", index, "get_agent", target="later"),
    Route("GET", _ONE, show, "get_agent", target="later"),
    Route("PUT", _ONE, update, "update_agent"),
    Route("DELETE", _ONE, delete, "delete_agent", 204),
    Route("GET", _ONE + "/dhcp-networks", networks, "get_dhcp-networks"),
    Route("POST", _ONE + "/dhcp-networks", add_network, "create_dhcp-network", 201),
    Route("DELETE", _ONE + "/dhcp-networks/{network_id}", remove_network, "delete_dhcp-network", 204),
    Route("GET", _ONE + "/l3-routers", routers, "get_l3-routers"),
    Route("POST", _ONE + "/l3-routers", add_router, "create_l3-router", 201),
    Route("PUT", _ONE + "/l3-routers/{router_id}", update_router, "update_l3-router"),
    Route("DELETE", _ONE + "/l3-routers/{router_id}", remove_router, "delete_l3-router", 204),
    Route("GET", V + "/networks/{id}/dhcp-agents", dhcp_agents, "get_dhcp-agents"),
    Route("GET", V + "/routers/{id}/l3-agents", l3_agents, "get_l3-agents"),
)
