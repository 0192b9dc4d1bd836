"""Segments, their ranges and provider networks, as they are typed."""

from __future__ import annotations

import pytest

from tests.cloud import RunningCloud
from tests.commands.table import Typed, play

STORY = (
    Typed(
        "network segment range create --shared --network-type vlan --physical-network rack --minimum 100 --maximum 102"
        " vlans",
        shows={"default": False, "shared": True, "network_type": "vlan", "minimum": 100, "maximum": 102},
        keep={"range": "id"},
    ),
    Typed("network segment range list --used", lacks={"Name": {"vlans"}}),
    Typed("network segment range list --unused", has={"Name": {"vlans"}}),
    Typed("network segment range set --minimum 100 --maximum 101 --name few {range}"),
    Typed("network segment range show {range}", shows={"name": "few", "maximum": 101, "available": ["100-101"]}),
    Typed(
        "network create --provider-network-type vlan --provider-physical-network rack tagged",
        shows={"provider:network_type": "vlan", "provider:segmentation_id": 100, "mtu": 1500},
    ),
    Typed("network segment range show {range}", shows={"available": ["101"]}),
    Typed("network segment range delete {range}", refused="is referenced by one or more project networks"),
    Typed("network create --provider-network-type vlan --provider-segment 7 lost", refused="requires physical_network"),
    Typed("network create --provider-network-type geneve --provider-segment 5 wrapped", keep={"net": "id"}),
    Typed("network segment list --network wrapped", has={"Segment": {5}, "Network Type": {"geneve"}}, only=True),
    Typed(
        "network segment create --network wrapped --network-type vlan --physical-network rack --segment 101"
        " --description words second",
        shows={"segmentation_id": 101, "physical_network": "rack", "network_type": "vlan", "description": "words"},
        keep={"segment": "id"},
    ),
    Typed("network segment set --name other --description more second"),
    Typed("network segment show {segment}", shows={"name": "other", "description": "more", "network_id": "{net}"}),
    Typed("subnet create --network wrapped --subnet-range 10.60.0.0/24 --network-segment other here", keep={"sub": "id"}),
    Typed("subnet show here", shows={"segment_id": "{segment}"}),
    Typed("network segment delete other", refused="is still associated with subnet"),
    Typed("subnet delete here"),
    Typed("network segment delete other"),
    Typed("network set --provider-segment 101 tagged"),
    Typed("network show tagged", shows={"provider:segmentation_id": 101}),
    Typed("network delete tagged wrapped"),
    Typed("network segment range delete {range}"),
    Typed("network segment range delete {range}", refused="(?i)no network ?segment ?range|could not be found"),
    Typed("network segment list", user="demo", only=True),
    Typed("network create --provider-network-type gre own", user="demo", refused="doesn't allow create_network:provider:network_type"),
)  # fmt: skip


@pytest.mark.host
def test_as_typed() -> None:
    with RunningCloud(hypervisor="fake", hosts=1) as cloud:
        play(cloud, STORY, {})
