"""What projects and domains can do. Source: Keystone API v3.14; the refusals are Keystone's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Row, bindparam, delete, func, select, update

from nephos import errors
from nephos.identity import notifications, removal
from nephos.identity.assignments.effective import above, below
from nephos.identity.groups.store import group
from nephos.identity.projects.store import NO_DOMAIN, project, tag
from nephos.identity.roles.store import role
from nephos.identity.users.store import user
from nephos.identity.wire import MOST_TAGS, merged
from nephos.kernel.db.engine import Tx

DEEPEST = 5
"""How many levels of projects there may be below a domain; Keystone's default."""

_ids: BindParameter[Any] = bindparam("ids", expanding=True)
_BY_ID = select(project).where(project.c.id == bindparam("id"))
_BY_IDS = select(project).where(project.c.id.in_(_ids))
_NAMES = select(project.c.id, project.c.name, project.c.domain_id).where(project.c.id.in_(_ids))
_TAGS = select(tag.c.project_id, tag.c.name).where(tag.c.project_id.in_(_ids)).order_by(tag.c.name)
_BY_NAME = select(project).where(project.c.domain_id == bindparam("domain_id"), project.c.name == bindparam("name"))


def get(tx: Tx, project_id: str) -> Row[Any] | None:
    """A project or domain, None when there is none."""
    return tx.first(_BY_ID, {"id": project_id})


def find(tx: Tx, project_id: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, project_id)
    if row is None:
        raise errors.NotFound(f"Could not find project: {project_id}.")
    return row


def find_domain(tx: Tx, domain_id: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, domain_id)
    if row is None or not row.is_domain:
        raise errors.NotFound(f"Could not find domain: {domain_id}.")
    return row


def find_project(tx: Tx, name: str, domain: str = "default") -> Row[Any] | None:
    """A project by its name and its domain's id."""
    return tx.first(_BY_NAME, {"name": name, "domain_id": domain})


def projects_of(tx: Tx, ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Id, name and domain_id of projects and domains, by id; unknown ids are left out."""
    return {row.id: row for row in tx.all(_NAMES, {"ids": list(set(ids))})}


def rows_of(tx: Tx, ids: Iterable[str]) -> list[Row[Any]]:
    return list(tx.all(_BY_IDS, {"ids": list(set(ids))}))


def tags_of(tx: Tx, ids: Iterable[str]) -> dict[str, list[str]]:
    tags: dict[str, list[str]] = {}
    for row in tx.all(_TAGS, {"ids": list(ids)}):
        tags.setdefault(row.project_id, []).append(row.name)
    return tags


def create(tx: Tx, new: Mapping[str, Any], tags: Sequence[str], *, deepest: int = DEEPEST) -> Row[Any]:
    """A project or a domain from the columns of its row, at most `deepest` levels below its domain.

    Raises Conflict for a taken name or id, BadRequest for a parent or domain that does not exist or fit, Forbidden for
    one that is disabled or too deep.
    """
    values = {"created_at": tx.now, **new}
    if values["is_domain"]:
        if values.get("parent_id") or values.get("domain_id"):
            raise errors.BadRequest("A project acting as a domain has no parent and no domain.")
        values["domain_id"], values["parent_id"] = NO_DOMAIN, None
    else:
        _fit(tx, values, deepest)
    if get(tx, values["id"]) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store project - Duplicate ID, {values['id']}.")
    _free(tx, values["domain_id"], values["name"], values["is_domain"])
    tx.insert(project, values)
    set_tags(tx, values["id"], tags)
    notifications.tell(tx, "domain" if values["is_domain"] else "project", notifications.CREATED, values["id"])
    return find(tx, values["id"])


def _fit(tx: Tx, values: dict[str, Any], deepest: int) -> None:
    """The place in the hierarchy: under a project of the same domain, or under the domain."""
    parent_id = values.get("parent_id") or values["domain_id"]
    parent = get(tx, parent_id)
    if parent is None:
        raise errors.BadRequest(f"Could not find project: {parent_id}.")
    home_id = parent.id if parent.is_domain else parent.domain_id
    if values.get("domain_id") is None:
        values["domain_id"] = home_id
    if values["domain_id"] != home_id:
        raise errors.BadRequest("Cannot create project: its domain differs from its parent's.")
    home = get(tx, home_id)
    if home is None or not home.is_domain:
        raise errors.BadRequest(f"Could not find domain: {home_id}.")
    if not parent.enabled or not home.enabled:
        raise errors.Forbidden(
            f"Cannot create project: {parent.name if not parent.enabled else home.name} is disabled."
        )
    if not parent.is_domain and len(above(tx, parent.parent_id, home_id)) + 1 > deepest:
        raise errors.Forbidden(f"Max hierarchy depth reached for {parent.id} branch: {deepest} levels.")
    values["parent_id"] = parent.id


def too_deep(tx: Tx, deepest: int) -> list[str]:
    """The ids of projects that are more levels below their domain."""
    rows = tx.all(select(project.c.id, project.c.parent_id).where(project.c.is_domain.is_(False)))
    parents = {row.id: row.parent_id for row in rows}
    found = []
    for ident in parents:
        level, at = 0, ident
        while at in parents:
            level, at = level + 1, parents[at]
        if level > deepest:
            found.append(ident)
    return found


def _free(tx: Tx, domain_id: str, name: str, is_domain: bool) -> None:
    if tx.first(_BY_NAME, {"domain_id": domain_id, "name": name}) is not None:
        kind = "domain" if is_domain else "project"
        raise errors.Conflict(
            f"Conflict occurred attempting to store {kind} - it is not permitted to have two {kind}s with the same name"
            f"{' ' if is_domain else ' in the same domain '}: {name}."
        )


def change(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for a taken name, Forbidden for what Keystone forbids, BadRequest for what cannot change."""
    kind = "domain" if old.is_domain else "project"
    _unlocked(old, changes)
    for fixed in ("domain_id", "parent_id", "is_domain"):
        now = getattr(old, fixed) or None if fixed != "is_domain" else old.is_domain
        if fixed in changes and changes.pop(fixed) != now:
            raise (
                errors.Forbidden(f"Update of `{fixed}` is not allowed.")
                if fixed == "parent_id"
                else errors.BadRequest(f"Update of `{fixed}` is not allowed.")
            )
    tags = changes.pop("tags", None)
    if changes.get("name", old.name) != old.name:
        _free(tx, old.domain_id, changes["name"], old.is_domain)
    if "enabled" in changes and changes["enabled"] != old.enabled:
        _may_switch(tx, old, changes["enabled"])
        if not changes["enabled"]:
            changes["revoked_before"] = tx.now
    if "options" in changes:
        changes["options"] = merged(old.options, changes["options"])
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    if extra and not old.is_domain:
        changes["extra"] = merged(old.extra, extra)
    if changes:
        tx.execute(update(project).where(project.c.id == old.id).values(**changes))
    if tags is not None:
        set_tags(tx, old.id, tags)
    notifications.tell(tx, "project", notifications.UPDATED, old.id)
    if old.is_domain:
        notifications.tell(tx, "domain", notifications.UPDATED, old.id)
    return find(tx, old.id) if kind == "project" else find_domain(tx, old.id)


def _unlocked(old: Row[Any], changes: Mapping[str, Any]) -> None:
    """An immutable one can only be made mutable again."""
    if (old.options or {}).get("immutable") is True and changes.get("options", {}).get("immutable", True) is not False:
        raise errors.Forbidden(f"Cannot change {old.id}: it has the option `immutable`.")


def _may_switch(tx: Tx, row: Row[Any], enabled: bool) -> None:
    if row.is_domain:
        return
    if enabled:
        parents = [one for one in rows_of(tx, above(tx, row.parent_id, row.domain_id)) if not one.enabled]
        if parents:
            raise errors.Forbidden(f"Cannot enable project {row.id} since it has disabled parents: {parents[0].id}.")
        return
    if any(one.enabled for one in rows_of(tx, below(tx, [row.id]))):
        raise errors.Forbidden(f"Cannot disable project {row.id} since its subtree contains enabled projects.")


def remove(tx: Tx, row: Row[Any]) -> None:
    """Raises Forbidden for one that has projects below it, is immutable, or acts as an enabled domain."""
    if row.is_domain:
        return remove_domain(tx, row)
    _deletable(row)
    if below(tx, [row.id]):
        raise errors.Forbidden(
            f"Cannot delete the project {row.id} since it is not a leaf in the hierarchy. Delete the projects below first."
        )
    removal.projects(tx, [row.id])
    return None


def remove_domain(tx: Tx, row: Row[Any]) -> None:
    """With its projects, users, groups and roles. Raises Forbidden while it is enabled."""
    _deletable(row)
    if row.enabled:
        raise errors.Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    removal.users(tx, tx.column(select(user.c.id).where(user.c.domain_id == row.id)))
    removal.groups(tx, tx.column(select(group.c.id).where(group.c.domain_id == row.id)))
    removal.roles(tx, tx.column(select(role.c.id).where(role.c.domain_id == row.id)))
    removal.projects(tx, [*tx.column(select(project.c.id).where(project.c.domain_id == row.id)), row.id])


def _deletable(row: Row[Any]) -> None:
    if (row.options or {}).get("immutable") is True:
        raise errors.Forbidden(f"Cannot delete {row.id}: it has the option `immutable`.")


def set_tags(tx: Tx, project_id: str, tags: Sequence[str]) -> None:
    if len(set(tags)) != len(tags):
        raise errors.BadRequest("Invalid input for tags: one is there twice.")
    tx.execute(delete(tag).where(tag.c.project_id == project_id))
    tx.insert(tag, [{"project_id": project_id, "name": name} for name in tags])


def add_tag(tx: Tx, project_id: str, name: str) -> None:
    """Raises BadRequest when there are as many as there may be."""
    have = tags_of(tx, [project_id]).get(project_id, [])
    if name in have:
        return
    if len(have) >= MOST_TAGS:
        raise errors.BadRequest(f"A project has at most {MOST_TAGS} tags.")
    tx.insert(tag, {"project_id": project_id, "name": name})


def remove_tag(tx: Tx, project_id: str, name: str) -> None:
    """Raises NotFound."""
    found = tx.execute(delete(tag).where(tag.c.project_id == project_id, tag.c.name == name))
    if found.rowcount == 0:
        raise errors.NotFound(f"Could not find project tag: {name}.")


def tagged(tx: Tx, mode: str, names: Sequence[str]) -> Any:
    """A condition on projects for `tags` (all of these), `tags-any`, `not-tags` (not all) and `not-tags-any`."""
    some = select(tag.c.project_id).where(tag.c.name.in_(names))
    if mode in ("tags", "not-tags"):
        some = some.group_by(tag.c.project_id).having(func.count() == len(set(names)))
    return project.c.id.not_in(some) if mode.startswith("not-") else project.c.id.in_(some)
