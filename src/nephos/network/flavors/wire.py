"""Flavors and service profiles as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select, true

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.flavors import actions
from nephos.network.flavors.store import flavor, profile
from nephos.network.resource import Item, Loaded, Noun, View

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=1024)]
Long = Annotated[str, Meta(max_length=4096)]
Keys = Annotated[list[Annotated[str, Meta(max_length=36)]], Meta(max_length=100)]


class CreateFlavor(resource.Owned, kw_only=True):
    """POST /flavors."""

    service_type: Name
    name: Name = ""
    description: Words | None = ""
    service_profiles: Keys = []
    enabled: bool = True


class UpdateFlavor(resource.Base, kw_only=True):
    """PUT /flavors/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    service_profiles: Keys | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class CreateProfile(resource.Owned, kw_only=True):
    """POST /service_profiles."""

    description: Words | None = ""
    driver: Words = ""
    metainfo: Long = ""
    enabled: bool = True


class UpdateProfile(resource.Base, kw_only=True):
    """PUT /service_profiles/{id}."""

    description: Words | UnsetType = UNSET
    driver: Words | UnsetType = UNSET
    metainfo: Long | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Binding(resource.Base, kw_only=True):
    """POST /flavors/{id}/service_profiles."""

    id: str


def _nobodys(row: Any) -> dict[str, Any]:
    return {}


def _load_flavors(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    return actions.profiles_of(tx, [row.id for row in rows])


def _flavor(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "service_type": row.service_type,
        "enabled": row.enabled,
        "service_profiles": [each.id for each in loaded.get(row.id, ())],
    }


def _load_profiles(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    return actions.flavors_of(tx, [row.id for row in rows])


def _profile(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "description": row.description,
        "driver": row.driver,
        "metainfo": row.metainfo,
        "enabled": row.enabled,
        "flavors": list(loaded.get(row.id, ())),
    }


FLAVOR = Noun(
    name="flavor",
    plural="flavors",
    title="Flavor",
    table=flavor,
    select=select(flavor),
    scope=true(),
    render=_flavor,
    lacks=resource.NO_REVISIONS,
    load=_load_flavors,
    target=_nobodys,
    columns={name: flavor.c[name] for name in ("description", "service_type", "enabled")},
)
PROFILE = Noun(
    name="service_profile",
    plural="service_profiles",
    title="Service Profile",
    table=profile,
    select=select(profile),
    scope=true(),
    render=_profile,
    lacks=resource.NO_REVISIONS,
    load=_load_profiles,
    target=_nobodys,
    columns={name: profile.c[name] for name in ("description", "driver", "enabled")},
    orders={"metainfo": profile.c.metainfo},
)
