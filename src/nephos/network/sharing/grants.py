"""Writing a policy that shares something: what nouns do when they are made shared."""

from __future__ import annotations

from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network.networks.store import rbac


def share(tx: Tx, object_type: str, object_id: str, project_id: str, action: str, target: str) -> str:
    """Let `target`, a project or *, do `action` with a project's thing; answers the policy's id."""
    policy_id = clock.uuid4()
    tx.insert(
        rbac,
        {
            "id": policy_id,
            "project_id": project_id,
            "object_type": object_type,
            "object_id": object_id,
            "action": action,
            "target": target,
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return policy_id
