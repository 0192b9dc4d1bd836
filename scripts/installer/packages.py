"""The Debian packages that Nephos needs, each with its reason.

Kept small on purpose: the libvirt and QEMU metapackages would pull a firewall daemon, polkit, a default network and
graphical back ends that Nephos never uses, and would start services.
"""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    """A Debian package and what Nephos does with it."""

    name: str
    reason: str


RUNTIME: tuple[Package, ...] = (
    Package("python3", "runs Nephos; /opt/nephos is an environment of the system's own interpreter"),
    Package("python3-libvirt", "lets Nephos talk to libvirt without compiling a binding"),
    Package("ca-certificates", "verifies the package index and image sources over https"),
    Package("qemu-system-x86", "runs the guests"),
    Package("qemu-utils", "makes and inspects disk images (qemu-img)"),
    Package("libvirt-daemon", "keeps guests running, also while Nephos restarts"),
    Package("libvirt-daemon-driver-qemu", "libvirt's driver for QEMU"),
    Package("libvirt-clients", "virsh, to look at guests by hand"),
    Package("dnsmasq-base", "answers DHCP and DNS for guests; the package without the service on port 53"),
    Package("radvd", "advertises IPv6 prefixes on routers"),
    Package("keepalived", "elects the active host of highly available routers; nothing is started by the package"),
    Package("iproute2", "network namespaces, bridges and tunnels (ip, bridge, tc)"),
    Package("nftables", "security groups, anti-spoofing and address translation (nft)"),
    Package("conntrack", "forgets open connections when a security group closes them"),
    Package("iputils-ping", "lets you, and the demo, see that a floating IP answers"),
    Package("openssh-client", "logs in to guests (ssh, ssh-keygen)"),
    Package("e2fsprogs", "makes the guest image's file system (mke2fs)"),
)

TEST: tuple[Package, ...] = (
    Package("git", "the tests that upgrade the previous commit's database read it from git"),
    Package("make", "runs the targets"),
    Package("mariadb-client-core", "what mariadb-install-db reads its options by"),
    Package("mariadb-server-core", "the MariaDB that the tests start for themselves; the package without a service"),
    Package("postgresql-15", "the PostgreSQL that the tests start for themselves, beside any that is there"),
    Package("rabbitmq-server", "the RabbitMQ that the tests start for themselves; its service is not started"),
    Package("ethtool", "lets the tests' NICs finish frames as real ones do"),
    Package("openvswitch-switch", "the other switch, which host.switch chooses; the tests run it for themselves"),
    Package("busybox-static", "DHCP, DNS and ARP clients of the tests' pretended guests"),
    Package("curl", "asks metadata and other servers from inside the tests' namespaces"),
    Package("iptables", "plays the foreign firewall that must not break guests"),
    Package("procps", "lists processes in the tests"),
    Package("tcpdump", "sees which packets cross a tunnel in the tests"),
)
