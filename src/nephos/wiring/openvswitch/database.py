"""Bridges and ports of Open vSwitch: what its database holds, what it should hold, and the commands between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nephos.wiring.openvswitch.daemons import Daemons


class Port(msgspec.Struct, frozen=True):
    """A port of a bridge: `kind` "" is a device of the host, `internal`, `patch`, or a tunnel with its `options`."""

    tag: int | None = None
    kind: str = ""
    options: tuple[tuple[str, str], ...] = ()


class Bridge(msgspec.Struct):
    """A bridge: its MAC (None: whichever it gets), and its ports by name, without the one of its own name."""

    mac: str | None = None
    ports: dict[str, Port] = {}


Bridges = dict[str, Bridge]


def read(daemons: Daemons) -> tuple[Bridges, set[str]]:
    """The bridges that there are, and those that are not set as `change` sets them."""
    text = daemons.run(
        "ovs-vsctl", "--format=json",
        "--", "--columns=name,ports,datapath_type,fail_mode,other_config", "list", "Bridge",
        "--", "--columns=_uuid,name,tag,interfaces", "list", "Port",
        "--", "--columns=_uuid,type,options", "list", "Interface",
    )  # fmt: skip
    tables = [list(_rows(msgspec.json.decode(line))) for line in text.splitlines() if line.strip()]
    bridges, ports, interfaces = tables
    kinds = {row["_uuid"][1]: (row["type"], _pairs(row["options"])) for row in interfaces}
    found_ports = {}
    for row in ports:
        kind, options = kinds.get(_set(row["interfaces"])[0][1], ("", ()))
        tag = row["tag"] if isinstance(row["tag"], int) else None
        found_ports[row["_uuid"][1]] = (row["name"], Port(tag, kind, options))
    found: Bridges = {}
    wrong = set()
    for row in bridges:
        members = [found_ports[each[1]] for each in _set(row["ports"]) if each[1] in found_ports]
        mac = dict(_pairs(row["other_config"])).get("hwaddr")
        found[row["name"]] = Bridge(mac, {name: port for name, port in members if name != row["name"]})
        if row["datapath_type"] != _datapath(daemons) or row["fail_mode"] != "secure":
            wrong.add(row["name"])
    return found, wrong


def change(daemons: Daemons, have: Bridges, wrong: set[str], wanted: Bridges) -> int:
    """Make the bridges exactly those, in one transaction; how many things differed."""
    commands: list[list[str]] = []
    for bridge in sorted(have.keys() - wanted.keys()):
        commands.append(["--if-exists", "del-br", bridge])
    for bridge, one in sorted(wanted.items()):
        present = have[bridge].ports if bridge in have else {}
        if bridge not in have or bridge in wrong or have[bridge].mac != one.mac:
            commands.append(["--may-exist", "add-br", bridge])
            settings = [f"datapath_type={_datapath(daemons)}", "fail_mode=secure", "mcast_snooping_enable=false"]
            mac = [f'other_config:hwaddr="{one.mac}"'] if one.mac else []
            commands.append(["set", "Bridge", bridge, *settings, *mac])
        for name, port in sorted(present.items()):
            if one.ports.get(name) != port:
                commands.append(["--if-exists", "del-port", bridge, name])
        for name, port in sorted(one.ports.items()):
            if present.get(name) != port:
                tag = [f"tag={port.tag}"] if port.tag is not None else []
                commands.append(["add-port", bridge, name, *tag])
                if port.kind:
                    options = [f"options:{key}={value}" for key, value in port.options]
                    commands.append(["set", "Interface", name, f"type={port.kind}", *options])
    if commands:
        daemons.transact(commands)
    return len(commands)


def _datapath(daemons: Daemons) -> str:
    return "netdev" if daemons.userspace else "system"


def _rows(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for values in table["data"]:
        yield dict(zip(table["headings"], values, strict=True))


def _set(value: Any) -> list[Any]:
    """The members of an OVSDB column (RFC 7047, 5.1): one is written without the set around it."""
    return list(value[1]) if value[0] == "set" else [value]


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, text) for key, text in value[1]))
