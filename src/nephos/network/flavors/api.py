"""/flavors, /service_profiles and /service-providers."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import filters, problems, resource
from nephos.network.flavors import actions
from nephos.network.flavors.wire import (
    FLAVOR,
    PROFILE,
    Binding,
    CreateFlavor,
    CreateProfile,
    UpdateFlavor,
    UpdateProfile,
)
from nephos.network.resource import V, View

_create_flavor = resource.Body(FLAVOR, CreateFlavor, bulk=True)
_update_flavor = resource.Body(FLAVOR, UpdateFlavor)
_create_profile = resource.Body(PROFILE, CreateProfile, bulk=True)
_update_profile = resource.Body(PROFILE, UpdateProfile)
_bind = resource.Body(PROFILE, Binding)
flavors, show_flavor = resource.readers(FLAVOR)


def create_flavor(call: Call) -> Reply:
    return resource.make(call, FLAVOR, _create_flavor, _make_flavor)


def _make_flavor(tx: Tx, view: View, model: CreateFlavor) -> str:
    values = {
        "name": model.name,
        "description": model.description or "",
        "service_type": model.service_type,
        "enabled": model.enabled,
    }
    return actions.create_flavor(tx, values, model.service_profiles)


def update_flavor(call: Call) -> Reply:
    return resource.change(
        call,
        FLAVOR,
        call.params["id"],
        _update_flavor,
        lambda tx, view, row, model: actions.update_flavor(tx, row, resource.settings_of(model)),
    )


def delete_flavor(call: Call) -> Reply:
    return resource.remove(call, FLAVOR, call.params["id"], lambda tx, view, row: actions.remove_flavor(tx, row))


def bind(call: Call) -> Reply:
    """Give a flavor one more profile; the answer is the flavor."""
    view, wanted, key = View(call), _bind.one(call), call.params["id"]

    def work(tx: Tx) -> resource.Item:
        actions.get_flavor(tx, key)
        actions.bind(tx, key, wanted.id)
        return resource.reply(tx, FLAVOR, view, [key])[0]

    return Reply({"service_profile": view.cloud.database.write(work)}, 201)


def unbind(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        actions.get_flavor(tx, call.params["id"])
        actions.unbind(tx, call.params["id"], call.params["profile_id"])

    call.cloud.database.write(work)
    return Reply(status=204)
profiles, show_profile = resource.readers(PROFILE)


def create_profile(call: Call) -> Reply:
    return resource.make(call, PROFILE, _create_profile, _make_profile)


def _make_profile(tx: Tx, view: View, model: CreateProfile) -> str:
    values = {
        "description": model.description or "",
        "driver": model.driver,
        "metainfo": model.metainfo,
        "enabled": model.enabled,
    }
    return actions.create_profile(tx, values)


def update_profile(call: Call) -> Reply:
    return resource.change(
        call,
        PROFILE,
        call.params["id"],
        _update_profile,
        lambda tx, view, row, model: actions.update_profile(tx, row, resource.settings_of(model)),
    )


def delete_profile(call: Call) -> Reply:
    return resource.remove(call, PROFILE, call.params["id"], lambda tx, view, row: actions.remove_profile(tx, row))


def providers(call: Call) -> Reply:
    """What makes routers here; the first is what a router without flavor is made by."""
    found: list[dict[str, Any]] = [
        {"service_type": actions.SERVICE_TYPES[0], "name": each.name, "default": each is actions.PROVIDERS[0]}
        for each in actions.PROVIDERS
    ]
    for name, values in call.query.items():
        if name in ("service_type", "name"):
            found = [each for each in found if each[name] in values]
        elif name == "default":
            flags = {filters.boolean(value) for value in values}
            found = [each for each in found if each[name] in flags]
        elif name != "fields":
            raise problems.bad(f"['{name}'] is invalid attribute for filtering", "HTTPBadRequest")
    return Reply({"service_providers": found})


_FLAVOR, _PROFILE = V + "/flavors/{id}", V + "/service_profiles/{id}"
ROUTES = (
    Route("GET", V + "/flavors", flavors, "get_flavor", target="later"),
    Route("POST", V + "/flavors", create_flavor, "create_flavor", 201),
    Route("GET", _FLAVOR, show_flavor, "get_flavor", target="later"),
    Route("PUT", _FLAVOR, update_flavor, "update_flavor", target="later"),
    Route("DELETE", _FLAVOR, delete_flavor, "delete_flavor", 204, target="later"),
    Route("POST", _FLAVOR + "/service_profiles", bind, "create_flavor_service_profile", 201),
    Route("DELETE", _FLAVOR + "/service_profiles/{profile_id}", unbind, "delete_flavor_service_profile", 204),
    Route("GET", V + "/service_profiles", profiles, "get_service_profile", target="later"),
    Route("POST", V + "/service_profiles", create_profile, "create_service_profile", 201),
    Route("GET", _PROFILE, show_profile, "get_service_profile", target="later"),
    Route("PUT", _PROFILE, update_profile, "update_service_profile", target="later"),
    Route("DELETE", _PROFILE, delete_profile, "delete_service_profile", 204, target="later"),
    Route("GET", V + "/service-providers", providers, "get_service_provider"),
)
