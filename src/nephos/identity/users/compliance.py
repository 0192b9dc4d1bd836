"""What passwords must be like, and what wrong ones cost. Each rule is off unless the settings switch it on.

Source: Keystone administrator guide, "Security compliance and PCI-DSS"; a user's options exempt it from some.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Row, delete, select, update

from nephos import errors
from nephos.identity.users.store import password, user
from nephos.kernel import clock
from nephos.kernel.auth.passwords import Passwords
from nephos.kernel.db.engine import Tx
from nephos.settings import Security

DAY = 86_400_000_000


def _exempt(row: Row[Any], option: str) -> bool:
    return (row.options or {}).get(option) is True


def strong(rules: Security, new: str) -> None:
    """Raises BadRequest for a password that the operator's pattern does not match."""
    if rules.password_regex and not re.match(rules.password_regex, new):
        words = rules.password_words or f"it must match {rules.password_regex}"
        raise errors.BadRequest(f"The password does not match the requirements: {words}.")


def changeable(rules: Security, row: Row[Any]) -> None:
    """Raises BadRequest when the user itself may not change its password yet, or ever."""
    if _exempt(row, "lock_password"):
        raise errors.BadRequest("The password of this user cannot be changed by the user.")
    if rules.password_least_days and row.password_changed_at is not None and not _must_change(row):
        wait = row.password_changed_at + rules.password_least_days * DAY - clock.now_us()
        if wait > 0:
            raise errors.BadRequest(
                f"Cannot change password before minimum age {rules.password_least_days} days is met: "
                f"{-(-wait // DAY)} days from now."
            )


def _must_change(row: Row[Any]) -> bool:
    return row.password_expires_at is not None and row.password_expires_at <= clock.now_us()


def former(tx: Tx, rules: Security, row: Row[Any]) -> list[str]:
    """The hashes that a new password is compared with, the present one first."""
    if rules.password_history < 2:
        return []
    older = tx.column(
        select(password.c.hash)
        .where(password.c.user_id == row.id)
        .order_by(password.c.number.desc())
        .limit(rules.password_history - 1)
    )
    return [row.password_hash, *older]


def unused(rules: Security, passwords: Passwords, hashes: list[str], new: str) -> None:
    """Raises BadRequest for one of the former passwords. It hashes: not inside a unit of work."""
    if any(passwords.verify(new, one) for one in hashes):
        raise errors.BadRequest(
            f"The new password cannot be identical to a previous password. The total number which includes the new "
            f"password must be unique is {rules.password_history}."
        )


def forget(tx: Tx, rules: Security, user_id: str) -> None:
    """Keep no more former passwords than are asked about."""
    keep = max(0, rules.password_history - 1)
    numbers = tx.column(
        select(password.c.number).where(password.c.user_id == user_id).order_by(password.c.number.desc())
    )
    if len(numbers) > keep:
        tx.execute(delete(password).where(password.c.user_id == user_id, password.c.number.in_(numbers[keep:])))


def expiry(rules: Security, options: dict[str, Any], now: int, *, by_user: bool) -> int | None:
    """When a password that is set `now` ends, in microseconds; None for never."""
    if rules.password_change_first and not by_user and not options.get("ignore_change_password_upon_first_use"):
        return now
    if rules.password_days and not options.get("ignore_password_expiry"):
        return now + rules.password_days * DAY
    return None


def locked_out(rules: Security, row: Row[Any]) -> bool:
    """Whether wrong passwords lock this user out now."""
    if not rules.lockout_attempts or row.failures < rules.lockout_attempts:
        return False
    if _exempt(row, "ignore_lockout_failure_attempts"):
        return False
    return row.failed_at is not None and row.failed_at + rules.lockout_seconds * 1_000_000 > clock.now_us()


def inactive(rules: Security, row: Row[Any]) -> bool:
    if not rules.inactive_days or _exempt(row, "ignore_user_inactivity"):
        return False
    seen: int = row.last_seen_at or row.created_at
    return seen + rules.inactive_days * DAY <= clock.now_us()


def failed(tx: Tx, rules: Security, user_id: str) -> None:
    """One wrong password more; the first after a lock-out has passed counts anew."""
    row = tx.first(select(user.c.failures, user.c.failed_at).where(user.c.id == user_id))
    if row is None:
        return
    over = row.failed_at is not None and row.failed_at + rules.lockout_seconds * 1_000_000 <= tx.now
    count = 1 if over and row.failures >= rules.lockout_attempts else row.failures + 1
    tx.execute(update(user).where(user.c.id == user_id).values(failures=count, failed_at=tx.now))


def succeeded(tx: Tx, user_id: str) -> None:
    tx.execute(update(user).where(user.c.id == user_id).values(failures=0, failed_at=None, last_seen_at=tx.now))
