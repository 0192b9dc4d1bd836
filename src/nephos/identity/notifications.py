"""What identity tells: CADF events (DMTF DSP0262), or Keystone's basic notifications where the settings say so.

Event types, payloads and the taxonomy are Keystone's (`identity.user.created`, `identity.authenticate` …). Beside what
Keystone tells, assignments on the system are told, as `identity.role_assignment.created` with `system`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from nephos.identity.catalog.store import service
from nephos.identity.users.store import user
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications.origin import Origin, caused_by
from nephos.kernel.notifications.outbox import HOST, Notice

SUCCESS, FAILURE, PENDING = "success", "failure", "pending"
CREATED, UPDATED, DELETED = "created", "updated", "deleted"
PERSON = "service/security/account/user"
SECURITY = "service/security"
TYPES = {
    "group": "data/security/group",
    "project": "data/security/project",
    "role": "data/security/role",
    "user": "data/security/account/user",
    "domain": "data/security/domain",
    "region": "data/security/region",
    "endpoint": "data/security/endpoint",
    "service": "data/security/service",
    "policy": "data/security/policy",
    "OS-TRUST:trust": "data/security/trust",
    "application_credential": "data/security/credential",
}
"""CADF's words for the kinds of things; what is not here is "unknown", as Keystone has it for credentials."""
_observer = select(service.c.id).where(service.c.type == "identity").order_by(service.c.id).limit(1)


def tell(tx: Tx, kind: str, operation: str, *idents: str, actor: tuple[str, str] | None = None) -> None:
    """Something was created, updated or deleted, in this unit of work.

    `actor` is (added or removed, user id): a membership of the group that was updated.
    """
    if tx.outbox is None:
        return
    event = f"identity.{kind}.{operation}"
    notices = []
    for ident in idents:
        if tx.outbox.basic:
            payload = _basic(ident, actor)
        else:
            target = {"id": ident, "typeURI": TYPES.get(kind, "unknown")}
            payload = {**_cadf(tx, f"{operation}.{kind}", SUCCESS, target), "resource_info": ident}
        notices.append(_notice(event, payload, f"{kind}/{ident}"))
    tx.outbox.put(tx, *notices)


def assigned(
    tx: Tx, operation: str, role_id: str, *, actor: tuple[str, str], target: tuple[str, str | None], inherited: bool
) -> None:
    """A role was given or taken. `actor` is (user or group, id), `target` (project, domain or system, id)."""
    if tx.outbox is None:
        return
    event = _cadf(tx, f"{operation}.role_assignment", SUCCESS, {"id": clock.uuid4(), "typeURI": PERSON})
    event |= {
        target[0]: target[1] or "all",
        actor[0]: actor[1],
        "inherited_to_projects": inherited,
        "role": role_id,
    }
    tx.outbox.put(tx, _notice(f"identity.role_assignment.{operation}", event, f"{actor[0]}/{actor[1]}"))


def authenticated(cloud: Cloud, user_id: str | None, outcome: str, reason: str | None = None) -> None:
    """A user that exists tried to log in with a password. Not for a unit of work: this is one of its own."""
    outbox = cloud.database.outbox
    if outbox is None or user_id is None or not outbox.wants(f"identity.authenticate.{outcome}"):
        return
    ident = user_id

    def work(tx: Tx) -> None:
        event = _cadf(tx, "authenticate", outcome, {"id": clock.uuid4(), "typeURI": PERSON}, ident)
        if reason is not None:
            event["reason"] = {"reasonType": reason, "reasonCode": "401"}
        outbox.put(tx, _notice("identity.authenticate", event, f"user/{ident}"))

    cloud.database.write(work)


def _notice(event: str, payload: Any, resource: str) -> Notice:
    return Notice(service="keystone", publisher=f"identity.{HOST}", event=event, payload=payload, resource=resource)


def _basic(ident: str, actor: tuple[str, str] | None) -> dict[str, Any]:
    origin = caused_by.get()()
    payload: dict[str, Any] = {"resource_info": ident}
    if actor is not None:
        payload |= {"actor_operation": actor[0], "actor_type": "user", "actor_id": actor[1]}
    if origin.request_id:
        payload["request_id"] = origin.request_id
    if origin.global_request_id:
        payload["global_request_id"] = origin.global_request_id
    return payload


def _cadf(tx: Tx, action: str, outcome: str, target: dict[str, str], user_id: str | None = None) -> dict[str, Any]:
    """An event of CADF 1.0. `user_id` is the initiator where there is no token yet."""
    observer = {"id": tx.scalar(_observer) or "identity", "typeURI": SECURITY}
    return {
        "typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event",
        "eventType": "activity",
        "id": clock.uuid4(),
        "eventTime": datetime.fromtimestamp(tx.now / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000"),
        "action": action,
        "outcome": outcome,
        "observer": observer,
        "initiator": _initiator(tx, caused_by.get()(), user_id),
        "target": target,
    }


def _initiator(tx: Tx, origin: Origin, user_id: str | None) -> dict[str, Any]:
    who, name = origin.user_id, origin.user_name
    if user_id is not None:
        who, name = user_id, tx.scalar(select(user.c.name).where(user.c.id == user_id))
    found = {
        # CADF wants an id for everybody; where nobody asked, it is the cloud itself
        "id": who or "nephos",
        "typeURI": PERSON,
        "name": name,
        "host": {key: value for key, value in (("address", origin.address), ("agent", origin.agent)) if value},
        "user_id": who,
        "username": name,
        "project_id": origin.project_id,
        "domain_id": origin.domain_id,
        "request_id": origin.request_id,
        "global_request_id": origin.global_request_id,
    }
    return {key: value for key, value in found.items() if value}
