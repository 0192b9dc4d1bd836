"""The states of a server, Nova's words: what it is (vm_state), what is going on (task_state), how it runs (power_state)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BUILDING, ACTIVE, STOPPED, PAUSED, SUSPENDED = "building", "active", "stopped", "paused", "suspended"
ERROR, DELETED, RESIZED = "error", "deleted", "resized"

SCHEDULING, NETWORKING, SPAWNING, DELETING = "scheduling", "networking", "spawning", "deleting"
POWERING_OFF, POWERING_ON = "powering-off", "powering-on"
REBOOTING, REBOOTING_HARD = "rebooting", "rebooting_hard"
RESIZE_PREP, RESIZE_MIGRATING, RESIZE_MIGRATED = "resize_prep", "resize_migrating", "resize_migrated"
RESIZE_FINISH, RESIZE_CONFIRMING, RESIZE_REVERTING = "resize_finish", "resize_confirming", "resize_reverting"
MIGRATING = "migrating"
REBUILDING, REBUILD_SPAWNING = "rebuilding", "rebuild_spawning"
IMAGE_SNAPSHOT_PENDING, IMAGE_SNAPSHOT, IMAGE_BACKUP = "image_snapshot_pending", "image_snapshot", "image_backup"
IMAGE_PENDING_UPLOAD, IMAGE_UPLOADING = "image_pending_upload", "image_uploading"
UPDATING_PASSWORD = "updating_password"
RESCUED, RESCUING, UNRESCUING = "rescued", "rescuing", "unrescuing"
SHELVED, SHELVED_OFFLOADED = "shelved", "shelved_offloaded"
SHELVING, SHELVING_OFFLOADING, UNSHELVING = "shelving", "shelving_offloading", "unshelving"
SHELVING_IMAGE_PENDING_UPLOAD = "shelving_image_pending_upload"
SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
IMAGE_TASKS = (IMAGE_SNAPSHOT, IMAGE_PENDING_UPLOAD, IMAGE_UPLOADING)
IMAGING = frozenset({IMAGE_SNAPSHOT_PENDING, IMAGE_SNAPSHOT, IMAGE_BACKUP, IMAGE_PENDING_UPLOAD, IMAGE_UPLOADING})
PAUSING, UNPAUSING, SUSPENDING, RESUMING = "pausing", "unpausing", "suspending", "resuming"

NO_STATE, RUNNING, POWER_PAUSED, SHUTDOWN, CRASHED = 0, 1, 3, 4, 6
POWER = {
    "running": RUNNING,
    "paused": POWER_PAUSED,
    "shutdown": SHUTDOWN,
    "crashed": CRASHED,
    "suspended": SHUTDOWN,
    "missing": NO_STATE,
}
"""A suspended guest is off, its memory on disk (S1-53)."""
ROOT_DEVICE = "/dev/vda"

_STATUS: dict[str, tuple[str, dict[str, str]]] = {
    ACTIVE: (
        "ACTIVE",
        {
            "rebooting": "REBOOT",
            "reboot_pending": "REBOOT",
            "reboot_started": "REBOOT",
            "rebooting_hard": "HARD_REBOOT",
            "reboot_pending_hard": "HARD_REBOOT",
            "reboot_started_hard": "HARD_REBOOT",
            "updating_password": "PASSWORD",
            "rebuilding": "REBUILD",
            "rebuild_spawning": "REBUILD",
            "migrating": "MIGRATING",
            "resize_prep": "RESIZE",
            "resize_migrating": "RESIZE",
            "resize_migrated": "RESIZE",
            "resize_finish": "RESIZE",
        },
    ),
    BUILDING: ("BUILD", {}),
    STOPPED: (
        "SHUTOFF",
        {
            "resize_prep": "RESIZE",
            "resize_migrating": "RESIZE",
            "resize_migrated": "RESIZE",
            "resize_finish": "RESIZE",
            "rebuilding": "REBUILD",
            "rebuild_spawning": "REBUILD",
        },
    ),
    RESIZED: ("VERIFY_RESIZE", {"resize_reverting": "REVERT_RESIZE"}),
    PAUSED: ("PAUSED", {"migrating": "MIGRATING"}),
    SUSPENDED: ("SUSPENDED", {}),
    RESCUED: ("RESCUE", {}),
    ERROR: ("ERROR", {"rebuilding": "REBUILD", "rebuild_spawning": "REBUILD"}),
    DELETED: ("DELETED", {}),
    "soft-delete": ("SOFT_DELETED", {}),
    SHELVED: ("SHELVED", {}),
    SHELVED_OFFLOADED: ("SHELVED_OFFLOADED", {}),
}
WITH_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
WITH_FAULT = frozenset({"ERROR", "DELETED"})


def status(row: Any) -> str:
    """The one word that the API shows."""
    if row.deleted:
        return "DELETED"
    usual, tasks = _STATUS.get(row.vm_state, ("UNKNOWN", {}))
    return tasks.get(row.task_state, usual)


def meant_by(statuses: Iterable[str]) -> tuple[set[str], dict[str, set[str]]]:
    """What a status filter looks for: the vm_states that show one of them by themselves, and vm_state → the task states
    that make it show one. Words of no status are left out."""
    wanted = {each.upper() for each in statuses}
    usual = {vm_state for vm_state, (shown, _) in _STATUS.items() if shown in wanted}
    exact: dict[str, set[str]] = {}
    for vm_state, (_, tasks) in _STATUS.items():
        for task, shown in tasks.items():
            if shown in wanted:
                exact.setdefault(vm_state, set()).add(task)
    return usual, exact


def other_tasks(vm_state: str, wanted: Iterable[str]) -> set[str]:
    """Task states in which `vm_state` shows a status that is not wanted."""
    upper = {each.upper() for each in wanted}
    return {task for task, shown in _STATUS[vm_state][1].items() if shown not in upper}
