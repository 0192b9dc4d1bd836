"""Hosts whose L3 agent an operator switched off: no router is placed there, and those that are there leave."""

from __future__ import annotations

import hashlib

from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.network.agents.store import agent, host

L3 = "L3 agent"


def key_of(host_id: str, kind: str) -> str:
    """The id of a host's agent: the same every time it is asked for."""
    digits = hashlib.sha256(f"{host_id}/{kind}".encode()).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def hosts(tx: Tx) -> set[str]:
    """Their ids."""
    off = set(tx.column(select(agent.c.id).where(agent.c.admin_state_up.is_(False))))
    return {each for each in tx.column(select(host.c.id)) if key_of(each, L3) in off} if off else set()
