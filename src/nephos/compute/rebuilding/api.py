"""`/servers/{id}/action`: rebuild, and the server as it is answered then."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from nephos.compute import wire as common
from nephos.compute.building import wish
from nephos.compute.rebuilding import actions, wire
from nephos.compute.rebuilding.actions import Wish
from nephos.compute.servers import actions as servers
from nephos.compute.servers.api import SERVER, owned, seen
from nephos.compute.showing import bodies, views
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_CERTIFICATES = "os_compute_api:servers:rebuild:trusted_certs"


def rebuild(call: Call) -> Reply:
    # The scheduler's filters look at another image: they come into memory here, where no unit of work waits for that.
    import nephos.compute.scheduler.claim  # noqa: F401

    wanted = _wish_of(call, call.body(wire.RebuildBody).rebuild)

    def work(tx: Tx) -> tuple[Any, views.Extras]:
        row = seen(call, tx)
        actions.rebuild(tx, call.cloud, row, call.who, call.request_id, wanted)
        row = servers.get(tx, row.id)
        return row, bodies.extras_of(tx, row, host_status=common.since(call, 75))

    row, extras = call.cloud.database.write(work)
    view = views.of(call, owned(row))._replace(whole=common.since(call, 75), groups=True)
    shown = views.detailed(view, row, extras)
    if common.since(call, 54):
        shown["key_name"] = row.key_name
    if common.since(call, 57):
        shown.pop("OS-EXT-SRV-ATTR:user_data", None)
        shown["user_data"] = row.user_data
    shown["adminPass"] = wanted.admin_pass
    return Reply({"server": shown}, headers={"Location": shown["links"][0]["href"]})


def _wish_of(call: Call, body: wire.Rebuild) -> Wish:
    """Raises BadRequest naming what is wrong, or what this microversion does not have."""
    common.refuse_later(body, call.version, wire.SINCE)
    common.refuse_earlier(body, call.version, wire.UNTIL)
    values: dict[str, Any] = {}
    if body.name is not UNSET:
        values["name"] = common.name(body.name)
    if body.metadata is not UNSET:
        values["metadata"] = body.metadata
    if body.disk_config is not UNSET:
        values["disk_config"] = body.disk_config
    for name, field, version in (("access_ipv4", "accessIPv4", 4), ("access_ipv6", "accessIPv6", 6)):
        address = getattr(body, name)
        if address is not UNSET:
            values[name] = common.address(address, field, version) if address else None
    if body.description is not UNSET:
        values["description"] = common.description(body.description)
    if body.user_data is not UNSET:
        values["user_data"] = None if body.user_data is None else wish.base64_of(body.user_data, "user_data")
    if body.trusted_image_certificates is not UNSET:
        certificates = wish.certificates(call, body.trusted_image_certificates, _CERTIFICATES)
        values["trusted_certs"] = None if certificates is None else list(certificates)
    if body.hostname is not UNSET:
        values["hostname"] = wish.check_hostname(call, body.hostname)
    return Wish(
        image_id=body.image,
        values=values,
        admin_pass=wish.password() if body.admin_pass is UNSET else body.admin_pass,
        files=wish.files_of(body.personality),
        key_name=None if body.key_name is UNSET or body.key_name is None else common.name(body.key_name, "key_name"),
        changes_key=body.key_name is not UNSET,
        preserve_ephemeral=common.truth(body.preserve_ephemeral),
        may_zero_disk=call.allowed(wish.ZERO_DISK),
    )


ROUTES = (
    Route(
        "POST", SERVER + "/action", rebuild, "os_compute_api:servers:rebuild", 202, target="later", action="rebuild"
    ),
)
