"""The body of the action `changePassword`."""

from __future__ import annotations

from msgspec import field

from nephos.compute.wire import Strict


class Password(Strict):
    admin_pass: str = field(name="adminPass")


class ChangePassword(Strict):
    password: Password = field(name="changePassword")
