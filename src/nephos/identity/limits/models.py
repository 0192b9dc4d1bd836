"""Models: how the limits of projects bind those of their parents.

Source: Keystone administrator guide, "Unified limits", "Enforcement models". Unlimited (-1) is more than any number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, or_, select

from nephos import errors
from nephos.identity.assignments.effective import below
from nephos.identity.limits.store import limit, registered_limit
from nephos.identity.projects import actions as projects
from nephos.kernel.db.engine import Tx

if TYPE_CHECKING:
    from nephos.settings import Settings

FLAT, STRICT = "flat", "strict_two_level"
DESCRIPTIONS = {
    FLAT: "Limit enforcement and validation does not take project hierarchy into consideration.",
    STRICT: "This model requires project hierarchy never exceeds a depth of two",
}
_DEEPEST = 2


def document(model: str) -> dict[str, str]:
    """What GET /v3/limits/model shows."""
    return {"name": model, "description": DESCRIPTIONS[model]}


def deepest(settings: Settings) -> int:
    """How many levels of projects there may be below a domain."""
    return _DEEPEST if settings.limits.model == STRICT else projects.DEEPEST


def check_depth(tx: Tx, settings: Settings) -> None:
    """Raises SettingsError when there are projects already that the model does not allow."""
    if settings.limits.model != STRICT:
        return
    wrong = projects.too_deep(tx, _DEEPEST)
    if wrong:
        raise errors.SettingsError(
            f"limits.model: {STRICT} allows {_DEEPEST} levels of projects below a domain; these are deeper: "
            f"{', '.join(sorted(wrong)[:10])}"
        )


def check(tx: Tx, model: str, changed: Iterable[Row[Any]]) -> None:
    """To be asked once the limits of a request are written: all of them count together.

    Raises Forbidden for one that is more than its parent's, or less than a child's.
    """
    if model != STRICT:
        return
    for row in changed:
        if not _fits(tx, row):
            place = f"project_id: {row.project_id}" if row.project_id else f"domain_id: {row.domain_id}"
            raise errors.Forbidden(
                f"Invalid resource limit: The resource limit ({place}, resource_name: {row.resource_name}, "
                f"resource_limit: {row.resource_limit}, service_id: {row.service_id}, region_id: {row.region_id}) "
                "doesn't satisfy current hierarchy model."
            )


def _fits(tx: Tx, row: Row[Any]) -> bool:
    own = _size(row.resource_limit)
    if row.project_id is not None and own > _of_parent(tx, row):
        return False
    children = below(tx, [row.project_id or row.domain_id])
    numbers = tx.column(
        select(limit.c.resource_limit).where(
            limit.c.registered_id == row.registered_id, limit.c.project_id.in_(children)
        )
    )
    return all(_size(number) <= own for number in numbers)


def _of_parent(tx: Tx, row: Row[Any]) -> float:
    """The limit of the domain or project above; where it has none, what is registered."""
    above = projects.find(tx, row.project_id).parent_id
    own = tx.scalar(
        select(limit.c.resource_limit).where(
            limit.c.registered_id == row.registered_id, or_(limit.c.project_id == above, limit.c.domain_id == above)
        )
    )
    if own is None:
        own = tx.scalar(select(registered_limit.c.default_limit).where(registered_limit.c.id == row.registered_id))
    return _size(own)


def _size(number: int) -> float:
    return float("inf") if number == -1 else number
