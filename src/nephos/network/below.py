"""What hangs below another resource in its URL: a floating IP's port forwardings, a router's conntrack helpers.

The statements of such a noun know the row above as the parameter `above`, and its rules know whose that row is
(`ext_parent`, as Neutron's policies have it).
"""

from __future__ import annotations

from typing import Any

from nephos.kernel.http.call import Call
from nephos.network import resource
from nephos.network.resource import Noun, View


def target(row: Any) -> dict[str, Any]:
    """What a noun's rules are checked against: `owner` of its rows is the project of the row above."""
    return _of(row.owner)


def _of(project_id: str) -> dict[str, Any]:
    return {"ext_parent:project_id": project_id, "project_id": project_id}


def view(call: Call, above: Noun) -> View:
    """For one thing below the resource that the URL names by `id`. Raises NotFound when the caller may not see that."""
    return _look(call, above)[0]


def owned(call: Call, above: Noun) -> View:
    """Like `view`, for all things below or a new one: permitted by whose the resource above is. Raises Forbidden too."""
    found, row = _look(call, above)
    call.permit(_of(row.project_id))
    return found


def _look(call: Call, above: Noun) -> tuple[View, Any]:
    found = View(call)
    found.bind = {**found.bind, "above": call.params["id"]}
    with call.cloud.database.read() as tx:
        return found, resource.fetch(tx, above, found, call.params["id"])
