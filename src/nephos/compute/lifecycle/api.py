"""`/servers/{id}/action`: power, locks, states, the console's log; and what is not served yet, said with words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from nephos import errors
from nephos.compute.lifecycle import actions, wire
from nephos.compute.servers import actions as servers
from nephos.compute.servers import states
from nephos.compute.servers.api import SERVER, owned, seen
from nephos.compute.wire import since, whole
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply, decode
from nephos.kernel.http.routes import Route

Act = Callable[[Tx, Any], None]
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f]")
_LONGEST_LINE = 4096


def _do(call: Call, act: Act) -> Reply:
    def work(tx: Tx) -> None:
        act(tx, seen(call, tx))

    call.cloud.database.write(work)
    return Reply()


def start(call: Call) -> Reply:
    return _do(call, lambda tx, row: actions.start(tx, call.cloud, row, call.who, call.request_id))


def stop(call: Call) -> Reply:
    return _do(call, lambda tx, row: actions.stop(tx, call.cloud, row, call.who, call.request_id))


def reboot(call: Call) -> Reply:
    hard = call.body(wire.Reboot).reboot.type.lower() == "hard"
    return _do(call, lambda tx, row: actions.reboot(tx, call.cloud, row, call.who, call.request_id, hard=hard))


def hold(call: Call) -> Reply:
    """pause, unpause, suspend or resume: the route's own action."""
    name = call.route.action or ""
    return _do(call, lambda tx, row: actions.hold(tx, call.cloud, row, call.who, call.request_id, name))


def lock(call: Call) -> Reply:
    reason: str | None = None
    if since(call, 73):
        given = decode(call.raw, wire.Lock).lock
        if given is not None and given.locked_reason is not UNSET:
            reason = given.locked_reason
    return _do(call, lambda tx, row: actions.lock(tx, call.cloud, row, call.who, call.request_id, reason))


def unlock(call: Call) -> Reply:
    def act(tx: Tx, row: Any) -> None:
        if row.locked_by == "admin" and row.project_id == call.who.project_id:
            call.permit(owned(row), rule="os_compute_api:os-lock-server:unlock:unlock_override")
        actions.unlock(tx, call.cloud, row, call.who, call.request_id)

    return _do(call, act)


def reset_state(call: Call) -> Reply:
    state = {"active": states.ACTIVE, "error": states.ERROR}[call.body(wire.ResetState).reset.state]
    return _do(call, lambda tx, row: actions.reset_state(tx, call.cloud, row, call.who, call.request_id, state))


def force_delete(call: Call) -> Reply:
    return _do(call, lambda tx, row: servers.delete(tx, call.cloud, row, call.who, call.request_id))


def console_output(call: Call) -> Reply:
    """The serial console from its first byte (S1-31), or its last lines. Asked of the host while the caller waits."""
    length = call.body(wire.ConsoleOutput).console.length
    lines = None if length is None else whole(length, "length", least=-1)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
    if row.host_id is None or row.vm_state == states.BUILDING:
        raise errors.Conflict(f"Instance {row.id} is not ready")
    wanted = None if lines in (None, -1) else max(lines or 0, 1) * _LONGEST_LINE
    try:
        raw = call.cloud.hosts.ask(row.host_id, "console", row.id, wanted)
    except errors.Unavailable as away:
        raise errors.Conflict(f"The console of instance {row.id} cannot be read: {away.message}") from away
    except errors.HostFault as none:
        raise errors.NotFound(f"Guest does not have a console available: {none.message}") from none
    text = bytes(raw).decode("utf-8", "replace").replace("\r\n", "\n")
    if wanted is not None:
        text = "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""
    return Reply({"output": _UNPRINTABLE.sub("", text)})


def inject_network_info(call: Call) -> Reply:
    """The guest's host pulls its metadata anew."""
    return _do(call, lambda tx, row: servers.touch(tx, call.cloud, row))


def not_yet(call: Call) -> Reply:
    """An action that this cloud does not serve yet: refused, with words, once the caller may see the server."""
    with call.cloud.database.read() as tx:
        seen(call, tx)
    raise errors.NotImplementedHere(f"The action {call.route.action} is not served by this cloud yet.")


_ACTION, _RULE = SERVER + "/action", "os_compute_api:"
_NOT_YET = {
    "evacuate": "os-evacuate",
    "restore": "os-deferred-delete:restore",
    "os-getVNCConsole": "os-remote-consoles",
    "os-getSPICEConsole": "os-remote-consoles",
    "os-getRDPConsole": "os-remote-consoles",
    "os-getSerialConsole": "os-remote-consoles",
    "os-getMKSConsole": "os-remote-consoles",
}


def _route(action: str, handler: Callable[[Call], Reply], rule: str, status: int = 202) -> Route:
    return Route("POST", _ACTION, handler, _RULE + rule, status, target="later", action=action)


ROUTES = (
    _route("os-start", start, "servers:start"),
    _route("os-stop", stop, "servers:stop"),
    _route("reboot", reboot, "servers:reboot"),
    _route("pause", hold, "os-pause-server:pause"),
    _route("unpause", hold, "os-pause-server:unpause"),
    _route("suspend", hold, "os-suspend-server:suspend"),
    _route("resume", hold, "os-suspend-server:resume"),
    _route("lock", lock, "os-lock-server:lock"),
    _route("unlock", unlock, "os-lock-server:unlock"),
    _route("os-resetState", reset_state, "os-admin-actions:reset_state"),
    _route("forceDelete", force_delete, "os-deferred-delete:force"),
    _route("injectNetworkInfo", inject_network_info, "os-admin-actions:inject_network_info"),
    _route("os-getConsoleOutput", console_output, "os-console-output", 200),
    *(_route(action, not_yet, rule) for action, rule in _NOT_YET.items()),
)
