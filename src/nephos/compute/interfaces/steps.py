"""The operations that give a server one more card, and take one away.

The port is made, and bound, in the transaction that accepts the request; the host plugs it. A card that could not be
plugged takes its port with it. A card is taken out of the guest before its port is.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building.steps import LOOK_SECONDS, Building
from nephos.compute.servers import actions, store
from nephos.hosts.guest import PlugNic, UnplugNic
from nephos.hypervisor.base import Nic
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step
from nephos.network import guests as network
from nephos.network.guests import ServerPort
from nephos.placement.allocations.actions import Claim

ATTACH, DETACH = "server.attach_interface", "server.detach_interface"


class Cards:
    """The steps of both kinds. An operation's `data` holds the port."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        attach = Kind(
            ATTACH,
            "attach_interface",
            (Step("plugged", self.plug, after=self.plugged, undo=self.unplug),),
            deadline=120,
            failed=self.not_attached,
        )
        detach = Kind(
            DETACH,
            "detach_interface",
            (Step("unplugged", self.unplug), Step("port released", self.release)),
            deadline=120,
            failed=self.not_detached,
        )
        return attach, detach

    def plug(self, tx: Tx, operation: Operation) -> Outcome:
        row = actions.get(tx, operation.noun_id)
        port = find(tx, row.id, operation.data["port"])
        if port is None:
            raise errors.Conflict(f"Port {operation.data['port']} is gone.")
        self._require_up(tx, row)
        model = (row.image or {}).get("properties", {}).get("hw_vif_model", "virtio")
        body = PlugNic(id=row.id, nic=Nic(port_id=port.id, mac=port.mac, mtu=port.mtu, model=model))
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.plug", body, seconds=LOOK_SECONDS)

    def plugged(self, tx: Tx, operation: Operation, result: Any) -> None:
        network.activate(tx, self.cloud, operation.noun_id)
        self._changed(tx, operation.noun_id)

    def unplug(self, tx: Tx, operation: Operation) -> Outcome:
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted or row.host_id is None:
            return None
        if operation.kind == DETACH:
            self._require_up(tx, row)
        elif not self.building.is_up(tx, row.host_id):
            return None
        body = UnplugNic(id=row.id, port_id=operation.data["port"])
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.unplug", body, seconds=LOOK_SECONDS)

    def release(self, tx: Tx, operation: Operation) -> Outcome:
        if find(tx, operation.noun_id, operation.data["port"]) is not None:
            network.detach(tx, self.cloud, operation.noun_id, operation.data["port"])
            claim_networks(tx, actions.get(tx, operation.noun_id))
            self._changed(tx, operation.noun_id)
        return None

    def not_attached(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        self.release(tx, operation)

    def not_detached(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The server keeps the card and the port; the reason stands on the timeline."""

    def _require_up(self, tx: Tx, row: Any) -> None:
        if row.host_id is None or not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")

    def _changed(self, tx: Tx, server_id: str) -> None:
        row = store.by_id(tx, server_id)
        if row is not None and not row.deleted:
            actions.change(tx, self.cloud, row)


def claim_networks(tx: Tx, row: Any) -> None:
    """The server has of its host's networks what its ports ask for now. Raises Conflict naming what is short."""
    from nephos.compute.scheduler import networks

    if row.host_id is not None:
        wanted = network.needs_of_server(tx, row.id)
        networks.claim(tx, row.host_id, wanted, Claim(row.id, row.host_id, {}, row.project_id, row.user_id))


def find(tx: Tx, server_id: str, port_id: str) -> ServerPort | None:
    """A port of a server."""
    return next((each for each in network.ports_of(tx, [server_id]).get(server_id, ()) if each.id == port_id), None)
