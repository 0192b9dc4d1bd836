"""What a running guest needs of the host that it goes to, named before anything is begun (S3-25)."""

from __future__ import annotations

from typing import Any

from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx


def unfit(tx: Tx, source_id: str) -> dict[str, str]:
    """Host id → why no guest that runs on the source can go there."""
    source = hosts.get(tx, source_id)
    found = {row.id: problem(source, row) for row in hosts.all_hosts(tx) if row.id != source_id}
    return {host_id: why for host_id, why in found.items() if why}


def problem(source: Any, target: Any) -> str:
    """Why a guest cannot go from one host to the other while it runs; "" when it can."""
    old, new = source.cpu_info or {}, target.cpu_info or {}
    wrong = []
    if source.hypervisor_type != target.hypervisor_type:
        wrong.append(f"its hypervisor is {target.hypervisor_type}, not {source.hypervisor_type}")
    if target.hypervisor_version < source.hypervisor_version:
        wrong.append(f"its hypervisor is of version {target.hypervisor_version}, older than {source.hypervisor_version}")
    if old.get("arch") != new.get("arch"):
        wrong.append(f"its processors are {new.get('arch')}, not {old.get('arch')}")
    missing = sorted(set(old.get("features") or ()) - set(new.get("features") or ()))
    if missing:
        wrong.append(f"its processors lack {', '.join(missing)}")
    return f"A guest that runs on {source.name} cannot go to {target.name}: {'; '.join(wrong)}." if wrong else ""
