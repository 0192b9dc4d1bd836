"""Guests on the wire: the desired item `guest` and the tasks that make, change and destroy one."""

from __future__ import annotations

import msgspec

from nephos.hypervisor.base import Guest, Nic


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a task needs. `link` opens its bytes for this task and host only; `sha256` is of the stored bytes."""

    id: str
    size: int
    sha256: str
    format: str
    link: str


class GuestItem(msgspec.Struct, frozen=True, kw_only=True):
    """The desired item `guest`: what metadata answers, and whether the guest should run.

    `data` is an encoded `agent.guestdata.GuestData`; `ports` map the guest's port ids to their addresses. `aside` is that
    the host keeps the guest as it was before it moved; `here` that it lives on this host.
    """

    id: str
    power: str
    data: msgspec.Raw
    ports: tuple[str, ...] = ()
    aside: bool = False
    here: bool = True


class CreateGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.create`. The metadata is the `guest` item's, which comes with or before the task."""

    guest: Guest
    root: Image | None = None
    kernel: Image | None = None
    ramdisk: Image | None = None


class RebuildGuest(CreateGuest, frozen=True, kw_only=True):
    """Task `guest.rebuild`: the guest anew, its old disks given up but for the ephemeral one where that is to be kept.
    Without `start` it is made and left off."""

    keep_ephemeral: bool = False
    start: bool = True


class SetPassword(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.password`: the agent in the guest is to give a user another password."""

    id: str
    user: str
    password: str


class DumpGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.dump`: interrupt the guest, whose kernel then writes a dump if it was set up to."""

    id: str


class RescueGuest(CreateGuest, frozen=True, kw_only=True):
    """Task `guest.rescue`: the guest from other images. `properties` are those of its root; `timeout` seconds before the
    plug is pulled."""

    properties: dict[str, str] = {}
    timeout: float = 60


class UnrescueGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.unrescue`: the guest from its own disks again, and running where `start`."""

    id: str
    start: bool = True


class DestroyGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.destroy`: the tombstone."""

    id: str


class SetPower(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.power`: action is start (which also ends a pause or suspension), stop, reboot, reset, pause or suspend;
    `timeout` seconds before the plug is pulled."""

    id: str
    action: str
    timeout: float = 60


class TakeSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.snapshot`: keep what the root disk holds. Its value is the `Part` that the server then asks for."""

    id: str


class DropSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.drop_snapshot`: what was kept goes."""

    id: str


class PlugNic(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.plug`: one more card for a guest; its port comes with or before the task."""

    id: str
    nic: Nic


class UnplugNic(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.unplug`: the port is taken from the host only after the card is out."""

    id: str
    port_id: str


class LeaveGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.leave`: stop the guest, after `timeout` seconds by its plug, and set it aside."""

    id: str
    timeout: float = 60


class ReturnGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.return`: the guest that was set aside is the host's again."""

    id: str
    start: bool = True


class ForgetGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.forget`: what was set aside of a guest goes."""

    id: str


class ReceiveGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.receive`: make a guest of the parts of one that was set aside, on the host that `link` leads to, or here
    where there is none. `root` is the image below its root disk while the image service has it."""

    guest: Guest
    link: str | None = None
    root: Image | None = None
    start: bool = True


class ExpectGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.expect`: a guest is to come running from another host. Answers an `Expectation`."""

    guest: Guest
    link: str
    root: Image | None = None


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `guest.expect`: where the guest's files are on that host, and the server that it is reached by."""

    home: str
    server: str


class SendGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.send`: move a running guest to the host that expects it."""

    id: str
    link: str
    to: Expectation


class KeepGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.keep`, behind `guest.send`: whether the guest is still here, when sending it is over."""

    id: str


class SettleGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.settle`: the guest came, and its ports with it."""

    id: str


class UnexpectGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.unexpect`: the guest does not come."""

    id: str
    ports: tuple[str, ...] = ()


class SteerGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Task `guest.steer`, beside the one that it is about: `hurry` or `abort` a guest that is being sent."""

    server: str
    action: str


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """The subject of the question `piece`: so many bytes of a part of a guest that is set aside."""

    guest: str
    name: str
    offset: int
    length: int
