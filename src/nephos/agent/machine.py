"""The drivers of a real host: libvirt and Linux wiring, with the libvirtd that belongs to this cloud."""

from __future__ import annotations

from pathlib import Path

from nephos.errors import SettingsError
from nephos.hypervisor import daemon
from nephos.hypervisor.libvirt.driver import LibvirtHypervisor
from nephos.settings import DEFAULT_STATE, Settings
from nephos.wiring.base import WiringSettings
from nephos.wiring.linux.driver import LinuxWiring


def real_drivers(chosen: Settings) -> tuple[LibvirtHypervisor, LinuxWiring, daemon.Daemon]:
    """Connect to libvirt, started if need be, and take charge of the host's wiring. Raises HostFault, SettingsError."""
    acceleration = chosen.host.acceleration or "tcg"
    if acceleration not in ("kvm", "tcg"):
        raise SettingsError(f"host.acceleration: {acceleration!r} is neither kvm nor tcg")
    libvirtd = ensure_libvirt(chosen, kvm=acceleration == "kvm")
    hypervisor = LibvirtHypervisor(
        libvirtd.socket,
        state_dir=chosen.agent_dir,
        cloud_id=chosen.cloud_id,
        acceleration=acceleration,
        lib_dir=libvirtd.lib_dir,
    )
    wiring = LinuxWiring(
        WiringSettings(
            tunnel_address=chosen.host.tunnel_address or None,
            tunnel_port=chosen.host.tunnel_port,
            tunnel_fallback=chosen.host.tunnel_fallback,
            physical=chosen.host.physical,
            switch=chosen.host.switch,
            underlay=chosen.host.underlay,
            meter_seconds=chosen.host.meter_seconds,
            bandwidths={name: each.egress for name, each in chosen.host.bandwidths.items()},
        ),
        state_dir=chosen.agent_dir / "wiring",
        cloud_id=chosen.cloud_id,
    )
    return hypervisor, wiring, libvirtd


def ensure_libvirt(chosen: Settings, *, kvm: bool) -> daemon.Daemon:
    """The machine's libvirtd for the default state, a private one for any other; see `hypervisor.daemon`."""
    directory = chosen.agent_dir / "libvirt"
    if chosen.host.libvirt:
        return daemon.Daemon(socket=Path(chosen.host.libvirt))
    return daemon.system(directory, kvm=kvm) if chosen.state == DEFAULT_STATE else daemon.private(directory, kvm=kvm)
