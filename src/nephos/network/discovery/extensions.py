"""The extensions that work here. Aliases, names and dates are Neutron's: clients look for the aliases."""

from __future__ import annotations

from typing import NamedTuple


class Extension(NamedTuple):
    """One extension as /extensions shows it."""

    alias: str
    name: str
    description: str
    updated: str

    def shown(self) -> dict[str, object]:
        return {**self._asdict(), "links": []}


ALL = tuple(
    Extension(*each)
    for each in (
        ("agent", "agent", "The agents of the hosts.", "2013-02-03T10:00:00-00:00"),
        (
            "allowed-address-pairs",
            "Allowed Address Pairs",
            "More addresses that a port may use.",
            "2013-07-23T10:00:00-00:00",
        ),
        (
            "auto-allocated-topology",
            "Auto Allocated Topology Services",
            "A network made on demand.",
            "2016-01-01T00:00:00-00:00",
        ),
        ("availability_zone", "Availability Zone", "The availability zones.", "2015-01-01T10:00:00-00:00"),
        ("binding", "Port Binding", "Which host a port is on.", "2014-02-03T10:00:00-00:00"),
        (
            "default-subnetpools",
            "Default Subnetpools",
            "Subnet pools that are taken by default.",
            "2016-02-18T18:00:00-00:00",
        ),
        ("dhcp_agent_scheduler", "DHCP Agent Scheduler", "Which hosts answer DHCP.", "2013-02-07T10:00:00-00:00"),
        ("dns-integration", "DNS Integration", "DNS names of ports and networks.", "2015-08-15T18:00:00-00:00"),
        (
            "empty-string-filtering",
            "Empty String Filtering Extension",
            "Filters for empty values.",
            "2018-05-01T10:00:00-00:00",
        ),
        (
            "ext-gw-mode",
            "Neutron L3 Configurable external gateway mode",
            "Source NAT on or off.",
            "2013-03-28T10:00:00-00:00",
        ),
        ("external-net", "Neutron external network", "Networks that lead outside.", "2013-01-14T10:00:00-00:00"),
        ("extra_dhcp_opt", "Neutron Extra DHCP options", "DHCP options of single ports.", "2013-03-17T12:00:00-00:00"),
        ("extraroute", "Neutron Extra Route", "Static routes of routers.", "2013-02-01T10:00:00-00:00"),
        (
            "extraroute-atomic",
            "Atomically add/remove extra routes",
            "Single routes at a time.",
            "2019-07-10T00:00:00+00:00",
        ),
        (
            "filter-validation",
            "Filter parameters validation",
            "Unknown filters are refused.",
            "2018-07-04T10:00:00-00:00",
        ),
        (
            "fip-port-details",
            "Floating IP Port Details Extension",
            "The port a floating IP leads to.",
            "2018-04-09T10:00:00-00:00",
        ),
        (
            "ip-substring-filtering",
            "IP address substring filtering",
            "Ports by a part of an address.",
            "2017-11-28T09:00:00-00:00",
        ),
        ("l3_agent_scheduler", "L3 Agent Scheduler", "Which host carries a router.", "2013-02-07T10:00:00-00:00"),
        ("net-mtu", "Network MTU", "The MTU of a network.", "2015-03-25T10:00:00-00:00"),
        ("net-mtu-writable", "Network MTU (writable)", "The MTU of a network can be set.", "2017-07-12T00:00:00-00:00"),
        (
            "network-ip-availability",
            "Network IP Availability",
            "How many addresses are used.",
            "2015-09-24T00:00:00-00:00",
        ),
        ("network_availability_zone", "Network Availability Zone", "Zones of networks.", "2015-01-01T10:00:00-00:00"),
        ("pagination", "Pagination support", "Lists come in pages.", "2016-06-12T00:00:00-00:00"),
        ("port-security", "Port Security", "Anti-spoofing on or off.", "2012-07-23T10:00:00-00:00"),
        (
            "port-security-groups-filtering",
            "Port filtering on security groups",
            "Ports by group.",
            "2018-01-09T09:00:00-00:00",
        ),
        ("project-id", "project_id field enabled", "project_id beside tenant_id.", "2016-09-09T09:09:09-09:09"),
        ("provider", "Provider Network", "What carries a network.", "2012-09-07T10:00:00-00:00"),
        ("quota_details", "Quota details management support", "Limits with use.", "2017-02-10T10:00:00-00:00"),
        ("quotas", "Quota management support", "Limits of projects.", "2012-07-29T10:00:00-00:00"),
        ("rbac-policies", "RBAC Policies", "Networks shared with single projects.", "2015-06-17T12:15:12-00:00"),
        (
            "revision-if-match",
            "If-Match constraints based on revision_number",
            "Changes only of a known revision.",
            "2016-12-11T00:00:00-00:00",
        ),
        ("router", "Neutron L3 Router", "Routers and floating IPs.", "2012-07-20T10:00:00-00:00"),
        ("router_availability_zone", "Router Availability Zone", "Zones of routers.", "2015-01-01T10:00:00-00:00"),
        ("security-group", "security-group", "Security groups.", "2012-10-05T10:00:00-00:00"),
        (
            "security-groups-normalized-cidr",
            "Normalized CIDR field for security group rules",
            "Ranges in their own form.",
            "2020-07-28T10:00:00-00:00",
        ),
        (
            "security-groups-shared-filtering",
            "Security group filtering on the shared field",
            "Groups by being shared.",
            "2021-10-05T09:00:00-00:00",
        ),
        ("service-type", "Neutron Service Type Management", "What provides services.", "2013-01-20T00:00:00-00:00"),
        ("sort-key-validation", "Sort keys validation", "Unknown sort keys are refused.", "2018-07-04T10:00:00-00:00"),
        ("sorting", "Sorting support", "Lists come in order.", "2016-06-12T00:00:00-00:00"),
        ("standard-attr-description", "standard-attr-description", "Descriptions.", "2016-02-10T10:00:00-00:00"),
        ("standard-attr-revisions", "Resource revision numbers", "Revision numbers.", "2016-04-11T10:00:00-00:00"),
        (
            "standard-attr-tag",
            "Tag support for resources with standard attribute",
            "Tags.",
            "2017-01-01T00:00:00-00:00",
        ),
        ("standard-attr-timestamp", "Resource timestamps", "When made and changed.", "2016-09-12T10:00:00-00:00"),
        (
            "stateful-security-group",
            "Stateful security group",
            "Groups without connection tracking.",
            "2019-11-26T09:00:00-00:00",
        ),
        (
            "subnet-external-network",
            "Subnet belongs to an external network",
            "Subnets tell it.",
            "2024-02-05T18:00:00-00:00",
        ),
        ("subnet-service-types", "Subnet service types", "Subnets for some devices only.", "2016-03-15T18:00:00-00:00"),
        ("subnet_allocation", "Subnet Allocation", "Subnet pools.", "2015-03-30T10:00:00-00:00"),
        ("tag", "Tag support", "Tags of networks.", "2016-01-01T00:00:00-00:00"),
    )
)
BY_ALIAS = {each.alias: each for each in ALL}
