"""Floating IPs as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.floatingips.store import floatingip
from nephos.network.forwardings import actions as forwardings
from nephos.network.forwardings import wire as forwarding
from nephos.network.networks.store import network
from nephos.network.ports.store import port
from nephos.network.resource import Item, Loaded, Noun, View

Words = Annotated[str, Meta(max_length=255)]


class Create(resource.Owned, kw_only=True):
    """POST /floatingips."""

    floating_network_id: str
    subnet_id: str | None = None
    floating_ip_address: str | UnsetType | None = UNSET
    port_id: str | None = None
    fixed_ip_address: str | None = None
    description: Words = ""
    dns_name: Words = ""
    dns_domain: Words = ""
    qos_policy_id: str | None = None


class Update(resource.Base, kw_only=True):
    """PUT /floatingips/{id}."""

    port_id: str | UnsetType | None = UNSET
    fixed_ip_address: str | UnsetType | None = UNSET
    description: Words | UnsetType = UNSET
    qos_policy_id: str | UnsetType | None = UNSET


_leaf = port.alias("leaf")
_own = port.alias("own")


def _load(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    return forwardings.of_floating(tx, [row.id for row in rows])


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    details = None
    if row.fixed_port_id is not None:
        details = {
            "name": row.leaf_name,
            "network_id": row.leaf_network_id,
            "mac_address": row.leaf_mac,
            "admin_state_up": row.leaf_up,
            "status": row.leaf_status,
            "device_id": row.leaf_device_id,
            "device_owner": row.leaf_device_owner,
        }
    return {
        "id": row.id,
        "floating_ip_address": row.address,
        "floating_network_id": row.network_id,
        "router_id": row.router_id,
        "port_id": row.fixed_port_id,
        "fixed_ip_address": row.fixed_address,
        "status": row.status,
        "port_details": details,
        "port_forwardings": [forwarding.shown(each) for each in loaded.get(row.id, ())],
        "dns_name": row.dns_name,
        "dns_domain": row.dns_domain,
        "qos_policy_id": row.qos_policy_id,
        "qos_network_policy_id": row.network_policy_id,
        **resource.standard(row),
    }


_c = floatingip.c
NOUN = Noun(
    name="floatingip",
    plural="floatingips",
    title="Floating IP",
    table=floatingip,
    select=select(
        floatingip,
        _leaf.c.name.label("leaf_name"),
        _leaf.c.network_id.label("leaf_network_id"),
        _leaf.c.mac.label("leaf_mac"),
        _leaf.c.admin_state_up.label("leaf_up"),
        _leaf.c.status.label("leaf_status"),
        _leaf.c.device_id.label("leaf_device_id"),
        _leaf.c.device_owner.label("leaf_device_owner"),
        _own.c.qos_policy_id,
        network.c.qos_policy_id.label("network_policy_id"),
    )
    .outerjoin(_leaf, _leaf.c.id == floatingip.c.fixed_port_id)
    .outerjoin(_own, _own.c.id == floatingip.c.port_id)
    .outerjoin(network, network.c.id == floatingip.c.network_id),
    scope=floatingip.c.project_id == resource.VIEWER,
    render=_render,
    load=_load,
    guarded=frozenset({"floating_ip_address"}),
    columns={
        "floating_network_id": _c.network_id,
        "floating_ip_address": _c.address,
        "fixed_ip_address": _c.fixed_address,
        "router_id": _c.router_id,
        "port_id": _c.fixed_port_id,
        "status": _c.status,
    },
    filters={"dns_name": _c.dns_name, "dns_domain": _c.dns_domain},
    read_only=frozenset({"port_details", "port_forwardings", "qos_network_policy_id", "subnet_id"}),
)
