"""The operations that make and remove a server.

A create is three transactions: the request's own, one that chooses a host, claims it, makes the ports and sends the
host its task, and one that takes the host's result. Undone backwards; when it was the host that failed, the server is
built again elsewhere, at most three times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete as delete_from

from nephos import errors
from nephos.compute.building import guests, hints
from nephos.compute.groups import store as groups
from nephos.compute.moving import ending
from nephos.compute.servers import actions, states, store
from nephos.hosts import actions as hosts
from nephos.hosts.guest import DestroyGuest
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import FAILED, Kind, Mark, Operation, Outcome, Step
from nephos.network import guests as network
from nephos.network.guests import NetworkRequest
from nephos.network.qos.needs import Need
from nephos.placement.allocations import actions as allocations

if TYPE_CHECKING:  # the scheduler brings numpy
    from nephos.compute.scheduler.claim import Placed
    from nephos.compute.scheduler.filters import Request

MOST_HOSTS = 3
HOSTS_CHANGED = "scheduler"
"""The topic of who keeps a snapshot of hosts."""
LOOK_SECONDS = 30.0
"""How often a step that waits for a host looks whether the host is still there."""


class Building:
    """The steps of both kinds. `cache` is the scheduler's snapshot, made when the first server is placed."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.began = clock.monotonic()
        self._cache: Any = None
        cloud.doorbell.listen(self._heard)

    def kinds(self) -> tuple[Kind, ...]:
        create = Kind(
            actions.CREATE,
            "create",
            (
                Step("filters", self.choose, undo=self.free),
                Step("port", self.plug, undo=self.unplug),
                Step("running", self.spawn, after=self.spawned, undo=self.destroy),
            ),
            deadline=float(self.cloud.settings.compute.build_timeout),
            failed=self.failed,
        )
        delete = Kind(
            actions.DELETE,
            "delete",
            (Step("domain removed", self.destroy), Step("ports released", self.remove)),
            deadline=600,
            failed=self.not_deleted,
            supersedes=True,
        )
        return create, delete

    @property
    def cache(self) -> Any:
        if self._cache is None:
            from nephos.compute.scheduler.snapshot import Cache

            self._cache = Cache()
        return self._cache

    def forget_hosts(self) -> None:
        """Hosts or aggregates were changed: every server takes a new snapshot."""
        self.cloud.doorbell.ring(HOSTS_CHANGED)

    def _heard(self, topic: str) -> None:
        if topic == HOSTS_CHANGED and self._cache is not None:
            self._cache.forget()

    def is_up(self, tx: Tx, host_id: str) -> bool:
        """Whether a host is there. One that was not heard of while this server itself was not there is believed in."""
        try:
            row = hosts.get(tx, host_id)
        except errors.NotFound:
            return False
        if row.forced_down:
            return False
        return hosts.up(row, tx.now) or clock.monotonic() - self.began < hosts.UP_SECONDS

    # --- create ------------------------------------------------------------------------------------------------

    def choose(self, tx: Tx, operation: Operation) -> Outcome:
        """filters and claim: the host is written into the server's row."""
        row = actions.get(tx, operation.noun_id)
        if row.host_id is not None:
            return None
        try:
            placed = self.place(
                tx,
                operation,
                row,
                flavor=row.flavor,
                needs=network.needs(tx, [NetworkRequest(**each) for each in operation.data["networks"]]),
                host=operation.data.get("host"),
                forced=bool(operation.data.get("forced")),
                excluded=operation.data.get("excluded", ()),
            )
        except errors.NoValidHost as none:
            raise errors.NoValidHost(none.message + self._earlier(operation)) from none
        store.change(
            tx,
            row.id,
            host_id=placed.host_id,
            host_name=placed.host_name,
            zone=placed.zone,
            task_state=states.SPAWNING,
        )
        return None

    def _earlier(self, operation: Operation) -> str:
        tried = operation.data.get("failures", [])
        return "".join(f" Host {each['host']} failed: {each['why']}" for each in tried)

    def place(
        self,
        tx: Tx,
        operation: Operation,
        row: Any,
        *,
        flavor: Mapping[str, Any],
        needs: Sequence[Need],
        host: str | None = None,
        forced: bool = False,
        excluded: Iterable[str] = (),
    ) -> Placed:
        """Choose and claim a host for a server, with this flavor: what its image, hints and group want is kept wherever it
        goes. `excluded` are ids of hosts. Raises NoValidHost with the whole reason."""
        from nephos.compute.scheduler.claim import Consumer, place

        began = clock.now_us()
        consumer = Consumer(row.id, row.project_id, row.user_id)
        request = self._request(tx, row, flavor, host=host, forced=forced, excluded=frozenset(excluded), needs=needs)
        placed = place(tx, self.cache, self.cloud.settings.compute, request, consumer)
        chosen = ", ".join(f"{each.filter} -{each.hosts}" for each in placed.removed)
        why = f"{placed.hosts} hosts" + (f": {chosen}" if chosen else "")
        operation.marks.append((Mark("filters", began, placed.filtered, why), None))
        operation.marks.append((Mark("claim", placed.filtered, placed.claimed), placed.host_name))
        return placed

    def _request(self, tx: Tx, row: Any, flavor: Mapping[str, Any], **more: Any) -> Request:
        from nephos.compute.scheduler import query
        from nephos.compute.scheduler.filters import Request
        from nephos.compute.scheduler.snapshot import DISK_GB, MEMORY_MB, VCPU

        wanted = row.hints or {}
        disk = flavor["root_gb"] + flavor["ephemeral_gb"] + -(-flavor["swap_mb"] // 1024)
        if row.group_id is not None:
            group = tx.first(groups.group.select().where(groups.group.c.id == row.group_id))
            if group is not None:
                more["policy"] = group.policy
                more["group_hosts"] = store.group_hosts(tx, row.group_id, beside=row.id)
                more["most_a_host"] = int((group.rules or {}).get("max_server_per_host", 1))
        same = hints.servers_in(wanted, "same_host")
        if same:
            more["same"] = frozenset(store.hosts_of(tx, same).values())
        different = hints.servers_in(wanted, "different_host")
        if different:
            more["different"] = frozenset(store.hosts_of(tx, different).values())
        return Request(
            resources={VCPU: flavor["vcpus"], MEMORY_MB: flavor["ram_mb"], DISK_GB: disk},
            zone=row.wanted_zone,
            query=query.parse(wanted["query"]) if "query" in wanted else None,
            extra_specs=flavor.get("extra_specs") or {},
            image=(row.image or {}).get("properties", {}),
            **more,
        )

    def free(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `choose`."""
        row = store.by_id(tx, operation.noun_id)
        allocations.release(tx, operation.noun_id)
        if row is not None and row.host_id is not None:
            store.change(tx, row.id, host_id=None, host_name=None, zone=None)
            self.cloud.hosts.touch(tx, [row.host_id], "guest", [row.id])
        return None

    def plug(self, tx: Tx, operation: Operation) -> Outcome:
        """port and address: the ports are made and bound."""
        requests = [NetworkRequest(**each) for each in operation.data["networks"]]
        if not requests:
            return None
        row = actions.get(tx, operation.noun_id)
        began = clock.now_us()
        network.allocate(
            tx,
            self.cloud,
            server_id=row.id,
            project_id=row.project_id,
            user_id=row.user_id,
            hostname=row.hostname,
            zone=row.zone or "",
            requests=requests,
            security_groups=row.security_groups or (),
            host_id=row.host_id,
        )
        made = clock.now_us()
        operation.marks.append((Mark("port", began, made), row.host_name))
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
        given = ", ".join(each.address for port in ports for each in port.addresses)
        operation.marks.append((Mark("address", made, clock.now_us(), given or None), row.host_name))
        return None

    def unplug(self, tx: Tx, operation: Operation) -> Outcome:
        network.release(tx, self.cloud, operation.noun_id)
        return None

    def spawn(self, tx: Tx, operation: Operation) -> Outcome:
        """Send the host its task; looked at again now and then, in case the host went away."""
        row = actions.get(tx, operation.noun_id)
        if operation.data.get("task") == operation.task:
            if not self.is_up(tx, row.host_id):
                raise errors.HostFault(f"Host {row.host_name} went away while it built the guest.")
        else:
            operation.data["task"] = operation.task
            operation.data["placed"] = row.host_id
        ports = network.ports_of(tx, [row.id]).get(row.id, []) if operation.data["networks"] else []
        task = guests.create_task(self.cloud, row, ports, operation.data["parts"], operation.task)
        self.cloud.hosts.touch(tx, [row.host_id], "guest", [row.id])
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.create", task, seconds=LOOK_SECONDS)

    def spawned(self, tx: Tx, operation: Operation, result: Any) -> None:
        """The guest runs."""
        if operation.cancelled:
            return
        store.change(
            tx,
            operation.noun_id,
            vm_state=states.ACTIVE,
            task_state=None,
            power_state=states.RUNNING,
            launched_at=tx.now,
            admin_pass=None,
            fault=None,
        )
        if operation.data["networks"]:
            network.activate(tx, self.cloud, operation.noun_id)

    def failed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """All is undone. A superseded create leaves the rest to what superseded it."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted or operation.cancelled:
            return
        if self._another(tx, operation, failure):
            store.change(tx, row.id, task_state=states.SCHEDULING)
            return
        set_error(tx, row.id, failure.message)

    def _another(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> bool:
        """Whether to build on another host: this one failed, and there is one that was not tried."""
        host_id = operation.data.get("placed")
        tried = [*operation.data.get("excluded", ()), host_id]
        if host_id is None or operation.data.get("host") or len(tried) >= MOST_HOSTS:
            return False
        if not any(row.id not in tried and not row.disabled and self.is_up(tx, row.id) for row in hosts.all_hosts(tx)):
            return False
        name = next((row.name for row in hosts.all_hosts(tx) if row.id == host_id), host_id)
        operation.data["again"] = {
            "excluded": tried,
            "failures": [*operation.data.get("failures", []), {"host": name, "why": failure.message}],
        }
        return True

    def ended(self, tx: Tx, operation: Operation) -> None:
        """A create that failed on one host goes on as a new one, on another."""
        again = operation.data.get("again")
        if operation.kind != actions.CREATE or operation.state != FAILED or not again:
            return
        kept = {key: operation.data[key] for key in ("parts", "networks", "host", "forced")}
        self.cloud.operations.start(
            tx,
            actions.CREATE,
            store.NOUN,
            operation.noun_id,
            request_id=operation.request_id,
            project_id=operation.project_id,
            user_id=operation.user_id,
            data=kept | again,
        )

    # --- delete, and undo of spawn -------------------------------------------------------------------------------

    def destroy(self, tx: Tx, operation: Operation) -> Outcome:
        """Have the host remove the guest. A host that is away finds the tombstone when it comes back."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.host_id is None:
            return None
        if operation.kind == actions.CREATE and "task" not in operation.data:
            return None
        if operation.data.get("task"):
            self.cloud.hosts.cancel(tx, operation.data["task"])
        if not self.is_up(tx, row.host_id):
            operation.mark("host is away", host=row.host_name, detail="the guest is removed when it comes back")
            self.cloud.hosts.send(tx, operation.task, row.host_id, "guest.destroy", DestroyGuest(id=row.id))
            return None
        body = DestroyGuest(id=row.id)
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.destroy", body, seconds=LOOK_SECONDS)

    def remove(self, tx: Tx, operation: Operation) -> Outcome:
        """Give back ports and capacity; the record stays as that of a deleted server."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted:
            return None
        network.release(tx, self.cloud, row.id)
        allocations.release(tx, row.id)
        ending.let_go(tx, self.cloud, row.id)
        tx.execute(delete_from(store.tag).where(store.tag.c.server_id == row.id))
        store.change(
            tx,
            row.id,
            vm_state=states.DELETED,
            task_state=None,
            power_state=states.NO_STATE,
            deleted=True,
            deleted_at=tx.now,
            terminated_at=tx.now,
            admin_pass=None,
        )
        if row.host_id is not None:
            self.cloud.hosts.touch(tx, [row.host_id], "guest", [row.id])
        return None

    def not_deleted(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        set_error(tx, operation.noun_id, failure.message)


def set_error(tx: Tx, server_id: str, message: str) -> None:
    """The server is in ERROR, and its fault says why, whole (S1-11)."""
    fault = {"code": 500, "message": message, "details": None, "created": tx.now}
    store.change(tx, server_id, vm_state=states.ERROR, task_state=None, fault=fault, admin_pass=None)
