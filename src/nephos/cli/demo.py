"""nephos demo: from an installed machine to a shell in a guest, as any client of the cloud would get there.

It uses openstacksdk and ssh only; nothing here knows more of the cloud than a user does.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nephos.errors import HostFault

LOGIN_SECONDS = 120.0
INSTALL_TIMES = Path("/opt/nephos/install.json")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", metavar="HOST:PORT", help="the HTTP APIs' address (127.0.0.1:5000)")
    parser.add_argument("--flavor", default="m1.tiny", help="the server's flavor (m1.tiny)")


class Parts:
    """Names and seconds of what was done (S1-34)."""

    def __init__(self, quiet: bool) -> None:
        self.seconds: dict[str, float] = {}
        self._quiet = quiet

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.say(f"… {name}")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def say(self, words: str) -> None:
        if not self._quiet:
            print(words, flush=True)


def run(options: argparse.Namespace) -> None:
    parts = Parts(options.json)
    if INSTALL_TIMES.exists():
        parts.seconds["packages and environment"] = float(json.loads(INSTALL_TIMES.read_text())["total"])
    with parts.part("guest image"):
        from nephos import guestimage

        image = guestimage.build(Path("/var/cache/nephos/guest"))
    with parts.part("cloud"):
        _up(options)
    settings = _load(options)
    import openstack

    admin, demo = (openstack.connect(**_login(settings, user)) for user in ("admin", "demo"))
    with parts.part("upload of the image"):
        root = _images(admin, image)
    with parts.part("key, rules and addresses"):
        key = _key(demo, options.state / "demo")
        _rules(demo)
    with parts.part("server, asked to ACTIVE"):
        server = _server(demo, root, options.flavor, key.name)
    with parts.part("floating IP"):
        address = _floating_ip(demo, server)
    with parts.part("log-in over SSH"):
        said = _login_over_ssh(settings, options.state / "demo" / "id", address)
    timeline = _timeline(demo, server)
    result = {
        "server": server.id,
        "address": address,
        "said": said,
        "seconds": {name: round(value, 2) for name, value in parts.seconds.items()},
        "total": round(sum(parts.seconds.values()), 2),
        "timeline": timeline,
    }
    if options.json:
        print(json.dumps(result))
        return
    _print(options, settings, parts, result)


def _up(options: argparse.Namespace) -> None:
    words = [sys.executable, "-m", "nephos", "up", "--state", str(options.state), "--json"]
    if options.listen:
        words += ["--listen", options.listen]
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)


def _load(options: argparse.Namespace) -> Any:
    from nephos import settings

    return settings.load(options.state)


def _login(settings: Any, user: str) -> dict[str, Any]:
    from nephos.cli.state import credentials

    host = settings.address[0]
    exempt = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1", "localhost", host)))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = exempt
    trust = {"cacert": str(settings.client_authority)} if settings.client_authority else {}
    return {"auth": credentials(settings, user), "region_name": settings.region, "load_yaml_config": False, **trust}


def _images(admin: Any, image: Any) -> Any:
    """Upload the three-part image, and the one that boots by itself, unless they are there."""
    made: dict[str, Any] = {each.name: each for each in admin.image.images()}

    def put(name: str, path: Path, disk_format: str, container_format: str, **properties: str) -> Any:
        if name in made and made[name].status == "active":
            return made[name]
        return admin.create_image(
            name,
            filename=str(path),
            disk_format=disk_format,
            container_format=container_format,
            visibility="public",
            wait=True,
            meta=properties,
        )

    kernel = put("tiny-kernel", image.kernel, "aki", "aki")
    ramdisk = put("tiny-ramdisk", image.ramdisk, "ari", "ari")
    put("tiny", image.qcow2, "qcow2", "bare")
    return put(
        "tiny-direct",
        image.root,
        "raw",
        "bare",
        kernel_id=kernel.id,
        ramdisk_id=ramdisk.id,
        os_command_line=image.command_line,
    )


def _key(demo: Any, directory: Path) -> Any:
    """A key pair made by the cloud; the private half stays in the state directory."""
    directory.mkdir(exist_ok=True, mode=0o700)
    path = directory / "id"
    known = demo.compute.find_keypair("demo-key")
    if known is not None and path.exists():
        return known
    if known is not None:
        demo.compute.delete_keypair(known)
    pair = demo.compute.create_keypair(name="demo-key")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(pair.private_key)
    return pair


def _rules(demo: Any) -> None:
    """Let ping and SSH in, once."""
    group = next(
        each for each in demo.network.security_groups(project_id=demo.current_project_id) if each.name == "default"
    )
    known = {
        (rule.protocol, rule.port_range_min) for rule in demo.network.security_group_rules(security_group_id=group.id)
    }
    for protocol, port in (("icmp", None), ("tcp", 22)):
        if (protocol, port) not in known:
            demo.network.create_security_group_rule(
                security_group_id=group.id,
                direction="ingress",
                ether_type="IPv4",
                protocol=protocol,
                port_range_min=port,
                port_range_max=port,
                remote_ip_prefix="0.0.0.0/0",
            )


def _server(demo: Any, image: Any, flavor: str, key: str) -> Any:
    """A new server each time; the one of an earlier demo goes. Raises HostFault with the reason when it fails."""
    import openstack

    for old in demo.compute.servers(name="^demo$"):
        demo.compute.delete_server(old)
        demo.compute.wait_for_delete(old, interval=0.1)
    network = demo.network.find_network("private")
    server = demo.compute.create_server(
        name="demo",
        image_id=image.id,
        flavor_id=demo.compute.find_flavor(flavor).id,
        networks=[{"uuid": network.id}],
        key_name=key,
    )
    try:
        return demo.compute.wait_for_server(server, interval=0.1, wait=300)
    except openstack.exceptions.ResourceFailure as failed:
        fault = demo.compute.get_server(server.id).fault or {}
        raise HostFault(f"The server is in ERROR: {fault.get('message', 'it does not say why')}") from failed


def _floating_ip(demo: Any, server: Any) -> str:
    port = next(iter(demo.network.ports(device_id=server.id)))
    free = [each for each in demo.network.ips() if each.port_id is None]
    public = demo.network.find_network("public")
    address = free[0] if free else demo.network.create_ip(floating_network_id=public.id)
    return str(demo.network.update_ip(address, port_id=port.id).floating_ip_address)


def _login_over_ssh(settings: Any, key: Path, address: str) -> str:
    """Wait for the guest with short connects, then run hostname and uptime in it. Raises HostFault when it never answers."""
    from nephos.cli import enclosure

    holder = enclosure.holder(settings.state)
    enter = ["nsenter", "--target", str(holder), "--net", "--"] if holder else []
    end = time.monotonic() + LOGIN_SECONDS
    words = ["ssh", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    words += [
        "-o",
        "LogLevel=ERROR",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
        f"cirros@{address}",
        "hostname; uptime",
    ]
    last = "nothing listens on port 22"
    while time.monotonic() < end:
        if not enter and not _answers(address):
            time.sleep(0.1)
            continue
        done = subprocess.run([*enter, *words], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        last = done.stderr.strip() or last
        time.sleep(0.2)
    raise HostFault(f"No log-in at {address} within {LOGIN_SECONDS:g} seconds: {last}")


def _answers(address: str) -> bool:
    """A short connect: one that is opened before the guest is up would wait on retransmissions."""
    try:
        with socket.create_connection((address, 22), timeout=0.3):
            return True
    except OSError:
        return False


def _timeline(demo: Any, server: Any) -> list[dict[str, Any]]:
    """The boot, step by step, as `openstack server event show` gives it."""
    action = next(each for each in demo.compute.server_actions(server) if each.action == "create")
    shown = demo.compute.get_server_action(action.request_id, server)
    return [
        {"event": each.event, "start": each.start_time, "finish": each.finish_time, "result": each.result}
        for each in shown.events
    ]


def _print(options: argparse.Namespace, settings: Any, parts: Parts, result: dict[str, Any]) -> None:
    from nephos.cli.state import passwords

    state = "" if str(options.state) == "/var/lib/nephos" else f" --state {options.state}"
    print("\nInside the guest:")
    for line in str(result["said"]).splitlines():
        print(f"    {line}")
    print("\nThe boot, step by step:")
    for each in sorted(result["timeline"], key=lambda each: str(each["start"])):
        print(f"    {str(each['start'])[11:23]:<14}{each['event']:<20}{each['result'] or ''}")
    print("\nSeconds:")
    for name, seconds in parts.seconds.items():
        print(f"    {seconds:6.1f}  {name}")
    print(f"    {result['total']:6.1f}  in all")
    print("\nThe cloud stays up.")
    print(f"    identity   {settings.url}/v3")
    for user, password in passwords(settings).items():
        print(f"    user       {user:<6} password {password}")
    (options.state / "demo" / "clouds.yaml").write_text(_capture(options, "clouds"))
    print(f"    clouds     {options.state}/demo/clouds.yaml")
    print("\nTry next:")
    for line in (
        f'eval "$(nephos openrc demo{state})"',
        "openstack server list",
        f"openstack server event list {result['server']}",
        f"ssh -i {options.state}/demo/id cirros@{result['address']}",
        f"nephos status{state}; nephos audit{state}; nephos down{state} [--purge]",
    ):
        print(f"    {line}")


def _capture(options: argparse.Namespace, command: str) -> str:
    words = [sys.executable, "-m", "nephos", command, "--state", str(options.state)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
