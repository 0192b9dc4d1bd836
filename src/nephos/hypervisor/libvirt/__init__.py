"""The libvirt driver: guests under QEMU, with KVM or in software."""

from nephos.hypervisor.libvirt.driver import LibvirtHypervisor

__all__ = ["LibvirtHypervisor"]
