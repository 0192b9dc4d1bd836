"""Bodies of `/servers/{id}/action`: one key, the action's name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from nephos.compute.wire import Strict, Whole


class RebootType(Strict):
    type: Literal["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]


class Reboot(Strict):
    reboot: RebootType


class LockReason(Strict):
    locked_reason: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET


class Lock(Strict):
    lock: LockReason | None = None


class OldLock(Strict):
    lock: Any = None


class State(Strict):
    state: Literal["active", "error"]


class ResetState(Strict):
    reset: State = field(name="os-resetState")


class ConsoleLength(Strict):
    length: Whole | None = None


class ConsoleOutput(Strict):
    console: ConsoleLength = field(name="os-getConsoleOutput")
