"""The extensions that are served. One is listed only when all of it works: clients and Tempest rely on the list."""

from __future__ import annotations

from typing import NamedTuple


class Extension(NamedTuple):
    alias: str
    name: str


EXTENSIONS = (
    Extension("address-scope", "Address scope"),
    Extension("agent", "agent"),
    Extension("allowed-address-pairs", "Allowed Address Pairs"),
    Extension("availability_zone", "Availability Zone"),
    Extension("binding", "Port Binding"),
    Extension("default-subnetpools", "Default Subnetpools"),
    Extension("dns-integration", "DNS Integration"),
    Extension("ext-gw-mode", "Neutron L3 Configurable external gateway mode"),
    Extension("external-net", "Neutron external network"),
    Extension("extra_dhcp_opt", "Neutron Extra DHCP options"),
    Extension("extraroute", "Neutron Extra Route"),
    Extension("filter-validation", "Filter parameters validation"),
    Extension("ip-substring-filtering", "IP address substring filtering"),
    Extension("net-mtu", "Network MTU"),
    Extension("net-mtu-writable", "Network MTU (writable)"),
    Extension("network-ip-availability", "Network IP Availability"),
    Extension("network_availability_zone", "Network Availability Zone"),
    Extension("pagination", "Pagination support"),
    Extension("port-security", "Port Security"),
    Extension("project-id", "project_id field enabled"),
    Extension("provider", "Provider Network"),
    Extension("quotas", "Quota management support"),
    Extension("quota_details", "Quota details management support"),
    Extension("rbac-policies", "RBAC Policies"),
    Extension("revision-if-match", "If-Match constraints based on revision_number"),
    Extension("router", "Neutron L3 Router"),
    Extension("router_availability_zone", "Router Availability Zone"),
    Extension("security-group", "security-group"),
    Extension("security-groups-normalized-cidr", "Normalized CIDR field for security group rules"),
    Extension("security-groups-remote-address-group", "Remote address group id field for security group rules"),
    Extension("service-type", "Neutron Service Type Management"),
    Extension("sorting", "Sorting support"),
    Extension("standard-attr-description", "standard-attr-description"),
    Extension("standard-attr-revisions", "Resource revision numbers"),
    Extension("standard-attr-tag", "Tag support for resources with standard attribute"),
    Extension("standard-attr-timestamp", "Resource timestamps"),
    Extension("stateful-security-group", "Stateful security group"),
    Extension("subnet-service-types", "Subnet service types"),
    Extension("subnet_allocation", "Subnet Allocation"),
)
