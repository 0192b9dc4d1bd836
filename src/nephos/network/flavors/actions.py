"""What flavors of routers and their service profiles can do.

A router takes its kind from its flavor: from the first service profile of it that names a driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select

from nephos.errors import Unavailable
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource
from nephos.network.flavors.store import flavor, flavor_profile, profile
from nephos.network.routers.store import router

SERVICE_TYPES = ("L3_ROUTER_NAT", "FLAVORS")
"""The services that flavors can be of: routers, and what Neutron's clients try flavors with."""
_BASE = "neutron.services.l3_router.service_providers."
_flavor = select(flavor).where(flavor.c.id == bindparam("id"))
_profile = select(profile).where(profile.c.id == bindparam("id"))
_profiles_of = (
    select(flavor_profile.c.flavor_id, profile)
    .join(profile, profile.c.id == flavor_profile.c.profile_id)
    .where(flavor_profile.c.flavor_id.in_(bindparam("flavors", expanding=True)))
    .order_by(profile.c.created_at, profile.c.id)
)
_flavors_of = (
    select(flavor_profile)
    .where(flavor_profile.c.profile_id.in_(bindparam("profiles", expanding=True)))
    .order_by(flavor_profile.c.flavor_id)
)


class Provider(NamedTuple):
    """What a router can be made by; drivers have Neutron's names, which profiles are written with."""

    name: str
    driver: str
    ha: bool


PROVIDERS = (
    Provider("single_node", _BASE + "single_node.SingleNodeDriver", ha=False),
    Provider("ha", _BASE + "ha.HaDriver", ha=True),
)
_BY_DRIVER = {each.driver: each for each in PROVIDERS}


def get_flavor(tx: Tx, flavor_id: str) -> Any:
    """Raises FlavorNotFound."""
    row = tx.first(_flavor, {"id": flavor_id})
    if row is None:
        raise problems.missing("Flavor", flavor_id)
    return row


def get_profile(tx: Tx, profile_id: str) -> Any:
    """Raises ServiceProfileNotFound."""
    row = tx.first(_profile, {"id": profile_id})
    if row is None:
        raise problems.missing("Service Profile", profile_id)
    return row


def profiles_of(tx: Tx, flavor_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Flavor → rows of its profiles, oldest first."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(_profiles_of, {"flavors": list(flavor_ids)}):
        found.setdefault(row.flavor_id, []).append(row)
    return found


def flavors_of(tx: Tx, profile_ids: Sequence[str]) -> dict[str, list[str]]:
    """Profile → ids of the flavors that it is of."""
    found: dict[str, list[str]] = {}
    for row in tx.all(_flavors_of, {"profiles": list(profile_ids)}):
        found.setdefault(row.profile_id, []).append(row.flavor_id)
    return found


def create_flavor(tx: Tx, values: dict[str, Any], profile_ids: Sequence[str]) -> str:
    """Raises ServiceProfileNotFound, InvalidInput for a service that has no flavors."""
    if values["service_type"] not in SERVICE_TYPES:
        raise problems.invalid("service_type", f"'{values['service_type']}' is not in {list(SERVICE_TYPES)}")
    flavor_id = clock.uuid4()
    tx.insert(flavor, {"id": flavor_id, **values, "revision": 1, "created_at": tx.now, "updated_at": tx.now})
    for each in dict.fromkeys(profile_ids):
        bind(tx, flavor_id, each)
    return flavor_id


def update_flavor(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    """Set name, description, enabled, and the profiles when `service_profiles` is among the values."""
    profile_ids = values.pop("service_profiles", None)
    resource.revise(tx, flavor, row.id, values)
    if profile_ids is not None:
        tx.execute(delete(flavor_profile).where(flavor_profile.c.flavor_id == row.id))
        for each in dict.fromkeys(profile_ids):
            bind(tx, row.id, each)


def remove_flavor(tx: Tx, row: Any) -> None:
    """Raises FlavorInUse naming a router of it."""
    user = tx.first(select(router.c.id).where(router.c.flavor_id == row.id))
    if user is not None:
        raise problems.refused(f"Flavor {row.id} is used by some service instance: router {user.id}.", "FlavorInUse")
    tx.execute(delete(flavor).where(flavor.c.id == row.id))


def bind(tx: Tx, flavor_id: str, profile_id: str) -> None:
    """Raises ServiceProfileNotFound, FlavorServiceProfileBindingExists."""
    get_profile(tx, profile_id)
    key = {"flavor_id": flavor_id, "profile_id": profile_id}
    if profile_id in {each.id for each in profiles_of(tx, [flavor_id]).get(flavor_id, ())}:
        raise problems.refused(
            f"Service Profile {profile_id} is already associated with flavor {flavor_id}.",
            "FlavorServiceProfileBindingExists",
        )
    tx.insert(flavor_profile, key)


def unbind(tx: Tx, flavor_id: str, profile_id: str) -> None:
    """Raises FlavorServiceProfileBindingNotFound."""
    one = (flavor_profile.c.flavor_id == flavor_id, flavor_profile.c.profile_id == profile_id)
    if not tx.execute(delete(flavor_profile).where(*one)).rowcount:
        raise problems.missing(
            f"Flavor {flavor_id} has no association with service profile",
            profile_id,
            "FlavorServiceProfileBindingNotFound",
        )


def create_profile(tx: Tx, values: dict[str, Any]) -> str:
    """Raises ServiceProfileEmpty, ServiceProfileDriverNotFound."""
    if not values["driver"] and not values["metainfo"]:
        raise problems.bad("Service Profile needs either a driver or metainfo.", "ServiceProfileEmpty")
    _check_driver(values["driver"])
    profile_id = clock.uuid4()
    tx.insert(profile, {"id": profile_id, **values, "revision": 1, "created_at": tx.now, "updated_at": tx.now})
    return profile_id


def update_profile(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    """Raises ServiceProfileInUse, ServiceProfileDriverNotFound."""
    _check_driver(values.get("driver", ""))
    _check_idle(tx, row)
    resource.revise(tx, profile, row.id, values)


def remove_profile(tx: Tx, row: Any) -> None:
    """Raises ServiceProfileInUse."""
    _check_idle(tx, row)
    tx.execute(delete(profile).where(profile.c.id == row.id))


def _check_driver(driver: str) -> None:
    if driver and driver not in _BY_DRIVER:
        known = ", ".join(sorted(_BY_DRIVER))
        raise problems.missing(
            "Service Profile driver", f"{driver} (known are {known})", "ServiceProfileDriverNotFound"
        )


def _check_idle(tx: Tx, row: Any) -> None:
    users = flavors_of(tx, [row.id]).get(row.id)
    if users:
        raise problems.refused(
            f"Service Profile {row.id} is used by some service instance: flavor {users[0]}.", "ServiceProfileInUse"
        )


def of_router(tx: Tx, flavor_id: str, *, ha: bool) -> bool:
    """Whether a router of this flavor is highly available. Raises FlavorNotFound, 503 FlavorDisabled and
    ServiceProfileDisabled, BadRequest when the request wants what the flavor is not."""
    row = get_flavor(tx, flavor_id)
    if not row.enabled:
        raise Unavailable("Flavor is not enabled.", code="FlavorDisabled")
    profiles = [each for each in profiles_of(tx, [flavor_id]).get(flavor_id, ()) if each.driver in _BY_DRIVER]
    if not profiles:
        raise problems.missing(
            f"Flavor {flavor_id} has no association with service profile", "", "FlavorServiceProfileBindingNotFound"
        )
    if not profiles[0].enabled:
        raise Unavailable("Service Profile is not enabled.", code="ServiceProfileDisabled")
    found = _BY_DRIVER[profiles[0].driver]
    if ha and not found.ha:
        raise problems.bad(f"Bad router request: flavor {flavor_id} is not compatible with ha.", "BadRequest")
    return found.ha
