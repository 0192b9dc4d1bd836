"""What compute tells: Nova's versioned notifications (`instance.create.start` … on `versioned_notifications`).

Almost all come from one place: an operation that begins is a `.start`, one that ends an `.end` or an `.error`. Names,
versions and fields of the payloads are those of Nova 34 (`nova_object.name` and its like); what a guest could be entered
with (user data, passwords) is in none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nephos.compute.flavors import store as flavors
from nephos.compute.keypairs import actions as keypairs
from nephos.compute.servers import states, store
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications.origin import caused_by
from nephos.kernel.notifications.outbox import ERROR, HOST, INFO, Notice
from nephos.kernel.operations.model import DONE, Operation
from nephos.network import guests as network
from nephos.network.guests import ServerPort

ACTIONS = {
    "server.start": "power_on",
    "server.stop": "power_off",
    "server.attach_interface": "interface_attach",
    "server.detach_interface": "interface_detach",
    "server.attach_volume": "volume_attach",
    "server.detach_volume": "volume_detach",
    "server.confirm_resize": "resize_confirm",
    "server.revert_resize": "resize_revert",
    "server.migrate": "resize",
    "server.live_migrate": "live_migration_post",
    "server.create_image": "snapshot",
    "server.create_backup": "snapshot",
    "server.change_password": "password_set",
    "server.reset": "",
}
"""Nova's word for a kind of operation where it differs from the kind's own; "" where Nova tells nothing."""
POWER = {
    states.NO_STATE: "pending",
    states.RUNNING: "running",
    states.POWER_PAUSED: "paused",
    states.SHUTDOWN: "shutdown",
    states.CRASHED: "crashed",
}
VERSIONS = {
    "InstanceActionPayload": "1.9",
    "InstanceActionRebuildPayload": "1.10",
    "InstanceActionSnapshotPayload": "1.10",
    "InstanceActionRescuePayload": "1.4",
    "InstanceCreatePayload": "1.13",
    "InstanceUpdatePayload": "2.1",
    "InstanceStateUpdatePayload": "1.0",
    "AuditPeriodPayload": "1.0",
    "FlavorPayload": "1.4",
    "IpPayload": "1.0",
    "KeypairPayload": "1.0",
    "ExceptionPayload": "1.1",
}
Data = dict[str, Any]


# --- instances -------------------------------------------------------------------------------------------------------


def began(tx: Tx, operation: Operation) -> None:
    """An operation was written: `.start`."""
    if tx.outbox is not None and operation.noun == store.NOUN:
        _action(tx, operation, "start")


def ended(tx: Tx, operation: Operation) -> None:
    """An operation is over: `.end` or `.error`. What was done at once (lock, unlock) has neither a start nor an end."""
    if tx.outbox is not None and operation.noun == store.NOUN:
        _action(tx, operation, ("end" if operation.step else "") if operation.state == DONE else "error")


def _action(tx: Tx, operation: Operation, phase: str) -> None:
    action = ACTIONS.get(operation.kind, operation.kind.partition(".")[2])
    row = store.by_id(tx, operation.noun_id)
    if row is None or not action or tx.outbox is None:
        return
    data = _instance(tx, row, operation.request_id, operation.user_id, operation.project_id)
    data["fault"] = _fault(operation) if phase == "error" else None
    name = "InstanceActionPayload"
    if action == "create":
        name = "InstanceCreatePayload"
        data |= {
            "keypairs": _keypairs(tx, row),
            "tags": store.tags_of(tx, [row.id]).get(row.id, []),
            "trusted_image_certificates": row.trusted_certs,
            "instance_name": f"instance-{row.number:08x}",
        }
    elif action == "snapshot":
        name = "InstanceActionSnapshotPayload"
        data["snapshot_image_id"] = operation.data["image"]
    elif action == "rescue":
        name = "InstanceActionRescuePayload"
        data["rescue_image_ref"] = operation.data["image"]
    elif action == "rebuild":
        name = "InstanceActionRebuildPayload"
        data["trusted_image_certificates"] = row.trusted_certs
    event = f"instance.{action}.{phase}" if phase else f"instance.{action}"
    tx.outbox.put(tx, _notice(event, versioned(name, data), row, ERROR if phase == "error" else INFO))


def updated(tx: Tx, row: Any, *, old_name: str | None = None) -> None:
    """What is written of a server was changed; `row` is how it was before."""
    now = store.by_id(tx, row.id) if tx.outbox is not None else None
    if tx.outbox is None or now is None:
        return
    origin = caused_by.get()()
    moment = datetime.fromtimestamp(tx.now / 1_000_000, UTC)
    data = _instance(tx, now, origin.request_id, origin.user_id, origin.project_id)
    data |= {
        "state_update": versioned(
            "InstanceStateUpdatePayload",
            {
                "old_state": row.vm_state,
                "state": now.vm_state,
                "old_task_state": row.task_state,
                "new_task_state": now.task_state,
            },
        ),
        "audit_period": versioned(
            "AuditPeriodPayload",
            {
                "audit_period_beginning": moment.strftime("%Y-%m-01T00:00:00Z"),
                "audit_period_ending": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        ),
        "old_display_name": old_name,
        "tags": store.tags_of(tx, [row.id]).get(row.id, []),
    }
    tx.outbox.put(tx, _notice("instance.update", versioned("InstanceUpdatePayload", data), now, INFO))


def _notice(event: str, payload: Data, row: Any, priority: str) -> Notice:
    return Notice(
        service="nova",
        publisher=f"nova-compute:{row.host_name}" if row.host_name else f"nova-api:{HOST}",
        event=event,
        payload=payload,
        resource=f"server/{row.id}",
        priority=priority,
        versioned=True,
    )


def versioned(name: str, data: Data) -> Data:
    """The envelope of oslo.versionedobjects."""
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": VERSIONS[name],
        "nova_object.data": data,
    }


def _instance(tx: Tx, row: Any, request_id: str | None, user_id: str | None, project_id: str | None) -> Data:
    """The fields of Nova's InstancePayload."""
    properties = (row.image or {}).get("properties", {})
    ports = network.ports_of(tx, [row.id]).get(row.id, [])
    return {
        "uuid": row.id,
        "user_id": row.user_id,
        "tenant_id": row.project_id,
        "reservation_id": row.reservation_id,
        "display_name": row.name,
        "display_description": row.description,
        "host_name": row.hostname,
        "host": row.host_name,
        "node": row.host_name,
        "os_type": properties.get("os_type"),
        "architecture": properties.get("hw_architecture") or properties.get("architecture"),
        "availability_zone": row.zone,
        "flavor": _flavor(row),
        "image_uuid": row.image_id,
        "key_name": row.key_name,
        "kernel_id": properties.get("kernel_id", ""),
        "ramdisk_id": properties.get("ramdisk_id", ""),
        "created_at": clock.iso(row.created_at),
        "launched_at": clock.iso(row.launched_at),
        "terminated_at": clock.iso(row.terminated_at),
        "deleted_at": clock.iso(row.deleted_at),
        "updated_at": clock.iso(row.updated_at),
        "state": row.vm_state,
        "power_state": POWER.get(row.power_state, "pending"),
        "task_state": row.task_state,
        "progress": row.progress,
        "ip_addresses": [each for port in ports for each in _addresses(port)],
        "block_devices": [],
        "metadata": dict(row.metadata or {}),
        "locked": row.locked_by is not None,
        "auto_disk_config": row.disk_config,
        "request_id": request_id or None,
        "action_initiator_user": user_id,
        "action_initiator_project": project_id,
        "locked_reason": row.locked_reason,
        "shares": [],
    }


def _addresses(port: ServerPort) -> list[Data]:
    return [
        versioned(
            "IpPayload",
            {
                "label": port.network_name,
                "mac": port.mac,
                "meta": {},
                "port_uuid": port.id,
                "version": each.version,
                "address": each.address,
                "device_name": f"tap{port.id[:11]}",
            },
        )
        for each in port.addresses
    ]


def _flavor(row: Any) -> Data:
    return _flavor_payload(
        row.flavor_id, row.flavor, row.flavor.get("extra_specs") or {}, projects=None, is_public=True
    )


def _keypairs(tx: Tx, row: Any) -> list[Data]:
    if row.key_name is None:
        return []
    key = keypairs.find(tx, row.user_id, row.key_name)
    return [
        versioned(
            "KeypairPayload",
            {
                "user_id": row.user_id,
                "name": row.key_name,
                "fingerprint": key.fingerprint if key is not None else "",
                "public_key": row.public_key,
                "type": row.key_type,
            },
        )
    ]


def _fault(operation: Operation) -> Data:
    """Nova's words for a failure. A trace is of no use to who is told of it, and stays in the log."""
    return versioned(
        "ExceptionPayload",
        {
            "module_name": "nephos.compute",
            "function_name": operation.kind,
            "exception": "Failure",
            "exception_message": operation.error or "",
            "traceback": "",
        },
    )


# --- key pairs and flavors -------------------------------------------------------------------------------------------


def keypair(tx: Tx, action: str, row: Any) -> None:
    """`action` is create, import or delete."""
    if tx.outbox is None:
        return
    names = ("user_id", "name", "fingerprint", "public_key", "type")
    payload = versioned("KeypairPayload", {name: getattr(row, name) for name in names})
    tx.outbox.put(
        tx,
        *(
            _api_notice(f"keypair.{action}.{phase}", payload, f"keypair/{row.user_id}/{row.name}")
            for phase in ("start", "end")
        ),
    )


def flavor(tx: Tx, action: str, row: Any) -> None:
    """`action` is create, update or delete; `row` the flavor's as it is, or was."""
    if tx.outbox is None:
        return
    projects = list(flavors.projects_of(tx, row.id))
    fields = {
        "name": row.name,
        "vcpus": row.vcpus,
        "ram_mb": row.ram_mb,
        "root_gb": row.root_gb,
        "ephemeral_gb": row.ephemeral_gb,
        "swap_mb": row.swap_mb,
        "rxtx_factor": row.rxtx_factor,
        "disabled": row.disabled,
        "description": row.description,
    }
    payload = _flavor_payload(row.id, fields, row.extra_specs or {}, projects=projects, is_public=row.public)
    tx.outbox.put(tx, _api_notice(f"flavor.{action}", payload, f"flavor/{row.id}"))


def _flavor_payload(
    flavor_id: str, fields: Mapping[str, Any], specs: Mapping[str, str], *, projects: list[str] | None, is_public: bool
) -> Data:
    return versioned(
        "FlavorPayload",
        {
            "flavorid": flavor_id,
            "name": fields["name"],
            "memory_mb": fields["ram_mb"],
            "vcpus": fields["vcpus"],
            "root_gb": fields["root_gb"],
            "ephemeral_gb": fields["ephemeral_gb"],
            "swap": fields["swap_mb"],
            "rxtx_factor": float(fields.get("rxtx_factor") or 1.0),
            "vcpu_weight": 0,
            "disabled": bool(fields.get("disabled")),
            "is_public": is_public,
            "extra_specs": dict(specs),
            "projects": projects,
            "description": fields.get("description"),
        },
    )


def _api_notice(event: str, payload: Data, resource: str) -> Notice:
    return Notice(
        service="nova", publisher=f"nova-api:{HOST}", event=event, payload=payload, resource=resource, versioned=True
    )
