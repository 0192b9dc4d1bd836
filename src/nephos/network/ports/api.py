"""/ports."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import select

from nephos.errors import NotFound
from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, problems, resource, touch
from nephos.network.groups import actions as groups
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports import actions, dhcp
from nephos.network.ports.store import DHCP, ROUTER
from nephos.network.ports.wire import EXTRAS, NOUN, Create, DhcpOption, FixedIp, Pair, Update
from nephos.network.qos import actions as qos
from nephos.network.qos import needs
from nephos.network.resource import V, View
from nephos.network.routers.store import router
from nephos.network.subnets.addresses import Wanted

MOST_ADDRESSES, MOST_PAIRS = 5, 10
_VNIC = ("normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic")
_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    network = resource.fetch(tx, NETWORK, view, model.network_id)
    target = {
        "project_id": project_id,
        "tenant_id": project_id,
        "network:project_id": network.project_id,
        "network:shared": bool(network.shared),
        "device_owner": model.device_owner,
    }
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    _check_device(tx, view, model.device_owner, model.device_id)
    secured = network.port_security_enabled if model.port_security_enabled is UNSET else model.port_security_enabled
    new = actions.New(
        project_id=project_id,
        network_id=network.id,
        name=model.name,
        description=model.description,
        admin_state_up=model.admin_state_up,
        fixed=_fixed(model.fixed_ips),
        mac=addressing.mac("mac_address", model.mac_address) if model.mac_address else None,
        device_id=model.device_id,
        device_owner=model.device_owner,
        groups=_groups(tx, view, model.security_groups, project_id),
        port_security=bool(secured),
        pairs=_pairs(model.allowed_address_pairs or []),
        dhcp_options=_options([], model.extra_dhcp_opts or []),
        vnic_type=check_vnic(model.vnic_type),
        profile=model.profile or {},
        dns_name=addressing.hostname("dns_name", model.dns_name),
        host_id=_host(tx, model.host_id),
        qos_policy_id=qos.usable(tx, model.qos_policy_id, project_id, admin=view.sees_all),
        extras=_extras(model, {}) or None,
        tags=sorted(set(model.tags or ())),
    )
    return actions.create(tx, view.cloud, new)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    values = resource.settings_of(
        model,
        mac_address="mac",
        allowed_address_pairs="pairs",
        extra_dhcp_opts="dhcp_options",
    )
    fixed, wanted = values.pop("fixed_ips", UNSET), values.pop("security_groups", UNSET)
    if "device_owner" in values or "device_id" in values:
        _check_device(
            tx, view, values.get("device_owner", row.device_owner), values.get("device_id", row.device_id), row
        )
    if "mac" in values:
        values["mac"] = addressing.mac("mac_address", values["mac"]) if values["mac"] is not None else None
    if "pairs" in values:
        values["pairs"] = [list(pair) for pair in _pairs(values["pairs"] or [])]
    if "dhcp_options" in values:
        values["dhcp_options"] = _options(row.dhcp_options or [], values["dhcp_options"] or [])
    if "vnic_type" in values:
        values["vnic_type"] = check_vnic(values["vnic_type"])
    if "dns_name" in values:
        addressing.hostname("dns_name", values["dns_name"])
    if "host_id" in values:
        values["host_id"] = _host(tx, values["host_id"])
    if "profile" in values:
        values["profile"] = values["profile"] or {}
    for name in EXTRAS:
        values.pop(name, None)
    if extras := _extras(model, row.extras or {}):
        values["extras"] = extras
    policed = values.get("qos_policy_id", row.qos_policy_id) != row.qos_policy_id
    if "qos_policy_id" in values:
        if values["qos_policy_id"] != row.qos_policy_id:
            qos.check_removable(tx, row.qos_policy_id, view.project_id, admin=view.sees_all)
        values["qos_policy_id"] = qos.usable(tx, values["qos_policy_id"], row.project_id, admin=view.sees_all)
        if policed and row.host_index is not None:
            values["uncounted"] = needs.uncounted(tx, row, values["qos_policy_id"])
    actions.change(
        tx,
        view.cloud,
        row,
        values,
        fixed=None if fixed is UNSET else _fixed(fixed) or [],
        wanted=None if wanted is UNSET else _groups(tx, view, wanted or [], row.project_id),
    )
    if policed:
        needs.changed(tx, view.cloud, "port", row.id)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], _remove)


def _remove(tx: Tx, view: View, row: Any) -> None:
    actions.check_deletable(tx, row)
    actions.remove(tx, view.cloud, row)
    if row.device_owner == DHCP:
        dhcp.ensure(tx, view.cloud, row.network_id)
        touch.networks(tx, view.cloud, [row.network_id])


def _fixed(given: list[FixedIp] | UnsetType | None) -> list[Wanted] | None:
    if given is UNSET:
        return None
    wanted = given or []
    if len(wanted) > MOST_ADDRESSES:
        raise problems.bad("Invalid input for operation: Exceeded maximum amount of fixed ips per port.")
    found = []
    for one in wanted:
        text = None if one.ip_address is UNSET else str(addressing.address("fixed_ips", one.ip_address))
        if text is None and one.subnet_id is UNSET:
            raise problems.invalid("fixed_ips", "an entry has neither subnet_id nor ip_address")
        found.append(Wanted(subnet_id=None if one.subnet_id is UNSET else one.subnet_id, address=text))
    texts = [one.address for one in found if one.address]
    if len(set(texts)) != len(texts):
        raise problems.invalid("fixed_ips", f"Duplicate IP address in {texts}")
    return found


def _groups(tx: Tx, view: View, given: list[str] | UnsetType | None, project_id: str) -> list[str] | None:
    if given is UNSET:
        return None
    return groups.check_usable(tx, project_id, given or [], admin=view.sees_all)


def _pairs(given: list[Pair]) -> list[tuple[str, str | None]]:
    """Allowed address pairs in their own form, each once. Raises BadRequest."""
    if len(given) > MOST_PAIRS:
        raise problems.bad(f"Exceeded maximum amount of address pairs per port: {MOST_PAIRS}.", "AddressPairExceeded")
    found: list[tuple[str, str | None]] = []
    for one in given:
        cidr = addressing.prefix("allowed_address_pairs", one.ip_address)
        alone = cidr.endswith(("/32", "/128")) and "/" not in one.ip_address
        mac = addressing.mac("allowed_address_pairs", one.mac_address) if one.mac_address else None
        pair = (cidr.rpartition("/")[0] if alone else cidr, mac)
        if pair in found:
            raise problems.bad(
                f"Request contains duplicate address pair: mac_address {mac} ip_address {pair[0]}.",
                "DuplicateAddressPairInRequest",
            )
        found.append(pair)
    return found


def _options(have: list[dict[str, Any]], given: list[DhcpOption]) -> list[dict[str, Any]]:
    """What is set after a request: an option replaces the one of its name and version, a null value removes it."""
    found = {(one["opt_name"], one["ip_version"]): one for one in have}
    seen: set[tuple[str, int]] = set()
    for one in given:
        version = 4 if one.ip_version is UNSET else int(one.ip_version)
        if version not in (4, 6):
            raise problems.invalid("extra_dhcp_opts", f"ip_version {version} is neither 4 nor 6")
        key = (one.opt_name, version)
        if key in seen:
            raise problems.invalid("extra_dhcp_opts", f"the option {one.opt_name} is there twice")
        seen.add(key)
        if one.opt_value is None:
            found.pop(key, None)
        else:
            found[key] = {"opt_name": one.opt_name, "opt_value": one.opt_value, "ip_version": version}
    return list(found.values())


def _extras(model: Create | Update, have: dict[str, Any]) -> dict[str, Any]:
    """The attributes that are only kept: those that were, with those that the request sets."""
    given = {name: getattr(model, name, UNSET) for name in EXTRAS}
    found = {name: msgspec.to_builtins(value) for name, value in given.items() if value is not UNSET}
    if "dns_domain" in found:
        found["dns_domain"] = addressing.hostname("dns_domain", found["dns_domain"])
    return {**have, **found}


def check_vnic(kind: str) -> str:
    """Raises BadRequest for a type of NIC that there is not."""
    if kind not in _VNIC:
        raise problems.invalid("binding:vnic_type", f"'{kind}' is not in {list(_VNIC)}")
    return kind


def _host(tx: Tx, name: str | UnsetType | None) -> str | None:
    """The id of a host by its name. Raises BadRequest for one that is not there."""
    if name is UNSET or not name:
        return None
    try:
        return str(hosts.by_name(tx, str(name)).id)
    except NotFound as wrong:
        raise problems.invalid("binding:host_id", f"there is no host '{name}'") from wrong


def _check_device(tx: Tx, view: View, owner: str, device: str, row: Any = None) -> None:
    """A port may become a router's interface only with a router of the same project, and by the router's own call."""
    if row is not None and row.device_owner == ROUTER and (owner, device) != (row.device_owner, row.device_id):
        raise problems.refused(
            f"Port {row.id} is an interface of router {row.device_id}: its device cannot be changed.", "PortInUse"
        )
    if not device or owner != ROUTER or view.admin:
        return
    found = tx.first(select(router.c.project_id).where(router.c.id == device))
    if found is not None and found.project_id != view.project_id:
        raise problems.refused(
            f"Operation not allowed on device_id {device}: it belongs to another project.", "DeviceIDNotOwnedByTenant"
        )


ROUTES = (
    Route("GET", V + "/ports", index, "get_port", target="later"),
    Route("POST", V + "/ports", create, "create_port", 201, target="later"),
    Route("GET", V + "/ports/{id}", show, "get_port", target="later"),
    Route("PUT", V + "/ports/{id}", update, "update_port", target="later"),
    Route("DELETE", V + "/ports/{id}", delete, "delete_port", 204, target="later"),
)
