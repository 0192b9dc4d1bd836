"""nephos join: make this machine a host of a cloud whose server is elsewhere. `nephos invite` there prints what to type."""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "server", help="wss://HOST:PORT of the cloud's streams listener; of several servers, with commas"
    )
    parser.add_argument("ticket", help="what `nephos invite` printed: it works once")
    parser.add_argument("--name", help="this host's name (the machine's)")
    parser.add_argument("--hypervisor", choices=("libvirt", "fake"), help="real guests, or simulated ones (libvirt)")
    parser.add_argument("--foreground", action="store_true", help="stay, instead of leaving a supervisor behind")


def _address_towards(server: str) -> str:
    """This machine's address as the server sees it: tunnels to other hosts end there. "" on one machine."""
    import socket
    from urllib.parse import urlsplit

    from nephos.settings import is_loopback

    parts = urlsplit(server)
    family, kind, protocol, _, address = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # a datagram socket sends nothing by it
        found = str(probe.getsockname()[0])
    return "" if is_loopback(found) else found


def run(options: argparse.Namespace) -> None:
    import os

    from nephos import settings as all_settings
    from nephos.agent.joining import join
    from nephos.agent.main import host_names, key_of
    from nephos.cli import state, up
    from nephos.errors import SettingsError

    if os.geteuid() != 0:
        raise SettingsError("`nephos join` needs root: it makes namespaces, bridges and guests.")
    settings = all_settings.load(options.state)
    if settings.cloud_id and not settings.host.server:
        raise SettingsError(
            f"There is a cloud in {options.state} already: `nephos down --purge` first, or another --state."
        )
    settings.hypervisor = options.hypervisor or settings.hypervisor
    settings.host.name = options.name or settings.host.name
    settings.host.server = options.server
    state.prepare(settings)
    name = host_names(settings)[0]
    first, *_ = settings.host.server.split(",")
    joined = join(settings.agent_dir, key_of(settings.agent_dir), first, options.ticket, name)
    if settings.cloud_id not in ("", joined.cloud_id):
        raise SettingsError(f"This machine is a host of cloud {settings.cloud_id}: `nephos down --purge` first.")
    settings.cloud_id, settings.region = joined.cloud_id, joined.region
    settings.host.tunnel_address = settings.host.tunnel_address or _address_towards(first)
    all_settings.save(settings)
    defaults = argparse.ArgumentParser()
    up.options(defaults)
    up.run(argparse.Namespace(**{**vars(defaults.parse_args([])), **vars(options)}))
