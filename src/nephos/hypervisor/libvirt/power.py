"""Power of a domain: what it is, and how to change it.

Functions take a libvirt domain and let libvirtError through.
"""

from __future__ import annotations

from typing import Any

import libvirt

from nephos.hypervisor.base import Power
from nephos.kernel import clock

_ASK_AGAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.1

_POWERS = {
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.SUSPENDED,
}


def of(domain: Any) -> Power:
    """The guest's power. A domain that libvirt found dead, or that was saved to disk, is not just shut down."""
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_SHUTOFF:
        if reason in (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED):
            return Power.CRASHED
        if reason == libvirt.VIR_DOMAIN_SHUTOFF_SAVED:
            return Power.SUSPENDED
    if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_CRASHED:
        return Power.CRASHED
    return _POWERS.get(state, Power.CRASHED)


def on(domain: Any) -> None:
    """Start it if it is off, let it go on if it is paused."""
    state, _ = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()
    elif not domain.isActive():
        try:
            domain.create()
        except libvirt.libvirtError:
            if not domain.isActive():
                raise


def hold(domain: Any) -> None:
    """Stop its processors."""
    if of(domain) is not Power.PAUSED:
        domain.suspend()


def save(domain: Any) -> None:
    """Save its memory and switch it off; `on` goes on from there."""
    if of(domain) is not Power.SUSPENDED:
        domain.managedSave(0)


def forget_memory(domain: Any) -> None:
    """Have it boot afresh, though its memory was saved."""
    if domain.hasManagedSaveImage():
        domain.managedSaveRemove()


def off(domain: Any) -> None:
    """Pull the plug."""
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or domain.isActive():
            raise


def shut_down(domain: Any, timeout: float) -> bool:
    """Press the power button, again every ten seconds (a guest that is still booting does not see the first), until
    the guest is off. False when it is not after `timeout` seconds."""
    until = clock.monotonic() + timeout
    ask = clock.monotonic()
    while domain.isActive():
        now = clock.monotonic()
        if now >= until or of(domain) is not Power.RUNNING:
            return False
        if now >= ask:
            try:
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            except libvirt.libvirtError:
                if domain.isActive():
                    raise
            ask = now + _ASK_AGAIN_SECONDS
        clock.sleep(_LOOK_SECONDS)
    return True
