"""What unified limits can do. How those of a project and of its domain bind each other is the model's: `models`.

Source: Keystone API v3.14, "Unified limits".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Select, delete, select, update

from nephos import errors
from nephos.identity.catalog.store import region, service
from nephos.identity.limits.store import limit, registered_limit
from nephos.identity.projects import actions as projects
from nephos.kernel.db.engine import Tx

_r = registered_limit.c


def all_limits() -> Select[Any]:
    """Limits with the service, region and resource that they are for."""
    return select(limit, _r.service_id, _r.region_id, _r.resource_name).join(
        registered_limit, _r.id == limit.c.registered_id
    )


def find_registered(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = tx.first(select(registered_limit).where(_r.id == ident))
    if row is None:
        raise errors.NotFound(f"Could not find registered limit for {ident}.")
    return row


def get(tx: Tx, ident: str) -> Row[Any] | None:
    return tx.first(all_limits().where(limit.c.id == ident))


def find(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, ident)
    if row is None:
        raise errors.NotFound(f"Could not find limit for {ident}.")
    return row


def _same(tx: Tx, service_id: str, region_id: str | None, name: str) -> Row[Any] | None:
    where = [_r.service_id == service_id, _r.resource_name == name]
    where.append(_r.region_id.is_(None) if region_id is None else _r.region_id == region_id)
    return tx.first(select(registered_limit).where(*where))


def _exist(tx: Tx, values: Mapping[str, Any]) -> None:
    for key, table in (("service_id", service), ("region_id", region)):
        ident = values.get(key)
        if ident is not None and tx.first(select(table.c.id).where(table.c.id == ident)) is None:
            raise errors.BadRequest(f"Could not find {key.removesuffix('_id')}: {ident}.")


def register(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for one that is there already, BadRequest for a service or region that is not."""
    _exist(tx, new)
    if _same(tx, new["service_id"], new["region_id"], new["resource_name"]) is not None:
        raise errors.Conflict("Conflict occurred attempting to store registered_limit - Duplicate entry.")
    tx.insert(registered_limit, {"created_at": tx.now, **new})
    return find_registered(tx, new["id"])


def change_registered(tx: Tx, old: Row[Any], changes: Mapping[str, Any]) -> Row[Any]:
    """Raises Forbidden for another service, region or name while limits refer to it, Conflict for a taken one."""
    moved = {name: changes[name] for name in ("service_id", "region_id", "resource_name") if name in changes}
    moved = {name: value for name, value in moved.items() if value != getattr(old, name)}
    if moved:
        _unused(tx, old, "update")
        _exist(tx, moved)
        now = {name: moved.get(name, getattr(old, name)) for name in ("service_id", "region_id", "resource_name")}
        if _same(tx, now["service_id"], now["region_id"], now["resource_name"]) is not None:
            raise errors.Conflict("Conflict occurred attempting to store registered_limit - Duplicate entry.")
    tx.execute(update(registered_limit).where(_r.id == old.id).values(**changes))
    return find_registered(tx, old.id)


def remove_registered(tx: Tx, row: Row[Any]) -> None:
    """Raises Forbidden while limits refer to it."""
    _unused(tx, row, "delete")
    tx.execute(delete(registered_limit).where(_r.id == row.id))


def _unused(tx: Tx, row: Row[Any], verb: str) -> None:
    if tx.first(select(limit.c.id).where(limit.c.registered_id == row.id)) is not None:
        raise errors.Forbidden(
            f"Unable to {verb} registered limit {row.id} because there are project limits associated with it."
        )


def create(tx: Tx, new: Mapping[str, Any], service_id: str, region_id: str | None, name: str) -> Row[Any]:
    """Raises Conflict for one that is there already, BadRequest for what does not exist or is not registered."""
    project_id, domain_id = new["project_id"], new["domain_id"]
    if (project_id is None) is (domain_id is None):
        raise errors.BadRequest("Invalid input for limits: each is for a project or for a domain.")
    place = projects.get(tx, project_id or domain_id)
    if place is None or (domain_id is not None and not place.is_domain):
        raise errors.BadRequest(f"Could not find {'domain' if domain_id else 'project'}: {project_id or domain_id}.")
    if place.is_domain:
        # a domain is a project too, and its limit is the domain's whichever name it came by
        project_id, domain_id = None, place.id
    registered = _same(tx, service_id, region_id, name)
    if registered is None:
        raise errors.BadRequest(
            f"Unable to create a limit that has no corresponding registered limit: {name} of service {service_id}."
        )
    same = select(limit.c.id).where(limit.c.registered_id == registered.id)
    owner = limit.c.project_id == project_id if project_id is not None else limit.c.domain_id == domain_id
    if tx.first(same.where(owner)) is not None:
        raise errors.Conflict("Conflict occurred attempting to store limit - Duplicate entry.")
    places = {"project_id": project_id, "domain_id": domain_id}
    tx.insert(limit, {"created_at": tx.now, "registered_id": registered.id, **new, **places})
    return find(tx, new["id"])


def change(tx: Tx, ident: str, changes: Mapping[str, Any]) -> Row[Any]:
    tx.execute(update(limit).where(limit.c.id == ident).values(**changes))
    return find(tx, ident)


def remove(tx: Tx, ident: str) -> None:
    tx.execute(delete(limit).where(limit.c.id == ident))
