"""Who a policy lets see what: the clauses that nouns narrow their lists with."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_

from nephos.network import filters, resource
from nephos.network.networks.store import EXTERNAL, SHARED, rbac


def shared_with(key: ColumnElement[str], project_id: str | ColumnElement[str] = resource.VIEWER) -> ColumnElement[bool]:
    """Whether the resource of this id is shared with a project, or with all."""
    return exists().where(rbac.c.object_id == key, rbac.c.action == SHARED, _whom(project_id))


def seen_by(key: ColumnElement[str], project_id: str | ColumnElement[str] = resource.VIEWER) -> ColumnElement[bool]:
    """Whether a policy lets the project see a network: to use it, or as an external one."""
    what = or_(rbac.c.action == SHARED, rbac.c.action == EXTERNAL)
    return exists().where(rbac.c.object_id == key, what, _whom(project_id))


def flag(clause: ColumnElement[bool]) -> filters.Filter:
    """The filter `shared`."""

    def chosen(values: list[str], view: resource.View) -> ColumnElement[bool]:
        return or_(*[clause if each else ~clause for each in sorted({filters.boolean(value) for value in values})])

    return chosen


def _whom(project_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    return or_(rbac.c.target == "*", rbac.c.target == project_id)
