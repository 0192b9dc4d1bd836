"""What hosts are told of servers: the desired item `guest`, and the task that makes one."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nephos.agent.guestdata import Card, GuestData, Key, Place
from nephos.compute.moving import store as migrations
from nephos.compute.servers import states, store
from nephos.hosts.guest import CreateGuest, GuestItem, Image
from nephos.hypervisor.base import Guest, Nic
from nephos.image import links
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import guests as network
from nephos.network import lookups
from nephos.network.guests import ServerPort

_encode = msgspec.msgpack.Encoder().encode
_OFF = frozenset({states.STOPPED, states.SUSPENDED, states.ERROR, states.SHELVED})


def provide(cloud: Cloud, tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, GuestItem]:
    """The items `guest` of a host, in batches; `ids` None means all that it should have."""
    if ids is None:
        rows = list(store.of_host(tx, host_id))
    else:
        rows = [row for row in store.by_ids(tx, ids).values() if row.host_id == host_id and not row.deleted]
    aside = migrations.aside_on(tx, host_id, ids)
    found = [row.id for row in rows]
    ports = network.ports_of(tx, found) if found else {}
    names = network.security_groups_of(tx, found) if found else {}
    places = _places(tx, ports.values())
    domain = cloud.settings.network.dns_domain.strip(".")
    items = {
        row.id: GuestItem(
            id=row.id,
            power="shutdown" if _off(row) else "running",
            data=msgspec.Raw(_encode(_data(row, domain, ports.get(row.id, ()), names.get(row.id, ()), places))),
            ports=tuple(port.id for port in ports.get(row.id, ())),
            aside=row.id in aside,
        )
        for row in rows
    }
    for row in store.by_ids(tx, aside - items.keys()).values():
        data = msgspec.Raw(_encode(_data(row, domain, (), (), {})))
        items[row.id] = GuestItem(id=row.id, power="shutdown", data=data, aside=True, here=False)
    return items


def _off(row: Any) -> bool:
    """Whether a server's guest is to be off: what waits to be confirmed is as it was before it moved."""
    return row.power_state == states.SHUTDOWN if row.vm_state == states.RESIZED else row.vm_state in _OFF


def _data(
    row: Any, domain: str, ports: Sequence[ServerPort], groups: Iterable[Any], places: Mapping[str, Any]
) -> GuestData:
    properties = (row.image or {}).get("properties", {})
    floating = next((each.address for port in ports for each in port.floating), None)
    keys = (Key(name=row.key_name, type=row.key_type or "ssh", data=row.public_key),) if row.public_key else ()
    return GuestData(
        uuid=row.id,
        name=row.name,
        hostname=f"{row.hostname}.{domain}" if domain and "." not in row.hostname else row.hostname,
        project_id=row.project_id,
        number=row.number,
        availability_zone=row.zone,
        launch_index=row.launch_index,
        reservation_id=row.reservation_id,
        flavor=row.flavor["name"],
        security_groups=tuple(each.name for each in groups),
        keys=keys,
        meta=row.metadata or {},
        admin_pass=row.admin_pass,
        password=row.guest_password,
        user_data=base64.b64decode(row.user_data) if row.user_data else None,
        files=tuple((path, base64.b64decode(content)) for path, content in row.files or ()),
        cards=tuple(_card(port, places) for port in ports),
        floating_ip=floating,
        root_device=states.ROOT_DEVICE,
        kernel=bool(properties.get("kernel_id")),
        ramdisk=bool(properties.get("ramdisk_id")),
    )


def _card(port: ServerPort, places: Mapping[str, Any]) -> Card:
    found = []
    for address in port.addresses:
        subnet = places.get(address.subnet_id)
        if subnet is None:
            continue
        found.append(
            Place(
                network_id=port.network_id,
                address=address.address,
                prefix=int(subnet.cidr.rpartition("/")[2]),
                gateway=subnet.gateway,
                dns=tuple(subnet.dns or ()),
                routes=tuple((each["destination"], each["nexthop"]) for each in subnet.routes or ()),
                dhcp=bool(subnet.dhcp),
                mode=subnet.address_mode,
            )
        )
    return Card(port_id=port.id, mac=port.mac, mtu=port.mtu, places=tuple(found))


def _places(tx: Tx, ports: Iterable[Sequence[ServerPort]]) -> Mapping[str, Any]:
    """subnet id → the subnet's row, for all subnets that the ports have addresses on."""
    wanted = {address.subnet_id for each in ports for port in each for address in port.addresses}
    return lookups.subnets_of(tx, wanted)


def create_task(
    cloud: Cloud, row: Any, ports: Sequence[ServerPort], parts: Mapping[str, Any], task_id: str
) -> CreateGuest:
    """The task `guest.create` for a server that has its host and its ports."""
    return CreateGuest(
        guest=guest_of(row, ports),
        **{name: image(cloud, row.host_id, task_id, part) for name, part in parts.items()},
    )


def guest_of(row: Any, ports: Sequence[ServerPort]) -> Guest:
    flavor, image = row.flavor, row.image or {}
    properties = {key: str(value) for key, value in image.get("properties", {}).items() if value is not None}
    model = properties.get("hw_vif_model", "virtio")
    return Guest(
        id=row.id,
        name=f"instance-{row.number:08x}",
        vcpus=flavor["vcpus"],
        ram_mb=flavor["ram_mb"],
        root_gb=flavor["root_gb"],
        ephemeral_gb=flavor["ephemeral_gb"],
        swap_mb=flavor["swap_mb"],
        nics=tuple(Nic(port_id=port.id, mac=port.mac, mtu=port.mtu, model=model) for port in ports),
        config_drive=row.config_drive or properties.get("img_config_drive") == "mandatory",
        properties=properties,
        extra_specs=dict(flavor.get("extra_specs") or {}),
        details={
            "name": row.name,
            "project": row.project_id,
            "user": row.user_id,
            "flavor": flavor["name"],
            "image": row.image_id or "",
        },
    )


def image(cloud: Cloud, host_id: str, task_id: str, part: Mapping[str, Any]) -> Image:
    return Image(
        id=part["id"],
        size=part["size"],
        sha256=part["sha256"],
        format=part["format"],
        link=links.link(cloud, task_id, host_id, part["id"]),
    )
