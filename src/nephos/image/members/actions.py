"""Sharing an image with projects (image API v2, "Sharing")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update

from nephos import errors
from nephos.image import notifications
from nephos.image.images.actions import Image, change, is_admin
from nephos.image.members.store import member
from nephos.kernel.auth.who import Who
from nephos.kernel.db.engine import Tx

PENDING, ACCEPTED, REJECTED = "pending", "accepted", "rejected"
MOST = 128


def members_of(tx: Tx, image: Image, who: Who) -> Sequence[Any]:
    """The members that `who` may see: the owner and an admin all, a member itself."""
    chosen = select(member).where(member.c.image_id == image.row.id).order_by(member.c.created_at, member.c.member_id)
    if not is_admin(who) and image.row.owner != who.project_id:
        chosen = chosen.where(member.c.member_id == who.project_id)
    return tx.all(chosen)


def get(tx: Tx, image: Image, member_id: str, who: Who) -> Any:
    """Raises NotFound for a member that is not there or that `who` may not see."""
    for row in members_of(tx, image, who):
        if row.member_id == member_id:
            return row
    raise errors.NotFound(f"{member_id} not found in the member list of the image {image.row.id}.")


def add(tx: Tx, image: Image, member_id: str) -> Any:
    """Raises Conflict for one that is a member already, TooLarge beyond the limit of members."""
    of_image = member.c.image_id == image.row.id
    if tx.first(select(member).where(of_image, member.c.member_id == member_id)) is not None:
        raise errors.Conflict(f"Member {member_id} is duplicated for image {image.row.id}")
    if tx.scalar(select(func.count()).select_from(member).where(of_image)) >= MOST:
        raise errors.TooLarge(f"Image member limit exceeded for image {image.row.id}: at most {MOST}.")
    tx.insert(
        member,
        {
            "image_id": image.row.id,
            "member_id": member_id,
            "status": PENDING,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    change(tx, image.row.id)
    row = tx.first(select(member).where(of_image, member.c.member_id == member_id))
    notifications.member(tx, notifications.MEMBER_CREATE, row)
    return row


def answer(tx: Tx, image: Image, member_id: str, status: str) -> Any:
    """Set what a member says to the offer. Raises NotFound when it is none any more."""
    of_member = (member.c.image_id == image.row.id) & (member.c.member_id == member_id)
    tx.execute(update(member).where(of_member).values(status=status, updated_at=tx.now))
    row = tx.first(select(member).where(of_member))
    if row is None:
        raise errors.NotFound(f"{member_id} not found in the member list of the image {image.row.id}.")
    notifications.member(tx, notifications.MEMBER_UPDATE, row)
    return row


def remove(tx: Tx, image: Image, member_id: str) -> None:
    """Raises NotFound when it is no member."""
    of_member = (member.c.image_id == image.row.id) & (member.c.member_id == member_id)
    row = tx.first(select(member).where(of_member))
    if row is None:
        raise errors.NotFound(f"{member_id} not found in the member list of the image {image.row.id}.")
    tx.execute(delete(member).where(of_member))
    change(tx, image.row.id)
    notifications.member(tx, notifications.MEMBER_DELETE, row)
