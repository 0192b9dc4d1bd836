"""What can be done with flavors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import delete as delete_from
from sqlalchemy import select, update

from nephos import errors
from nephos.compute import notifications
from nephos.compute.flavors import store
from nephos.kernel.db.engine import Tx

_f, _a = store.flavor, store.access


class Stock(NamedTuple):
    """A flavor that every cloud starts with (S1-50)."""

    id: str
    name: str
    ram_mb: int
    root_gb: int
    vcpus: int


STOCK = (
    Stock("1", "m1.tiny", 512, 1, 1),
    Stock("2", "m1.small", 2048, 20, 1),
    Stock("3", "m1.medium", 4096, 40, 2),
    Stock("4", "m1.large", 8192, 80, 4),
    Stock("5", "m1.xlarge", 16384, 160, 8),
    Stock("42", "m1.nano", 192, 1, 1),
    Stock("84", "m1.micro", 256, 1, 1),
    Stock("c1", "cirros256", 256, 1, 1),
    Stock("d1", "ds512M", 512, 5, 1),
    Stock("d2", "ds1G", 1024, 10, 1),
    Stock("d3", "ds2G", 2048, 10, 2),
    Stock("d4", "ds4G", 4096, 20, 4),
)


def seed(tx: Tx) -> None:
    """Make the stock flavors that are not there. One that an operator removed stays away once others are there."""
    if tx.scalar(select(_f.c.number).limit(1)) is not None:
        return
    for each in STOCK:
        create(tx, flavor_id=each.id, name=each.name, ram_mb=each.ram_mb, root_gb=each.root_gb, vcpus=each.vcpus)


def get(tx: Tx, flavor_id: str, project_id: str | None, *, everything: bool = False) -> Any:
    """A flavor that the project may use; with `everything` any. Raises NotFound."""
    row = store.by_id(tx, flavor_id)
    if row is None or (not everything and not row.public and row.id not in store.granted(tx, project_id)):
        raise errors.NotFound(f"Flavor {flavor_id} could not be found.")
    return row


def create(tx: Tx, *, flavor_id: str, name: str, **values: Any) -> Any:
    """Add a flavor; answers its row. Raises Conflict when the name or the id is taken."""
    if tx.scalar(select(_f.c.number).where(_f.c.name == name)) is not None:
        raise errors.Conflict(f"Flavor with name {name} already exists.")
    if store.by_id(tx, flavor_id) is not None:
        raise errors.Conflict(f"Flavor with ID {flavor_id} already exists.")
    row = {
        "id": flavor_id,
        "name": name,
        "ephemeral_gb": 0,
        "swap_mb": 0,
        "rxtx_factor": 1.0,
        "public": True,
        "disabled": False,
        "description": None,
        "extra_specs": {},
        "created_at": tx.now,
        "updated_at": None,
    }
    tx.insert(_f, row | values)
    made = store.by_id(tx, flavor_id)
    notifications.flavor(tx, "create", made)
    return made


def describe(tx: Tx, flavor_id: str, description: str | None) -> Any:
    """Set the description; answers the row. Raises NotFound."""
    get(tx, flavor_id, None, everything=True)
    tx.execute(update(_f).where(_f.c.id == flavor_id).values(description=description, updated_at=tx.now))
    row = store.by_id(tx, flavor_id)
    notifications.flavor(tx, "update", row)
    return row


def delete(tx: Tx, flavor_id: str) -> None:
    """Remove a flavor; servers keep their copy of it. Raises NotFound."""
    row = get(tx, flavor_id, None, everything=True)
    notifications.flavor(tx, "delete", row)
    tx.execute(delete_from(_a).where(_a.c.flavor_id == flavor_id))
    tx.execute(delete_from(_f).where(_f.c.id == flavor_id))


def set_specs(tx: Tx, flavor_id: str, specs: Mapping[str, str]) -> None:
    """Add or change extra specs. Raises NotFound."""
    row = get(tx, flavor_id, None, everything=True)
    _write_specs(tx, flavor_id, {**(row.extra_specs or {}), **specs})


def unset_specs(tx: Tx, flavor_id: str, keys: Iterable[str]) -> None:
    """Remove extra specs. Raises NotFound for the flavor or for a key that it does not have."""
    row = get(tx, flavor_id, None, everything=True)
    specs = dict(row.extra_specs or {})
    for key in keys:
        if specs.pop(key, None) is None:
            raise errors.NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
    _write_specs(tx, flavor_id, specs)


def grant(tx: Tx, flavor_id: str, project_id: str, *, strict: bool) -> None:
    """Let a project use a private flavor. Raises Conflict when it may already, or (`strict`) the flavor is public."""
    row = get(tx, flavor_id, None, everything=True)
    if strict and row.public:
        raise errors.Conflict("Can not add access to a public flavor.")
    if project_id in store.projects_of(tx, flavor_id):
        raise errors.Conflict(
            f"Flavor access already exists for flavor {flavor_id} and project {project_id} combination."
        )
    tx.insert(_a, {"flavor_id": flavor_id, "project_id": project_id})
    notifications.flavor(tx, "update", row)


def revoke(tx: Tx, flavor_id: str, project_id: str) -> None:
    """Raises NotFound when the project has no access."""
    row = get(tx, flavor_id, None, everything=True)
    if not tx.execute(delete_from(_a).where(_a.c.flavor_id == flavor_id, _a.c.project_id == project_id)).rowcount:
        raise errors.NotFound(f"Flavor access not found for {flavor_id} / {project_id} combination.")
    notifications.flavor(tx, "update", row)


def _write_specs(tx: Tx, flavor_id: str, specs: Mapping[str, str]) -> None:
    tx.execute(update(_f).where(_f.c.id == flavor_id).values(extra_specs=dict(specs), updated_at=tx.now))
    notifications.flavor(tx, "update", store.by_id(tx, flavor_id))
