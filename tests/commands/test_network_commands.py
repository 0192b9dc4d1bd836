"""Network commands of the client, typed against one running cloud: one story a noun."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloud import RunningCloud
from tests.commands.table import Typed, command_of, commands, play

OWN = (
    *("address", "default security group", "ip availability", "local ip", "network auto"),
    *("network onboard", "network qos"),
    *("network rbac", "network subport", "network trunk", "port", "security group", "subnet"),
    *(f"network {verb}" for verb in ("create", "delete", "list", "set", "show", "unset")),
)
"""Beginnings of the commands that are typed here, every one of them; those of routers, segments and agents are elsewhere."""

# fmt: off
NETWORKS = (
    Typed("network create blue --description d --mtu 1400 --dns-domain blue.test. --tag red --tag green --enable-port-security",
        shows={"name": "blue", "description": "d", "mtu": 1400, "dns_domain": "blue.test.", "tags": ["green", "red"],
            "port_security_enabled": True, "shared": False, "router:external": False, "status": "ACTIVE"},
        keep={"blue": "id"}, user="demo"),
    Typed("network create wide --share", refused="(?i)403|forbidden|policy", user="demo"),
    Typed("network create shared --share --provider-network-type vxlan --provider-segment 4242",
        shows={"shared": True, "provider:network_type": "vxlan", "provider:segmentation_id": 4242}, keep={"shared": "id"}),
    Typed("network list", has={"Name": {"blue", "shared", "private", "public"}}, user="demo"),
    Typed("network list --internal", has={"Name": {"blue"}}, lacks={"Name": {"public"}}, user="demo"),
    Typed("network list --external", has={"Name": {"public"}}, only=True, user="demo"),
    Typed("network list --tags red,green", has={"Name": {"blue"}}, only=True),
    Typed("network list --not-any-tags red", lacks={"Name": {"blue"}}),
    Typed("network list --provider-segment 4242", has={"Name": {"shared"}}, only=True),
    Typed("network list --name blue --long", has={"State": {True}}, only=True),
    Typed("network set blue --name azure --disable --description other --tag blue", user="demo"),
    Typed("network show azure", shows={"id": "{blue}", "admin_state_up": False, "tags": ["blue", "green", "red"]}),
    Typed("network unset azure --tag red", user="demo"),
    Typed("network unset azure --all-tag", user="demo"),
    Typed("network set azure --enable --no-tag", user="demo"),
    Typed("network show nothing", refused="(?i)no network"),
    Typed("network rbac create --type network --action access_as_shared --target-project demo shared",
        shows={"object_type": "network", "object_id": "{shared}"}, keep={"policy": "id"}),
    Typed("network rbac list --type network --action access_as_shared", has={"ID": {"{policy}"}}),
    Typed("network rbac show {policy}", shows={"action": "access_as_shared"}),
    Typed("network rbac set {policy} --target-project admin"),
    Typed("network rbac delete {policy}"),
    Typed("network rbac show {policy}", refused="(?i)no rbac_?policy"),
)
SUBNETS = (
    Typed("subnet create blue4 --network azure --subnet-range 10.44.0.0/24 --gateway 10.44.0.254 --dns-nameserver 192.0.2.53 "
        "--allocation-pool start=10.44.0.10,end=10.44.0.99 --host-route destination=192.0.2.0/24,gateway=10.44.0.9 --tag red",
        shows={"cidr": "10.44.0.0/24", "gateway_ip": "10.44.0.254", "dns_nameservers": ["192.0.2.53"],
            "allocation_pools": [{"start": "10.44.0.10", "end": "10.44.0.99"}], "tags": ["red"]},
        keep={"blue4": "id"}, user="demo"),
    Typed("subnet create twice --network azure --subnet-range 10.44.0.128/25", refused="overlaps with another subnet", user="demo"),
    Typed("subnet create odd --network azure --subnet-range 10.45.0.0/24 --gateway 10.46.0.1", refused="Gateway is not valid", user="demo"),
    Typed("subnet create odd --network azure --subnet-range 10.45.0.0/24 --allocation-pool start=10.45.0.1,end=10.45.1.9",
        refused="spans beyond the subnet cidr", user="demo"),
    Typed("subnet create blue6 --network azure --ip-version 6 --subnet-range 2001:db8:44::/64 --ipv6-ra-mode slaac "
        "--ipv6-address-mode slaac", shows={"ipv6_ra_mode": "slaac", "gateway_ip": "2001:db8:44::1"}, user="demo"),
    Typed("subnet list --network azure", has={"Name": {"blue4", "blue6"}}, only=True, user="demo"),
    Typed("subnet list --ip-version 6 --network azure", has={"Name": {"blue6"}}, only=True, user="demo"),
    Typed("subnet list --subnet-range 10.44.0.0/24", has={"ID": {"{blue4}"}}, only=True),
    Typed("subnet set blue4 --name four --no-dhcp --dns-nameserver 192.0.2.54 --description d", user="demo"),
    Typed("subnet unset four --dns-nameserver 192.0.2.53 --host-route destination=192.0.2.0/24,gateway=10.44.0.9 --tag red", user="demo"),
    Typed("subnet show four", shows={"enable_dhcp": False, "dns_nameservers": ["192.0.2.54"], "host_routes": [], "tags": []}),
    Typed("subnet set four --dhcp --gateway 10.44.0.1", user="demo"),
    Typed("ip availability list --project demo", has={"Network Name": {"azure"}}),
    Typed("ip availability show azure", shows={"network_id": "{blue}", "network_name": "azure"}),
    Typed("address scope create inner --ip-version 4", shows={"ip_version": 4, "shared": False}, keep={"scope": "id"}, user="demo"),
    Typed("address scope set inner --name within", user="demo"),
    Typed("address scope list --name within", has={"ID": {"{scope}"}}, only=True, user="demo"),
    Typed("address scope show within", shows={"id": "{scope}"}, user="demo"),
    Typed("subnet pool create pond --pool-prefix 10.128.0.0/16 --default-prefix-length 26 --address-scope within --tag red",
        shows={"prefixes": ["10.128.0.0/16"], "default_prefixlen": 26, "address_scope_id": "{scope}"}, keep={"pond": "id"}, user="demo"),
    Typed("subnet pool create puddle --pool-prefix 10.128.4.0/24 --address-scope within", refused="unique prefixes", user="demo"),
    Typed("subnet pool set pond --pool-prefix 10.129.0.0/16 --max-prefix-length 28 --default-quota 4096", user="demo"),
    Typed("subnet pool show pond", shows={"prefixes": ["10.128.0.0/15"], "max_prefixlen": 28, "default_quota": 4096}, user="demo"),
    Typed("subnet pool unset pond --tag red", user="demo"),
    Typed("subnet pool list --address-scope within", has={"ID": {"{pond}"}}, only=True, user="demo"),
    Typed("network create pooled", keep={"pooled": "id"}, user="demo"),
    Typed("subnet create cut --network pooled --subnet-pool pond", shows={"cidr": "10.128.0.0/26", "subnetpool_id": "{pond}"}, user="demo"),
    Typed("subnet pool delete pond", refused="has existing allocations", user="demo"),
    Typed("address scope delete within", refused="subnet pools in use", user="demo"),
    Typed("network create grown", keep={"grown": "id"}, user="demo"),
    Typed("subnet create old --network grown --subnet-range 10.99.0.0/24", user="demo"),
    Typed("subnet pool add network grown pond", user="demo"),
    Typed("network onboard subnet grown pond", refused="already", user="demo"),
    Typed("subnet show old", shows={"subnetpool_id": "{pond}"}, user="demo"),
    Typed("subnet delete cut old", user="demo"),
    Typed("network delete pooled grown", user="demo"),
    Typed("subnet pool delete pond", user="demo"),
    Typed("address scope delete within", user="demo"),
)
GROUPS = (
    Typed("security group create web --description d --stateful", shows={"name": "web", "stateful": True}, keep={"web": "id"}, user="demo"),
    Typed("security group set web --name site --description other --tag red", user="demo"),
    Typed("security group show site", shows={"id": "{web}", "description": "other", "tags": ["red"]}, user="demo"),
    Typed("security group unset site --tag red", user="demo"),
    Typed("security group list --project demo", has={"Name": {"default", "site"}}, only=True),
    Typed("address group create offices --address 192.0.2.0/24 --description d", shows={"addresses": ["192.0.2.0/24"]}, keep={"offices": "id"}, user="demo"),
    Typed("address group set offices --name houses --address 198.51.100.7", user="demo"),
    Typed("address group unset houses --address 192.0.2.0/24", user="demo"),
    Typed("address group show houses", shows={"addresses": ["198.51.100.7/32"]}, user="demo"),
    Typed("address group list --name houses", has={"ID": {"{offices}"}}, only=True, user="demo"),
    Typed("security group rule create site --protocol tcp --dst-port 443:444 --remote-ip 192.0.2.0/24 --description tls",
        shows={"port_range_min": 443, "port_range_max": 444, "remote_ip_prefix": "192.0.2.0/24"}, keep={"rule": "id"}, user="demo"),
    Typed("security group rule create site --protocol tcp --dst-port 443:444 --remote-ip 192.0.2.0/24", refused="already exists", user="demo"),
    Typed("security group rule create site --protocol icmp --icmp-type 8 --remote-group site", shows={"remote_group_id": "{web}"}, user="demo"),
    Typed("security group rule create site --protocol udp --dst-port 53 --remote-address-group houses",
        shows={"remote_address_group_id": "{offices}"}, keep={"far": "id"}, user="demo"),
    Typed("security group rule create site --egress --ethertype IPv6 --protocol ipv6-icmp", user="demo"),
    Typed("security group rule list site --protocol tcp --ingress", has={"ID": {"{rule}"}}, only=True, user="demo"),
    Typed("security group rule show {rule}", shows={"security_group_id": "{web}", "description": "tls"}, user="demo"),
    Typed("address group delete houses", refused="in use", user="demo"),
    Typed("security group rule delete {rule} {far}", user="demo"),
    Typed("address group delete houses", user="demo"),
    Typed("security group delete default", refused="(?i)default security group", user="demo"),
    Typed("default security group rule create --protocol tcp --dst-port 22 --for-custom-sg --description ssh",
        shows={"used_in_default_sg": False, "used_in_non_default_sg": True}, keep={"first": "id"}),
    Typed("default security group rule list", has={"ID": {"{first}"}}),
    Typed("default security group rule show {first}", shows={"port_range_min": 22}),
    Typed("default security group rule delete {first}"),
    Typed("default security group rule show {first}", refused="(?i)no default_?security_?group_?rule|not found|could not"),
    Typed("security group default statefulness create --project demo --stateless", shows={"stateful": False}, keep={"choice": "id"}),
    Typed("security group create loose", shows={"stateful": False}, user="demo"),
    Typed("security group default statefulness set {choice} --stateful"),
    Typed("security group default statefulness show {choice}", shows={"stateful": True}),
    Typed("security group default statefulness list", has={"ID": {"{choice}"}}),
    Typed("security group default statefulness delete {choice}"),
    Typed("security group delete loose", user="demo"),
)
QOS = (
    Typed("network qos rule type list", has={"Type": {"bandwidth_limit", "dscp_marking", "packet_rate_limit"}}, only=True),
    Typed("network qos rule type list --all-rules", has={"Type": {"minimum_bandwidth"}}),
    Typed("network qos rule type show bandwidth_limit", shows={"rule_type_name": "bandwidth_limit"}),
    Typed("network qos policy create gold --description d --share", shows={"name": "gold", "shared": True, "rules": []}, keep={"gold": "id"}),
    Typed("network qos policy create mine", refused="(?i)403|forbidden|policy", user="demo"),
    Typed("network qos rule create gold --type bandwidth-limit --max-kbps 3000 --max-burst-kbits 300 --egress",
        shows={"max_kbps": 3000, "direction": "egress"}, keep={"limit": "id"}),
    Typed("network qos rule create gold --type bandwidth-limit --max-kbps 100 --egress", refused="conflicts with rule"),
    Typed("network qos rule create gold --type dscp-marking --dscp-mark 26", shows={"dscp_mark": 26}, keep={"mark": "id"}),
    Typed("network qos rule create gold --type minimum-bandwidth --min-kbps 100 --egress"),
    Typed("network qos rule create gold --type minimum-packet-rate --min-kpps 1 --any"),
    Typed("network qos rule set gold {limit} --max-kbps 4000"),
    Typed("network qos rule show gold {limit}", shows={"max_kbps": 4000, "max_burst_kbps": 300}),
    Typed("network qos rule list gold", has={"ID": {"{limit}", "{mark}"}}),
    Typed("network qos rule delete gold {mark}"),
    Typed("network qos policy set gold --name fast --no-default"),
    Typed("network qos policy show fast", shows={"id": "{gold}", "is_default": False}, user="demo"),
    Typed("network qos policy list --share", has={"ID": {"{gold}"}}, user="demo"),
    Typed("network set azure --qos-policy fast", user="demo"),
    Typed("network qos policy delete fast", refused="is used by network"),
    Typed("network set azure --no-qos-policy", user="demo"),
)
PORTS = (
    Typed("port create front --network azure --fixed-ip subnet=four,ip-address=10.44.0.50 --mac-address fa:16:3e:00:00:50 "
        "--security-group site --allowed-address ip-address=10.44.0.60 --dns-name front --description d --tag red --qos-policy fast "
        "--extra-dhcp-option name=bootfile-name,value=pxe --enable-uplink-status-propagation",
        shows={"mac_address": "fa:16:3e:00:00:50", "status": "DOWN", "dns_name": "front",
            "qos_policy_id": "{gold}", "tags": ["red"], "binding_vnic_type": "normal"},
        keep={"front": "id"}, user="demo"),
    Typed("port create taken --network azure --mac-address fa:16:3e:00:00:50", refused="is in use", user="demo"),
    Typed("port create taken --network azure --fixed-ip subnet=four,ip-address=10.44.0.50", refused="(?i)already allocated", user="demo"),
    Typed("port list --network azure --mac-address fa:16:3e:00:00:50", has={"ID": {"{front}"}}, only=True, user="demo"),
    Typed("port list --fixed-ip subnet=four,ip-substring=10.44.0.5", has={"Name": {"front"}}, only=True, user="demo"),
    Typed("port list --security-group {web}", has={"Name": {"front"}}, only=True, user="demo"),
    Typed("port set front --disable-port-security", refused="One request can do both", user="demo"),
    Typed("port set front --no-security-group --no-allowed-address --disable-port-security", user="demo"),
    Typed("port show front", shows={"port_security_enabled": False, "security_group_ids": [], "allowed_address_pairs": []}, user="demo"),
    Typed("port set front --enable-port-security --security-group site --allowed-address ip-address=10.44.0.61 --name back", user="demo"),
    Typed("port unset back --security-group site --allowed-address ip-address=10.44.0.61,mac-address=fa:16:3e:00:00:50 --tag red --qos-policy", user="demo"),
    Typed("port show back", shows={"security_group_ids": [], "allowed_address_pairs": [], "qos_policy_id": None}, user="demo"),
    Typed("port create inner --network azure", keep={"inner": "id"}, user="demo"),
    Typed("network trunk create stack --parent-port back --subport port=inner,segmentation-type=vlan,segmentation-id=7 --description d",
        shows={"port_id": "{front}", "status": "DOWN"}, keep={"stack": "id"}, user="demo"),
    Typed("network subport list --trunk stack", has={"Port": {"{inner}"}}, only=True, user="demo"),
    Typed("port delete back", refused="parent port for trunk", user="demo"),
    Typed("network trunk unset stack --subport inner", user="demo"),
    Typed("network trunk set stack --name tower --subport port=inner,segmentation-type=vlan,segmentation-id=8", user="demo"),
    Typed("network trunk list", has={"ID": {"{stack}"}}, user="demo"),
    Typed("network trunk show tower", shows={"id": "{stack}"}, user="demo"),
    Typed("network trunk subport remove tower inner", user="demo"),
    Typed("network trunk subport add tower inner --segmentation-type vlan --segmentation-id 9", user="demo"),
    Typed("network trunk subport list tower", has={"Port": {"{inner}"}}, only=True, user="demo"),
    Typed("network trunk delete tower", user="demo"),
    Typed("local ip create --name near --network azure --local-ip-address 10.44.0.77 --description d --ip-mode translate",
        shows={"name": "near", "local_ip_address": "10.44.0.77", "ip_mode": "translate"}, keep={"near": "id"}, user="demo"),
    Typed("local ip create --name far", refused="Either Port ID or Network ID", user="demo"),
    Typed("local ip create --name mine --local-port back --local-ip-address 10.44.0.50 --ip-mode passthrough", shows={"local_port_id": "{front}"}, user="demo"),
    Typed("local ip set near --name nearer --description e", user="demo"),
    Typed("local ip show nearer", shows={"id": "{near}", "description": "e"}, user="demo"),
    Typed("local ip list --ip-mode translate --network azure --local-ip-address 10.44.0.77", has={"Name": {"nearer"}}, only=True, user="demo"),
    Typed("local ip association create nearer inner", shows={"fixed_port_id": "{inner}", "local_ip_address": "10.44.0.77"}, user="demo"),
    Typed("local ip association create nearer back --fixed-ip 10.44.0.50", shows={"fixed_ip": "10.44.0.50"}, user="demo"),
    Typed("local ip association list nearer", has={"Fixed port ID": {"{inner}", "{front}"}}, only=True, user="demo"),
    Typed("local ip association list nearer --fixed-port inner", has={"Fixed port ID": {"{inner}"}}, only=True, user="demo"),
    Typed("local ip delete nearer", refused="still associated", user="demo"),
    Typed("port delete back", refused="referenced by Local IPs", user="demo"),
    Typed("local ip association delete nearer {inner} {front}", user="demo"),
    Typed("local ip delete nearer mine", user="demo"),
    Typed("network delete azure", refused="ports still in use", user="demo"),
    Typed("port delete back inner", user="demo"),
    Typed("security group delete site", user="demo"),
    Typed("network qos policy delete fast"),
)
END = (
    Typed("network auto allocated topology create --check-resources", refused="(?i)subnetpools", user="demo"),
    Typed("subnet pool create spring --pool-prefix 10.200.0.0/16 --default-prefix-length 26 --share --default"),
    Typed("network auto allocated topology create --check-resources", says="dry_run", user="demo"),
    Typed("network auto allocated topology create", keep={"auto": "id"}, user="demo"),
    Typed("network show {auto}", shows={"name": "auto_allocated_network"}, user="demo"),
    Typed("network auto allocated topology delete", user="demo"),
    Typed("subnet pool delete spring"),
    Typed("subnet delete four blue6", user="demo"),
    Typed("network delete azure shared"),
    Typed("network list", lacks={"Name": {"azure", "shared"}}),
)
# fmt: on
STORIES = {
    "networks": NETWORKS,
    "subnets": SUBNETS,
    "groups": GROUPS,
    "qos": QOS,
    "ports": PORTS,
    "end": END,
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    with RunningCloud(hypervisor="fake", hosts=1) as running:
        running.hosts_up(1)
        yield running


@pytest.fixture(scope="module")
def kept() -> dict[str, str]:
    """What the stories tell each other."""
    return {}


@pytest.mark.host
@pytest.mark.parametrize("story", STORIES)
def test_as_typed(cloud: RunningCloud, kept: dict[str, str], story: str) -> None:
    """In their order: later stories use what earlier ones made."""
    play(cloud, STORIES[story], kept)


def test_every_command_is_typed() -> None:
    known = commands("openstack.network.v2")
    typed = {command_of(line, known) for story in STORIES.values() for line in story}
    wanted = {each for each in known if each.startswith(OWN)}
    assert wanted <= typed, wanted - typed
    assert len(wanted) >= 95
