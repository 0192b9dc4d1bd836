"""`/servers/{id}/action`: shelve, shelveOffload and unshelve."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.servers.api import SERVER, owned, seen
from nephos.compute.shelving import actions, wire
from nephos.compute.shelving.actions import Wish
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_RULE = "os_compute_api:os-shelve:"


def shelve(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.shelve(tx, call.cloud, seen(call, tx), call.who, call.request_id))
    return Reply()


def offload(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.offload(tx, call.cloud, seen(call, tx), call.who, call.request_id))
    return Reply()


def unshelve(call: Call) -> Reply:
    # The first server that is placed brings the scheduler into memory: here, where no unit of work waits for that.
    import nephos.compute.scheduler.claim  # noqa: F401

    wanted = _wish_of(call)

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        if wanted.host is not None:
            call.permit(owned(row), rule=_RULE + "unshelve_to_host")
        actions.unshelve(tx, call.cloud, row, call.who, call.request_id, wanted)

    call.cloud.database.write(work)
    return Reply()


def _wish_of(call: Call) -> Wish:
    """Before 2.77 nothing can be said, until 2.90 a zone must be when anything is. Raises BadRequest."""
    if not common.since(call, 77):
        return Wish()
    place = call.body(wire.Unshelve).unshelve
    if place is None:
        return Wish()
    if not common.since(call, 91):
        if place.host is not UNSET or not place.availability_zone:
            raise errors.BadRequest("Invalid input for field/attribute unshelve: it needs an availability_zone alone.")
    elif place.host is UNSET and place.availability_zone is UNSET:
        raise errors.BadRequest("Invalid input for field/attribute unshelve: it needs an availability_zone or a host.")
    return Wish(zone=place.availability_zone, host=None if place.host is UNSET else place.host)


def _route(action: str, handler: Callable[[Call], Reply], rule: str) -> Route:
    return Route("POST", SERVER + "/action", handler, _RULE + rule, 202, target="later", action=action)


ROUTES = (
    _route("shelve", shelve, "shelve"),
    _route("shelveOffload", offload, "shelve_offload"),
    _route("unshelve", unshelve, "unshelve"),
)
