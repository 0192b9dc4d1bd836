"""One good body for every request of the API that takes one, by the name that `world.name_of` gives a route.

Texts in braces stand for things of a world: `{network/networks}` is the id of its network. Sources: the API references
of Keystone, Glance, Neutron, Placement and Nova.
"""

from __future__ import annotations

import re
from typing import Any

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBq3jEBSHnPyGQnWzVCnJ0UsTqFmqJRrM2nnaqOQbTuE me"
FLAVOR = {
    "flavor": {"name": "mini", "ram": 64, "vcpus": 1, "disk": 1, "id": "mini", "os-flavor-access:is_public": False}
}
SPECS = {"extra_specs": {"hw:cpu_policy": "shared"}}
RACK = {"name": "r", "network_type": "vlan", "minimum": 7, "maximum": 9}
_RULE = {"security_group_id": "{network/security-groups}", "direction": "ingress", "protocol": "tcp"}
_PATCH = "application/openstack-images-v2.1-json-patch"
_INVENTORY = {"total": 8, "reserved": 0, "min_unit": 1, "max_unit": 8, "step_size": 1, "allocation_ratio": 1.0}
_SERVER = {
    "name": "{name}-server",
    "flavorRef": "1",
    "imageRef": "{public/image}",
    "networks": [{"uuid": "{network/networks}"}],
    "metadata": {"colour": "red"},
    "security_groups": [{"name": "default"}],
}
_CONSUMER: dict[str, Any] = {
    "allocations": {},
    "project_id": "{project}",
    "user_id": "{user}",
    "consumer_generation": None,
    "consumer_type": "TOAST",
}

QOS: dict[str, dict[str, Any]] = {
    "bandwidth_limit": {"max_kbps": 1000, "max_burst_kbps": 100, "direction": "ingress"},
    "packet_rate_limit": {"max_kpps": 10, "direction": "ingress"},
    "dscp_marking": {"dscp_mark": 26},
    "minimum_bandwidth": {"min_kbps": 100, "direction": "ingress"},
    "minimum_packet_rate": {"min_kpps": 1, "direction": "ingress"},
}
BODIES: dict[str, Any] = {
    # --- identity ---
    "POST identity /v2.0": {},
    "POST identity /v2.0/{rest:path}": {},
    "POST identity /v3/auth/tokens": {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": {"id": "{user}", "password": "{password}"}}},
            "scope": {"project": {"id": "{project}"}},
        }
    },
    "POST identity /v3/domains": {"domain": {"name": "new", "description": "d", "enabled": True}},
    "PATCH identity /v3/domains/{domain_id}": {"domain": {"description": "changed"}},
    "POST identity /v3/projects": {"project": {"name": "new", "domain_id": "{identity/domains}", "tags": ["red"]}},
    "PATCH identity /v3/projects/{project_id}": {"project": {"description": "changed"}},
    "PUT identity /v3/projects/{project_id}/tags": {"tags": ["red", "blue"]},
    "POST identity /v3/users": {"user": {"name": "new", "domain_id": "{identity/domains}", "email": "a@b"}},
    "PATCH identity /v3/users/{user_id}": {"user": {"email": "a@b"}},
    "POST identity /v3/users/{user_id}/password": {"user": {"password": "other", "original_password": "{password}"}},
    "POST identity /v3/groups": {"group": {"name": "new", "domain_id": "{identity/domains}"}},
    "PATCH identity /v3/groups/{group_id}": {"group": {"description": "changed"}},
    "POST identity /v3/roles": {"role": {"name": "new", "description": "d"}},
    "PATCH identity /v3/roles/{role_id}": {"role": {"description": "changed"}},
    "POST identity /v3/regions": {
        "region": {"id": "south", "description": "d", "parent_region_id": "{identity/regions}"}
    },
    "PUT identity /v3/regions/{region_id}": {"region": {"description": "d"}},
    "PATCH identity /v3/regions/{region_id}": {"region": {"description": "changed"}},
    "POST identity /v3/services": {"service": {"type": "kettle", "name": "new", "enabled": True}},
    "PATCH identity /v3/services/{service_id}": {"service": {"name": "changed"}},
    "POST identity /v3/endpoints": {
        "endpoint": {
            "interface": "internal",
            "service_id": "{identity/services}",
            "url": "http://127.0.0.1:9/",
            "region_id": "{identity/regions}",
        }
    },
    "PATCH identity /v3/endpoints/{endpoint_id}": {"endpoint": {"url": "http://127.0.0.1:9/other"}},
    "POST identity /v3/credentials": {
        "credential": {"type": "cert", "blob": "a secret", "user_id": "{user}", "project_id": "{project}"}
    },
    "PATCH identity /v3/credentials/{credential_id}": {"credential": {"blob": "another"}},
    "POST identity /v3/users/{user_id}/credentials/OS-EC2": {"tenant_id": "{project}"},
    "POST identity /v3/ec2tokens": {
        "credentials": {
            "access": "{identity/OS-EC2}",
            "signature": "{signed/ec2}",
            "host": "h",
            "verb": "GET",
            "path": "/",
            "params": {"SignatureVersion": "2"},
        }
    },
    "POST identity /v3/s3tokens": {
        "credentials": {"access": "{identity/OS-EC2}", "signature": "{signed/s3}", "token": "R0VU"}
    },
    "POST identity /v3/users/{user_id}/application_credentials": {
        "application_credential": {
            "name": "new-{number}",
            "expires_at": "2199-01-01T00:00:00.000000",
            "access_rules": [{"service": "compute", "method": "GET", "path": "/v2.1/servers"}],
        }
    },
    "POST identity /v3/OS-EP-FILTER/endpoint_groups": {
        "endpoint_group": {"name": "new", "filters": {"interface": "public"}, "description": "d"}
    },
    "PATCH identity /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}": {
        "endpoint_group": {"description": "changed"}
    },
    "PUT identity /v3/domains/{domain_id}/config": {"config": {"identity": {"driver": "sql"}}},
    "PATCH identity /v3/domains/{domain_id}/config": {"config": {"identity": {"driver": "sql"}}},
    "PATCH identity /v3/domains/{domain_id}/config/{group}": {"config": {"identity": {"driver": "sql"}}},
    "PATCH identity /v3/domains/{domain_id}/config/{group}/{option}": {"config": {"driver": "sql"}},
    "POST identity /v3/OS-TRUST/trusts": {
        "trust": {
            "trustor_user_id": "{user}",
            "trustee_user_id": "{other}",
            "impersonation": False,
            "project_id": "{project}",
            "roles": [{"name": "reader"}],
            "expires_at": "2199-01-01T00:00:00.000000Z",
        }
    },
    "POST identity /v3/registered_limits": {
        "registered_limits": [
            {"service_id": "{identity/services}", "resource_name": "bread", "default_limit": 10, "description": "d"}
        ]
    },
    "PATCH identity /v3/registered_limits/{registered_limit_id}": {"registered_limit": {"description": "changed"}},
    "POST identity /v3/limits": {
        "limits": [
            {
                "service_id": "{identity/services}",
                "resource_name": "crumbs",
                "resource_limit": 5,
                "project_id": "{project}",
                "description": "d",
            }
        ]
    },
    "PATCH identity /v3/limits/{limit_id}": {"limit": {"resource_limit": 6}},
    "POST identity /v3/policies": {"policy": {"blob": "a blob", "type": "application/json"}},
    "PATCH identity /v3/policies/{policy_id}": {"policy": {"type": "text/plain"}},
    # --- image ---
    "POST image /v2/images": {
        "name": "new",
        "disk_format": "raw",
        "container_format": "bare",
        "tags": ["red"],
        "colour": "red",
    },
    "PATCH image /v2/images/{image_id}": [
        {"op": "replace", "path": "/name", "value": "changed"},
        {"op": "add", "path": "/colour", "value": "red"},
    ],
    "PUT image /v2/images/{image_id}/file": b"\0" * 512,
    "PUT image /v2/images/{image_id}/stage": b"\0" * 512,
    "POST image /v2/images/{image_id}/members": {"member": "{project}"},
    "PUT image /v2/images/{image_id}/members/{member_id}": {"status": "accepted"},
    "POST image /v2/images/{image_id}/import": {"method": {"name": "glance-direct"}},
    "POST image /v2/metadefs/namespaces": {
        "namespace": "{name}-new",
        "display_name": "d",
        "visibility": "private",
        "owner": "{project}",
        "resource_type_associations": [{"name": "OS::Nova::Server", "prefix": "hw_"}],
        "properties": {"depth": {"title": "t", "type": "integer", "minimum": 1}},
        "objects": [{"name": "crust", "properties": {"depth": {"title": "t", "type": "integer"}}}],
        "tags": [{"name": "red"}],
    },
    "PUT image /v2/metadefs/namespaces/{namespace}": {
        "namespace": "{name}-words",
        "owner": "{project}",
        "description": "d",
    },
    "POST image /v2/metadefs/namespaces/{namespace}/objects": {"name": "crumb", "description": "d"},
    "PUT image /v2/metadefs/namespaces/{namespace}/objects/{name}": {"name": "crust", "description": "d"},
    "POST image /v2/metadefs/namespaces/{namespace}/properties": {"name": "width", "title": "t", "type": "string"},
    "PUT image /v2/metadefs/namespaces/{namespace}/properties/{name}": {
        "name": "depth",
        "title": "t",
        "type": "integer",
    },
    "POST image /v2/metadefs/namespaces/{namespace}/tags": {"tags": [{"name": "red"}, {"name": "blue"}]},
    "POST image /v2/metadefs/namespaces/{namespace}/tags/{name}": None,
    "PUT image /v2/metadefs/namespaces/{namespace}/tags/{name}": {"name": "green"},
    "POST image /v2/metadefs/namespaces/{namespace}/resource_types": {"name": "OS::Cinder::Volume", "prefix": "vol_"},
    # --- network ---
    "POST network /v2.0/networks": {"network": {"name": "{name}-net", "description": "d", "admin_state_up": True}},
    "PUT network /v2.0/networks/{id}": {"network": {"description": "changed"}},
    "POST network /v2.0/segments": {
        "segment": {"network_id": "{network/networks}", "network_type": "geneve", "name": "s"}
    },
    "PUT network /v2.0/segments/{id}": {"segment": {"name": "changed"}},
    "POST network /v2.0/network_segment_ranges": {"network_segment_range": RACK | {"physical_network": "{name}-rack"}},
    "PUT network /v2.0/network_segment_ranges/{id}": {"network_segment_range": {"name": "changed"}},
    "POST network /v2.0/subnets": {
        "subnet": {"network_id": "{network/networks}", "cidr": "10.8{number}.9.0/24", "ip_version": 4, "name": "s"}
    },
    "PUT network /v2.0/subnets/{id}": {"subnet": {"name": "changed"}},
    "POST network /v2.0/subnetpools": {
        "subnetpool": {"name": "pool", "prefixes": ["10.9{number}.0.0/16"], "default_prefixlen": 26}
    },
    "PUT network /v2.0/subnetpools/{id}": {"subnetpool": {"name": "changed"}},
    "POST network /v2.0/ports": {"port": {"network_id": "{network/networks}", "name": "p", "admin_state_up": True}},
    "PUT network /v2.0/ports/{id}": {"port": {"name": "changed"}},
    "POST network /v2.0/routers": {
        "router": {"name": "r", "external_gateway_info": {"network_id": "{public/network}"}}
    },
    "PUT network /v2.0/routers/{id}": {"router": {"name": "changed"}},
    "PUT network /v2.0/routers/{id}/add_router_interface": {"subnet_id": "{spare/subnet}"},
    "PUT network /v2.0/routers/{id}/remove_router_interface": {"subnet_id": "{network/subnets}"},
    "PUT network /v2.0/routers/{id}/add_extraroutes": {
        "router": {"routes": [{"destination": "10.200.0.0/24", "nexthop": "10.8{number}.0.77"}]}
    },
    "PUT network /v2.0/routers/{id}/remove_extraroutes": {
        "router": {"routes": [{"destination": "10.200.0.0/24", "nexthop": "10.8{number}.0.77"}]}
    },
    "POST network /v2.0/floatingips": {"floatingip": {"floating_network_id": "{public/network}", "description": "d"}},
    "PUT network /v2.0/floatingips/{id}": {"floatingip": {"port_id": "{network/ports}"}},
    "POST network /v2.0/floatingips/{id}/port_forwardings": {
        "port_forwarding": {
            "protocol": "tcp",
            "internal_port_id": "{spare/port}",
            "internal_port": 22,
            "external_port": 2222,
            "description": "d",
        }
    },
    "PUT network /v2.0/floatingips/{id}/port_forwardings/{forwarding_id}": {
        "port_forwarding": {"description": "changed"}
    },
    "POST network /v2.0/routers/{id}/conntrack_helpers": {
        "conntrack_helper": {"protocol": "tcp", "port": 21, "helper": "ftp"}
    },
    "PUT network /v2.0/routers/{id}/conntrack_helpers/{helper_id}": {"conntrack_helper": {"port": 2100}},
    "PUT network /v2.0/routers/{id}/add_external_gateways": {
        "router": {"external_gateways": [{"network_id": "{public/network}"}]}
    },
    "PUT network /v2.0/routers/{id}/update_external_gateways": {
        "router": {"external_gateways": [{"network_id": "{public/network}"}]}
    },
    "PUT network /v2.0/routers/{id}/remove_external_gateways": {
        "router": {"external_gateways": [{"network_id": "{public/network}"}]}
    },
    "POST network /v2.0/ndp_proxies": {
        "ndp_proxy": {"name": "p", "router_id": "{wide/router}", "port_id": "{six/port}", "description": "d"}
    },
    "PUT network /v2.0/ndp_proxies/{id}": {"ndp_proxy": {"name": "changed"}},
    "POST network /v2.0/local_ips": {
        "local_ip": {"name": "l", "network_id": "{network/networks}", "description": "d", "ip_mode": "translate"}
    },
    "PUT network /v2.0/local_ips/{id}": {"local_ip": {"name": "changed"}},
    "POST network /v2.0/local_ips/{id}/port_associations": {"port_association": {"fixed_port_id": "{spare/port}"}},
    "POST network /v2.0/metering/metering-labels": {"metering_label": {"name": "m", "description": "d"}},
    "POST network /v2.0/metering/metering-label-rules": {
        "metering_label_rule": {
            "metering_label_id": "{network/metering-labels}",
            "direction": "ingress",
            "remote_ip_prefix": "203.0.113.0/24",
        }
    },
    "POST network /v2.0/flavors": {
        "flavor": {"name": "new", "service_type": "L3_ROUTER_NAT", "description": "d", "enabled": True}
    },
    "PUT network /v2.0/flavors/{id}": {"flavor": {"description": "changed"}},
    "POST network /v2.0/flavors/{id}/service_profiles": {"service_profile": {"id": "{spare/profile}"}},
    "POST network /v2.0/service_profiles": {"service_profile": {"description": "d", "metainfo": "{}"}},
    "PUT network /v2.0/service_profiles/{id}": {"service_profile": {"description": "changed"}},
    "POST network /v2.0/security-groups": {"security_group": {"name": "{name}-group", "description": "d"}},
    "PUT network /v2.0/security-groups/{id}": {"security_group": {"description": "changed"}},
    "POST network /v2.0/security-group-rules": {
        "security_group_rule": {**_RULE, "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "10.0.0.0/8"}
    },
    "POST network /v2.0/rbac-policies": {
        "rbac_policy": {
            "object_type": "network",
            "object_id": "{network/networks}",
            "action": "access_as_shared",
            "target_tenant": "{project}",
        }
    },
    "PUT network /v2.0/rbac-policies/{id}": {"rbac_policy": {"target_tenant": "{project}"}},
    "PUT network /v2.0/quotas/{project_id}": {"quota": {"network": 50}},
    "PUT network /v2.0/agents/{id}": {"agent": {"admin_state_up": True}},
    "POST network /v2.0/agents/{id}/dhcp-networks": {"network_id": "{network/networks}"},
    "POST network /v2.0/agents/{id}/l3-routers": {"router_id": "{network/routers}"},
    "PUT network /v2.0/agents/{id}/l3-routers/{router_id}": {"ha_chassis_priority": 7},
    "PUT network /v2.0/subnetpools/{id}/add_prefixes": {"prefixes": ["10.250.0.0/16"]},
    "PUT network /v2.0/subnetpools/{id}/remove_prefixes": {"prefixes": ["10.251.0.0/16"]},
    "PUT network /v2.0/subnetpools/{id}/onboard_network_subnets": {"network_id": "{spare/network}"},
    "POST network /v2.0/default-security-group-rules": {
        "default_security_group_rule": {"direction": "ingress", "protocol": "icmp", "used_in_default_sg": True}
    },
    "POST network /v2.0/security-groups-default-statefulness": {
        "security_group_default_statefulness": {"project_id": "{project}", "stateful": False}
    },
    "PUT network /v2.0/security-groups-default-statefulness/{id}": {
        "security_group_default_statefulness": {"stateful": True}
    },
    "POST network /v2.0/address-groups": {
        "address_group": {"name": "{name}-addresses", "addresses": ["10.0.0.0/24", "2001:db8::1/128"]}
    },
    "PUT network /v2.0/address-groups/{id}": {"address_group": {"description": "changed"}},
    "PUT network /v2.0/address-groups/{id}/add_addresses": {"addresses": ["10.9.0.0/24"]},
    "PUT network /v2.0/address-groups/{id}/remove_addresses": {"addresses": ["10.0.0.0/24"]},
    "POST network /v2.0/address-scopes": {"address_scope": {"name": "{name}-scope", "ip_version": 4}},
    "PUT network /v2.0/address-scopes/{id}": {"address_scope": {"name": "changed"}},
    "POST network /v2.0/trunks": {"trunk": {"port_id": "{network/ports}", "name": "t"}},
    "PUT network /v2.0/trunks/{id}": {"trunk": {"name": "changed"}},
    "PUT network /v2.0/trunks/{id}/add_subports": {
        "sub_ports": [{"port_id": "{spare/port}", "segmentation_type": "vlan", "segmentation_id": 8}]
    },
    "PUT network /v2.0/trunks/{id}/remove_subports": {"sub_ports": [{"port_id": "{trunk/child}"}]},
    "POST network /v2.0/ports/{id}/bindings": {"binding": {"host": "h1"}},
    "PUT network /v2.0/ports/{id}/bindings/{host}/activate": {},
    "POST network /v2.0/qos/policies": {"policy": {"name": "{name}-policy", "description": "d"}},
    "PUT network /v2.0/qos/policies/{id}": {"policy": {"description": "changed"}},
    **{
        f"{verb}{path.format(kind=kind.replace('_', '-') if 'alias' in path else kind)}": {
            f"{'alias_' if 'alias' in path else ''}{kind}_rule": values
        }
        for kind, values in QOS.items()
        for verb, path in (
            ("POST network /v2.0/qos/policies/", "{{id}}/{kind}_rules"),
            ("PUT network /v2.0/qos/policies/", "{{id}}/{kind}_rules/{{rule_id}}"),
            ("PUT network /v2.0/qos/", "alias-{kind}-rules/{{id}}"),
        )
    },
    # --- the operator's own ---
    "POST nephos-operator /keys/{kind}/rotate": {"force": True},
    "POST nephos-operator /invitations/withdraw": {"invitation": "host-1"},
    "POST nephos-operator /policy/check": {
        "user": "demo",
        "user_domain": "Default",
        "scope": {"project": "demo", "project_domain": "Default", "domain": None, "system": False},
        "method": "GET",
        "path": "/v3/users",
        "target": {"user_id": "x"},
    },
    # --- placement ---
    "POST placement /resource_providers": {"name": "new", "uuid": "{NOT_THERE}"},
    "PUT placement /resource_providers/{uuid}": {"name": "h1"},
    "PUT placement /resource_providers/{uuid}/traits": {
        "resource_provider_generation": "<generation>",
        "traits": ["HW_CPU_X86_VMX"],
    },
    "PUT placement /resource_providers/{uuid}/aggregates": {
        "resource_provider_generation": "<generation>",
        "aggregates": ["{NOT_THERE}"],
    },
    "POST placement /resource_providers/{uuid}/inventories": {**_INVENTORY, "resource_class": "CUSTOM_TOAST"},
    "PUT placement /resource_providers/{uuid}/inventories": {
        "resource_provider_generation": "<generation>",
        "inventories": {
            "VCPU": {**_INVENTORY, "total": 64, "max_unit": 64},
            "MEMORY_MB": {"total": 262144},
            "DISK_GB": {"total": 4000},
        },
    },
    "PUT placement /resource_providers/{uuid}/inventories/{resource_class}": {
        **_INVENTORY,
        "total": 64,
        "resource_provider_generation": "<generation>",
    },
    "PUT placement /allocations/{consumer_uuid}": {
        **_CONSUMER,
        "consumer_generation": "<consumer>",
        "allocations": {"{placement/resource_providers}": {"resources": {"VCPU": 1}}},
    },
    "POST placement /allocations": {
        "{NOT_THERE}": {**_CONSUMER, "allocations": {"{placement/resource_providers}": {"resources": {"VCPU": 1}}}}
    },
    "POST placement /reshaper": {
        "inventories": {
            "{placement/resource_providers}": {
                "resource_provider_generation": "<generation>",
                "inventories": {
                    "VCPU": {"total": 64},
                    "MEMORY_MB": {"total": 262144},
                    "DISK_GB": {"total": 4000},
                    "CUSTOM_TOAST": {"total": 4},
                },
            }
        },
        "allocations": {},
    },
    "POST placement /resource_classes": {"name": "CUSTOM_NEW"},
    "PUT placement /resource_classes/{name}": None,
    "PUT placement /resource_classes/{name} until 1.6": {"name": "CUSTOM_NEW"},
    # --- compute ---
    "POST compute /v2.1/flavors": {
        "flavor": {**FLAVOR["flavor"], "name": "new", "id": "new", "swap": 0, "OS-FLV-EXT-DATA:ephemeral": 0}
    },
    "PUT compute /v2.1/flavors/{id}": {"flavor": {"description": "changed"}},
    "POST compute /v2.1/flavors/{id}/action addTenantAccess": {"addTenantAccess": {"tenant": "{project}"}},
    "POST compute /v2.1/flavors/{id}/action removeTenantAccess": {"removeTenantAccess": {"tenant": "{project}"}},
    "POST compute /v2.1/flavors/{id}/os-extra_specs": SPECS,
    "PUT compute /v2.1/flavors/{id}/os-extra_specs/{key}": {"hw:cpu_policy": "dedicated"},
    "POST compute /v2.1/os-keypairs": {"keypair": {"name": "new", "type": "ssh", "public_key": KEY}},
    "PUT compute /v2.1/os-quota-sets/{project}": {"quota_set": {"cores": 50, "force": True}},
    "PUT compute /v2.1/os-quota-class-sets/{name}": {"quota_class_set": {"cores": 50}},
    "POST compute /v2.1/servers": {"server": _SERVER},
    "PUT compute /v2.1/servers/{server}": {"server": {"name": "changed"}},
    "POST compute /v2.1/servers/{server}/action os-migrateLive": {
        "os-migrateLive": {"host": None, "block_migration": "auto"}
    },
    "POST compute /v2.1/servers/{server}/migrations/{migration}/action force_complete": {"force_complete": None},
    "POST compute /v2.1/servers/{server}/action resize": {"resize": {"flavorRef": "2"}},
    "POST compute /v2.1/servers/{server}/action reboot": {"reboot": {"type": "SOFT"}},
    "POST compute /v2.1/servers/{server}/action rebuild": {
        "rebuild": {"imageRef": "{image/images}", "name": "changed", "metadata": {"colour": "red"}}
    },
    "POST compute /v2.1/servers/{server}/action changePassword": {"changePassword": {"adminPass": "secret"}},
    "POST compute /v2.1/servers/{server}/action rescue": {
        "rescue": {"rescue_image_ref": "{image/images}", "adminPass": "secret"}
    },
    "POST compute /v2.1/servers/{server}/action createImage": {
        "createImage": {"name": "copy", "metadata": {"colour": "red"}}
    },
    "POST compute /v2.1/servers/{server}/action createBackup": {
        "createBackup": {"name": "copy", "backup_type": "daily", "rotation": 1, "metadata": {"colour": "red"}}
    },
    "POST compute /v2.1/servers/{server}/action os-resetState": {"os-resetState": {"state": "active"}},
    "POST compute /v2.1/servers/{server}/action os-getConsoleOutput": {"os-getConsoleOutput": {"length": 10}},
    "POST compute /v2.1/servers/{server}/action lock": {"lock": {"locked_reason": "because"}},
    "POST compute /v2.1/servers/{server}/action addFixedIp": {"addFixedIp": {"networkId": "{network/networks}"}},
    "POST compute /v2.1/servers/{server}/action removeFixedIp": {"removeFixedIp": {"address": "{address}"}},
    "POST compute /v2.1/servers/{server}/action addFloatingIp": {"addFloatingIp": {"address": "{floating}"}},
    "POST compute /v2.1/servers/{server}/action removeFloatingIp": {"removeFloatingIp": {"address": "{floating}"}},
    "POST compute /v2.1/servers/{server}/action addSecurityGroup": {
        "addSecurityGroup": {"name": "{network/security-groups}"}
    },
    "POST compute /v2.1/servers/{server}/action removeSecurityGroup": {"removeSecurityGroup": {"name": "default"}},
    "POST compute /v2.1/servers/{server}/metadata": {"metadata": {"colour": "blue"}},
    "PUT compute /v2.1/servers/{server}/metadata": {"metadata": {"colour": "blue"}},
    "PUT compute /v2.1/servers/{server}/metadata/{key}": {"meta": {"colour": "blue"}},
    "POST compute /v2.1/images/{image}/metadata": {"metadata": {"colour": "blue"}},
    "PUT compute /v2.1/images/{image}/metadata": {"metadata": {"colour": "blue"}},
    "PUT compute /v2.1/images/{image}/metadata/{key}": {"meta": {"colour": "blue"}},
    "PUT compute /v2.1/servers/{server}/tags": {"tags": ["red", "blue"]},
    "POST compute /v2.1/servers/{server}/os-interface": {"interfaceAttachment": {"port_id": "{spare/port}"}},
    "PUT compute /v2.1/os-services/enable": {"host": "h1", "binary": "nova-compute"},
    "PUT compute /v2.1/os-services/disable": {"host": "h1", "binary": "nova-compute"},
    "PUT compute /v2.1/os-services/disable-log-reason": {
        "host": "h1",
        "binary": "nova-compute",
        "disabled_reason": "r",
    },
    "PUT compute /v2.1/os-services/force-down": {"host": "h1", "binary": "nova-compute", "forced_down": False},
    "PUT compute /v2.1/os-services/{id}": {"status": "enabled"},
    "PUT compute /v2.1/os-hosts/{name}": {"status": "enable"},
    "POST compute /v2.1/os-aggregates": {"aggregate": {"name": "new", "availability_zone": "zone"}},
    "PUT compute /v2.1/os-aggregates/{id}": {"aggregate": {"name": "changed"}},
    "POST compute /v2.1/os-aggregates/{id}/action add_host": {"add_host": {"host": "h1"}},
    "POST compute /v2.1/os-aggregates/{id}/action remove_host": {"remove_host": {"host": "h1"}},
    "POST compute /v2.1/os-aggregates/{id}/action set_metadata": {"set_metadata": {"metadata": {"colour": "red"}}},
    "POST compute /v2.1/os-server-groups": {
        "server_group": {"name": "{name}-group", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    },
    "POST compute /v2.1/os-floating-ips": {"pool": "public"},
    "POST compute /v2.1/os-server-external-events": {
        "events": [{"name": "network-changed", "server_uuid": "{compute/servers}", "tag": "{compute/os-interface}"}]
    },
    "POST compute /v2.1/os-security-groups": {"security_group": {"name": "new", "description": "d"}},
    "PUT compute /v2.1/os-security-groups/{group}": {"security_group": {"name": "changed", "description": "d"}},
    "POST compute /v2.1/os-security-group-rules": {
        "security_group_rule": {
            "parent_group_id": "{network/security-groups}",
            "ip_protocol": "tcp",
            "from_port": 80,
            "to_port": 80,
            "cidr": "10.0.0.0/8",
        }
    },
}

_GRANT = re.compile(r"(\w+) identity /v3/(OS-INHERIT/)?(projects|domains|system)(/\{\w+\})?/(users|groups)/.*roles.*")
LINKS = (
    "PUT identity /v3/groups/{group_id}/users/{user_id}",
    "PUT identity /v3/roles/{role_id}/implies/{implied_role_id}",
    *(
        f"PUT identity /v3/{inherit}{place}/{actor}/roles/{{role_id}}{end}"
        for inherit, end in (("", ""), ("OS-INHERIT/", "/inherited_to_projects"))
        for place in ("projects/{project_id}", "domains/{domain_id}", *([] if inherit else ["system"]))
        for actor in ("users/{user_id}", "groups/{group_id}")
    ),
    "PUT identity /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}",
    "PUT identity /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}",
    "PUT identity /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}",
    "PUT identity /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}",
    "PUT identity /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
)
"""What a world puts together with one another."""

_INSTEAD: dict[str, dict[str, str]] = {
    "GET nephos-operator /ports/{port}/trace": {"nephos-operator/ports": "network/ports"},
    "PUT identity /v3/regions/{region_id}": {"identity/regions": "unused/region"},
    "DELETE identity /v3/registered_limits/{registered_limit_id}": {
        "identity/registered_limits": "spare/registered_limit"
    },
    "POST image /v2/metadefs/namespaces/{namespace}/tags/{name}": {"image/tags": "name"},
    "PUT image /v2/images/{image_id}/file": {"image/images": "image/queued"},
    "PUT image /v2/images/{image_id}/stage": {"image/images": "image/queued"},
    "POST image /v2/images/{image_id}/import": {"image/images": "staged/image"},
    "GET compute /v2.1/os-hypervisors/{id}/search": {"compute/os-hypervisors": "host"},
    "GET compute /v2.1/os-hypervisors/{id}/servers": {"compute/os-hypervisors": "host"},
    "DELETE network /v2.0/networks/{id}": {"network/networks": "spare/network"},
    "DELETE network /v2.0/local_ips/{id}": {"network/local_ips": "spare/local_ip"},
    "DELETE network /v2.0/subnets/{id}": {"network/subnets": "spare/subnet"},
    "DELETE network /v2.0/routers/{id}": {"network/routers": "spare/router"},
    "PUT network /v2.0/routers/{id}/remove_external_gateways": {"network/routers": "spare/router"},
    "PUT network /v2.0/service_profiles/{id}": {"network/service_profiles": "free/profile"},
    "DELETE network /v2.0/service_profiles/{id}": {"network/service_profiles": "free/profile"},
    "POST network /v2.0/qos/policies/{id}/dscp_marking_rules": {"network/policies": "spare/policy"},
    "DELETE network /v2.0/qos/policies/{id}": {"network/policies": "spare/policy"},
    "PUT network /v2.0/ports/{id}/bindings/{host}/activate": {"network/ports": "spare/port"},
    "DELETE network /v2.0/ports/{id}/bindings/{host}": {"network/ports": "spare/port"},
}


def instead(name: str) -> dict[str, str]:
    """Which thing a route's URL takes in place of another, so that the request can succeed."""
    if _GRANT.fullmatch(name):
        return {"identity/users": "spare/user"}
    if "/port_forwardings" in name:
        return {"network/floatingips": "spare/floating"}
    if "/agents/{id}/dhcp-networks" in name:
        return {"network/agents": "dhcp/agent"}
    if "/agents/{id}/l3-routers" in name:
        return {"network/agents": "l3/agent"}
    return _INSTEAD.get(name, {})


BODYLESS = re.compile(
    r"PUT identity /v3/(OS-INHERIT/)?(projects|domains|system)(/\{\w+\})?/(users|groups)/\{\w+\}/roles/.*"
    r"|PUT identity /v3/(groups/\{group_id\}/users|projects/\{project_id\}/tags|roles/\{role_id\}/implies)/\{\w+\}"
    r"|PUT identity /v3/OS-EP-FILTER/(endpoint_groups/\{\w+\}/projects|projects/\{\w+\}/endpoints)/\{\w+\}"
    r"|PUT identity /v3/policies/\{policy_id\}/OS-ENDPOINT-POLICY/.*"
    r"|POST image /v2/images/\{image_id\}/actions/(de|re)activate|PUT image /v2/images/\{image_id\}/tags/\{tag\}"
    r"|PUT network /v2.0/\S+/\{id\}/tags/\{tag\}|PUT placement /traits/\{name\}"
    r"|PUT compute /v2.1/servers/\{server\}/tags/\{tag\}"
)
_NETWORK_TAGS = re.compile(r"(PUT|POST) network /v2.0/\S+/\{id\}/tags")
_ACTION = re.compile(r"POST compute /v2.1/servers/\{server\}/action (\S+)")

QUERIES = {
    # a list of everybody's asks for one more rule
    "GET compute /v2.1/os-migrations": "?project_id={project}",
    "GET placement /usages": "?project_id={project}",
    "GET placement /allocation_candidates": "?resources=VCPU:1",
}
IMAGE_TYPES = {
    "PATCH image /v2/images/{image_id}": {"Content-Type": _PATCH},
    "PUT image /v2/images/{image_id}/file": {"Content-Type": "application/octet-stream"},
    "PUT image /v2/images/{image_id}/stage": {"Content-Type": "application/octet-stream"},
}


def body(name: str, things: dict[str, str]) -> Any:
    """A fresh body for the route of that name. Raises KeyError for one that nobody thought of."""
    if BODYLESS.fullmatch(name):
        return None
    if _NETWORK_TAGS.fullmatch(name):
        return {"tags": ["red", "blue"]}
    action = _ACTION.fullmatch(name)
    if name not in BODIES and action:
        return {action[1]: None}
    return filled(BODIES[name], things)


def filled(value: Any, things: dict[str, str]) -> Any:
    """The same with things in place of their names in braces."""
    if value == "<generation>":
        return int(things["generation"])
    if value == "<consumer>":
        return int(things["consumer"])
    if isinstance(value, str):
        return re.sub(r"\{([^{}]+)\}", lambda found: things[found[1]], value) if "{" in value else value
    if isinstance(value, dict):
        return {filled(key, things): filled(item, things) for key, item in value.items()}
    return [filled(item, things) for item in value] if isinstance(value, list) else value
