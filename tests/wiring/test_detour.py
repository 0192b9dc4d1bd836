"""The way round a blocked VXLAN: which settings can be, and what Open vSwitch's rules make of it."""

from __future__ import annotations

import pytest

from nephos.errors import HostFault
from nephos.wiring.base import Desired, Fallback, Key, Kind, Network, WiringSettings
from nephos.wiring.linux.switch import detour
from nephos.wiring.linux.vet import Vetting
from nephos.wiring.openvswitch.flows import TUNNELS, Rules, Tunnel

GENEVE, GRE = (
    WiringSettings(tunnel_address="10.0.0.1", tunnel_fallback=Fallback(kind=kind)) for kind in ("geneve", "gre")
)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("port", "why"), [(6081, "networks of type Geneve"), (4789, "VXLAN"), (0, "no UDP port"), (65536, "no UDP port")]
)
def test_a_port_that_is_taken_is_refused(port: int, why: str) -> None:
    settings = WiringSettings(tunnel_fallback=Fallback(kind="geneve", port=port))
    with pytest.raises(HostFault, match=why):
        detour.check(settings)
    detour.check(GENEVE)
    detour.check(GRE)


def test_numbers_do_not_meet_those_of_other_networks() -> None:
    assert detour.number(GENEVE, 77) == 77
    assert detour.number(GRE, 77) == (0xFF << 24) + 77
    detour.check_key(GRE, Network(id="n", kind="gre", segment=(0xFF << 24) - 1))
    detour.check_key(GENEVE, Network(id="n", kind="gre", segment=0xFF << 24))
    with pytest.raises(HostFault, match="4278190080"):
        detour.check_key(GRE, Network(id="n", kind="gre", segment=0xFF << 24))


def test_only_vxlan_goes_round_and_only_where_it_is_set() -> None:
    network = Network(id="n", kind="vxlan", segment=77, peers=("10.0.0.2", "10.0.0.3"), detours=("10.0.0.2",))
    assert detour.peers(GENEVE, network) == {"10.0.0.2"}
    assert detour.peers(WiringSettings(), network) == frozenset()
    assert detour.peers(GENEVE, Network(id="n", kind="gre", segment=77, detours=("10.0.0.2",))) == frozenset()


def test_a_detour_to_nobody_is_refused() -> None:
    errors: dict[Key, str] = {}
    name = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    network = Network(id=name, kind="vxlan", segment=77, peers=("10.0.0.2",), detours=("10.0.0.9",))
    assert Vetting()(Desired(networks={name: network}), errors).networks == {}
    assert "no peer" in errors[Key(Kind.NETWORK, name)]


def test_open_vswitch_takes_frames_by_both_ways_and_sends_them_by_one() -> None:
    """The other side changes over at another moment; from whom no detour leads, nothing is taken there."""
    rules = Rules()
    around = {"10.0.0.2": Tunnel("detour", 77)}
    rules.tunnel("qvo1", 1, Tunnel("vxlan", 77), ["10.0.0.2", "10.0.0.3"], [("fa:16:3e:00:00:02", "10.0.0.2")], around)
    said = rules.bridges[TUNNELS]
    arriving = {line.split(",actions")[0].split("in_port=")[1] for line in said if "tun_src" in line}
    assert arriving == {
        '"vxlan",tun_id=0x4d,tun_src=10.0.0.2', '"detour",tun_id=0x4d,tun_src=10.0.0.2', '"vxlan",tun_id=0x4d,tun_src=10.0.0.3',
    }  # fmt: skip
    (unicast,) = [line for line in said if "dl_dst" in line]
    assert unicast.endswith('set_field:10.0.0.2->tun_dst,output:"detour"')
    (flood,) = [line for line in said if line.startswith('priority=10,in_port="patch-int"')]
    assert flood.count("output:") == 2 and 'tun_dst,output:"detour"' in flood and 'tun_dst,output:"vxlan"' in flood
