"""Cards of a guest that is there: plugged and unplugged while it runs, and in its definition for later starts.

Functions take a libvirt domain and let libvirtError through.
"""

from __future__ import annotations

from typing import Any

import libvirt

from nephos.hypervisor.base import Nic
from nephos.hypervisor.libvirt import domain
from nephos.kernel import clock

UNPLUG_SECONDS = 20.0
_ASK_AGAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_LIVE, _CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


def plug(found: Any, nic: Nic) -> None:
    """Give it the card wherever it does not have it."""
    for flag, xml in _definitions(found):
        if domain.card_of(xml, nic.port_id) is None:
            found.attachDeviceFlags(domain.card(nic), flag)


def unplug(found: Any, port_id: str) -> bool:
    """Take the card away; False when the guest kept it. A running guest lets go when it has noticed: it is asked again
    every few seconds, because one that is still booting does not hear the first."""
    for flag, xml in _definitions(found):
        card = domain.card_of(xml, port_id)
        if card is not None and flag == _CONFIG:
            found.detachDeviceFlags(card, flag)
    until = clock.monotonic() + UNPLUG_SECONDS
    ask = clock.monotonic()
    while found.isActive():
        card = domain.card_of(found.XMLDesc(), port_id)
        now = clock.monotonic()
        if card is None:
            return True
        if now >= until:
            return False
        if now >= ask:
            _ask(found, card)
            ask = now + _ASK_AGAIN_SECONDS
        clock.sleep(_LOOK_SECONDS)
    return True


def _ask(found: Any, card: str) -> None:
    try:
        found.detachDeviceFlags(card, _LIVE)
    except libvirt.libvirtError as error:
        # It is already asked, or the card went between the look and the question: the next look tells.
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_DEVICE_MISSING):
            raise


def _definitions(found: Any) -> list[tuple[int, str]]:
    """What libvirt will start, and what runs if it does: flag and XML of each."""
    kept = [(_CONFIG, found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))]
    return [*kept, (_LIVE, found.XMLDesc())] if found.isActive() else kept
