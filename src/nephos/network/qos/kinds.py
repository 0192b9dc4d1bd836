"""The kinds of QoS rules: what they are called in the API, what they hold, and whether hosts enforce them.

Kilobits and thousands of packets are a second's. Sources: neutron-lib's definitions qos, qos-bw-minimum-ingress,
qos-pps, qos-pps-minimum.
"""

from __future__ import annotations

from typing import NamedTuple

MOST = 2**31 - 1
INGRESS, EGRESS, ANY = "ingress", "egress", "any"
MARKS = (0, *range(8, 42, 2), 44, 46, 48, 56)
"""The DSCP marks that Neutron takes: class selectors, assured and expedited forwarding, voice-admit (RFC 2474, 2597,
3246, 5865), and what lies between."""


class Kind(NamedTuple):
    """One kind of rule. `directions` () has none; `enforced` says whether hosts make it so."""

    name: str
    amount: str
    burst: str | None
    directions: tuple[str, ...]
    enforced: bool

    @property
    def noun(self) -> str:
        return f"{self.name}_rule"


BANDWIDTH = Kind("bandwidth_limit", "max_kbps", "max_burst_kbps", (EGRESS, INGRESS), True)
PACKETS = Kind("packet_rate_limit", "max_kpps", "max_burst_kpps", (EGRESS, INGRESS), True)
DSCP = Kind("dscp_marking", "dscp_mark", None, (), True)
LEAST_BANDWIDTH = Kind("minimum_bandwidth", "min_kbps", None, (EGRESS, INGRESS), False)
LEAST_PACKETS = Kind("minimum_packet_rate", "min_kpps", None, (EGRESS, INGRESS, ANY), False)
ALL = (BANDWIDTH, PACKETS, DSCP, LEAST_BANDWIDTH, LEAST_PACKETS)
BY_NAME = {kind.name: kind for kind in ALL}
