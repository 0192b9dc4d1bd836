"""The extra specs that are known, by namespace, and what values they take (checked from 2.86 on).

A name without namespace, or in one that is not known here, may hold anything: the operator's own filters read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nephos import errors

_COUNT, _NUMBER, _BOOL, _TEXT = r"[0-9]+", r"-?[0-9]+", r"(?i:1|0|t|f|true|false|on|off|y|n|yes|no)", r".*"
_CPUS = r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"

_KNOWN: dict[str, str] = {
    "accel:device_profile": _TEXT,
    r"aggregate_instance_extra_specs:.+": _TEXT,
    r"capabilities:.+": _TEXT,
    "hw:(cpu_realtime|hide_hypervisor_id|locked_memory|boot_menu|vif_multiqueue_enabled|mem_encryption|pmu)": _BOOL,
    "hw:(virtio_packed_ring|ephemeral_encryption)": _BOOL,
    "hw:(cpu_realtime_mask|cpu_dedicated_mask)": _CPUS,
    "hw:cpu_policy": "dedicated|shared|mixed",
    "hw:cpu_thread_policy": "prefer|isolate|require",
    "hw:emulator_threads_policy": "isolate|share",
    "hw:mem_page_size": r"large|small|any|\d+([kKMGT]i?)?(b|bit|B)?",
    r"hw:(numa_nodes|cpu_sockets|cpu_cores|cpu_threads|cpu_max_sockets|cpu_max_cores|cpu_max_threads)": r"0*[1-9]\d*",
    r"hw:numa_cpus\.\d+": _CPUS,
    r"hw:numa_mem\.\d+": r"0*[1-9]\d*",
    "hw:pci_numa_affinity_policy": "required|preferred|legacy|socket",
    "hw:mem_encryption_model": "amd-sev|amd-sev-es",
    "hw:pmem": r"[a-zA-Z0-9_]+(,[a-zA-Z0-9_]+)*",
    "hw:serial_port_count": _COUNT,
    "hw:tpm_model": "tpm-tis|tpm-crb",
    "hw:tpm_version": r"1\.2|2\.0",
    "hw:tpm_secret_security": "user|host|deployment",
    "hw:watchdog_action": "none|pause|poweroff|reset|disabled",
    "hw:viommu_model": "intel|smmuv3|virtio|auto",
    "hw:sound_model": "sb16|es1370|pcspk|ac97|ich6|ich9|usb|virtio",
    "hw:usb_model": "piix3-uhci|piix4-uhci|ehci|ich9-ehci1|vt82c686b-uhci|pci-ohci|nec-xhci|qemu-xhci",
    "hw:redirected_usb_ports": r"[0-9]|1[0-5]",
    "hw:(maxphysaddr_bits|ephemeral_encryption_format|cpu_shared_mask|maxphysaddr_mode)": _TEXT,
    "hw_rng:allowed": _BOOL,
    "hw_rng:(rate_bytes|rate_period)": _COUNT,
    "hw_video:ram_max_mb": _COUNT,
    "os:secure_boot": "disabled|required",
    "pci_passthrough:alias": r"[^:]+:\d+(\s*,\s*[^:]+:\d+)*",
    "quota:(cpu|memory|disk_io|vif)_limit": _COUNT,
    "quota:(cpu|memory|disk_io|vif)_reservation": _NUMBER,
    "quota:(cpu|memory|disk_io|vif)_shares_level": "custom|high|normal|low",
    "quota:(cpu|memory|disk_io|vif)_shares_share": _COUNT,
    "quota:(cpu_shares|cpu_period)": _COUNT,
    "quota:cpu_quota": _NUMBER,
    "quota:disk_(read|write|total)_(bytes|iops)_sec": _COUNT,
    "quota:vif_(inbound|outbound)_(average|peak|burst)": _COUNT,
    r"resources([a-zA-Z0-9_-]{1,64})?:[A-Z0-9_]+": _COUNT,
    r"trait([a-zA-Z0-9_-]{1,64})?:[A-Z0-9_]+": "required|forbidden",
    "hide_hypervisor_id": _BOOL,
    "group_policy": "isolate|none",
}
_RULES = [(re.compile(known), re.compile(value)) for known, value in _KNOWN.items()]
_NAMESPACES = re.compile(
    r"accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough|quota"
    r"|resources([a-zA-Z0-9_-]{1,64})?|trait([a-zA-Z0-9_-]{1,64})?"
)


def check(specs: Mapping[str, str]) -> None:
    """Raise BadRequest naming the first extra spec that is not known in its namespace, or whose value is not allowed."""
    for spec, value in specs.items():
        for known, allowed in _RULES:
            if known.fullmatch(spec):
                if not allowed.fullmatch(value):
                    raise errors.BadRequest(
                        f"Validation failed; {value!r} is not a valid value of extra spec {spec!r}: {allowed.pattern}"
                    )
                break
        else:
            if ":" in spec and _NAMESPACES.fullmatch(spec.split(":", 1)[0]):
                raise errors.BadRequest(
                    f"Validation failed; extra spec {spec!r} does not appear to be a valid extra spec."
                )
