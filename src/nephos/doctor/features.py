"""Kernel features that guests' networks stand on, each tried for real in a namespace of its own.

A kernel's configuration is not always readable and modules load on demand, so only using a feature proves it.
"""

from __future__ import annotations

import subprocess
from typing import NamedTuple


class Feature(NamedTuple):
    """`trial` is a shell command that works only where the feature does; `module` is what may be loaded for it."""

    name: str
    trial: str
    why: str
    module: str


FEATURES = (
    Feature("bridge", "ip link add nt-br type bridge && ip link set nt-br up",
            "every network is a Linux bridge on its hosts", "bridge"),
    Feature("veth", "ip link add nt-a type veth peer name nt-b",
            "DHCP and routers are joined to networks by veth pairs", "veth"),
    Feature("vxlan", "ip link add nt-vx type vxlan id 1 dstport 4789 dev nt-a",
            "networks of several hosts are VXLAN tunnels", "vxlan"),
    Feature("tun", "ip tuntap add dev nt-tap mode tap",
            "each of a guest's cards is a tap device (/dev/net/tun)", "tun"),
    Feature("ifb", "ip link add nt-ifb type ifb",
            "bandwidth limits of what guests send", "ifb"),
    Feature("nf_tables", "nft 'add table inet nt; add chain inet nt c { type filter hook forward priority 0; }'",
            "security groups and address translation are nftables rules", "nf_tables"),
    Feature("nf_tables bridge family",
            "nft 'add table bridge nt; add chain bridge nt c { type filter hook prerouting priority -300; };"
            " add rule bridge nt c ether type arp arp saddr ip 192.0.2.1 drop'",
            "anti-spoofing rules look at bridged frames", "nf_tables"),
    Feature("conntrack", "nft 'add table inet nu; add chain inet nu c { type filter hook forward priority 0; };"
            " add rule inet nu c ct state established accept'",
            "security groups let answers pass", "nf_conntrack nft_ct"),
    Feature("NAT", "nft 'add table ip nv; add chain ip nv c { type nat hook postrouting priority 100; };"
            " add rule ip nv c masquerade'",
            "floating IPs and outbound traffic are translated", "nft_masq nft_nat"),
    Feature("br_netfilter", "test -e /proc/sys/net/bridge/bridge-nf-call-iptables",
            "stateful rules see bridged packets only through it", "br_netfilter"),
    Feature("network and mount namespaces", "ip netns add nt-ns && ip -n nt-ns link set lo up && ip netns del nt-ns",
            "DHCP servers and routers live in namespaces", ""),
)  # fmt: skip


def absent(features: tuple[Feature, ...] = FEATURES) -> list[tuple[Feature, str]]:
    """The features that this kernel lacks, each with the kernel's or tool's own words.

    Needs root. Leaves nothing behind: all is tried in a network and a mount namespace that end with the trial.
    """
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", _script(features)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "\x1edone" not in done.stdout:
        why = (done.stderr or done.stdout).strip() or f"unshare ended with {done.returncode}"
        return [(features[-1], why)]
    failed: list[tuple[Feature, str]] = []
    for record in done.stdout.split("\x1e"):
        number, _, words = record.partition("\x1f")
        if number.isdigit():
            failed.append((features[int(number)], " ".join(words.split())))
    return failed


def _script(features: tuple[Feature, ...]) -> str:
    lines = ["mount -t tmpfs nt /run || exit 1"]
    for number, feature in enumerate(features):
        lines.append(f"words=$( {{ {feature.trial}; }} 2>&1 ) || printf '\\036{number}\\037%s' \"$words\"")
    return "\n".join([*lines, "printf '\\036done'"])
