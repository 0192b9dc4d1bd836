"""An OpenAPI 3.1 document of a service: its route table, and the types that its handlers read bodies with.

The types are asked of the handlers: each route is sent its good body of `seeds`, and what msgspec is told to read is
noted. Verbs of one URL that differ by action or microversion are one operation, with the body of each as a choice.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from nephos.kernel.http.routes import Route, Service
from tests.api import mutations
from tests.api.world import World, name_of, versions

PARAMETERS: dict[str, str] = {
    "identity": "limit marker sort_key sort_dir name name__contains name__regex enabled domain_id parent_id is_domain "
    "password_expires_at tags tags-any not-tags user.id scope.project.id role.id effective include_names include_subtree "
    "type service_id interface region_id user_id trustor_user_id resource_name project_id policy_id parents_as_list "
    "subtree_as_ids nocatalog",
    "image": "limit marker sort sort_key sort_dir name status visibility owner member_status size_min size_max created_at "
    "updated_at tag os_hidden id protected disk_format container_format checksum resource_types namespace colour",
    "network": "limit marker page_reverse sort_key sort_dir fields name id status admin_state_up tenant_id project_id "
    "router:external shared tags tags-any not-tags fixed_ips ip_version mtu changed_since revision_number device_id "
    "mac_address network_id cidr alive agent_type protocol port_range_min ethertype security_groups binding:host_id",
    "placement": "name uuid member_of resources required in_tree associated project_id user_id consumer_type limit "
    "group_policy root_required same_subtree resources1 required1 resources_X",
    "compute": "limit marker offset sort_key sort_dir all_tenants name status image flavor host ip ip6 changes-since "
    "changes-before created_at launched_at power_state vm_state task_state tags tags-any not-tags-any reservation_id "
    "deleted locked config_drive minDisk minRam is_public user_id tenant_id project_id hypervisor_hostname_pattern "
    "with_servers start end detailed binary zone service usage_type",
    "nephos-operator": "limit marker name service rule",
}
"""What lists of each service are asked by; those of other services are no parameters there, and are ignored."""
Schema = dict[str, Any]
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")
_WORD: Schema = {"type": "string", "minLength": 1, "maxLength": 300}
_PAGE: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 0, "maximum": 1000},
    "marker": {"enum": [""]},
    "sort_key": {"enum": ["id", "name"]},
    "sort_dir": {"enum": ["asc", "desc"]},
}
"""What fits these; the rest are words."""
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def document(world: World, service: Service) -> Schema:
    """Good for a fuzzer: what a URL names is real in most of the requests that fit. It sends what it learns from: call it
    where that is taken back."""
    paths: dict[str, dict[str, Any]] = {}
    components: dict[str, Any] = {}
    for route in world.thought_of(service):
        path = _PLACE.sub(r"{\1}", service.prefixes[0] + route.path) or "/"
        operation = paths.setdefault(path, {}).setdefault(route.method.lower(), _operation(world, service, route))
        body = world.body(service, route, world.alpha)
        if isinstance(body, dict | list):
            content = operation.setdefault("requestBody", {"content": {"application/json": {"schema": {"anyOf": []}}}})
            choices = content["content"]["application/json"]["schema"]["anyOf"]
            schema = _body(world, service, route, body, components)
            if schema not in choices:
                choices.append(schema)
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(world: World, service: Service, route: Route) -> Schema:
    url = world.url(service, route, world.alpha).partition("?")[0].split("/")
    template = (service.prefixes[0] + route.path).split("/")
    real = {found[1]: part for name, part in zip(template, url, strict=False) if (found := _PLACE.fullmatch(name))}
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"anyOf": [{"enum": [value]}, {"const": value}, _WORD]},
        }
        for name, value in real.items()
    ]
    if route.method == "GET" and route.permission is not None:
        words = {"type": "string", "maxLength": 300}
        usual = {"anyOf": [words, {"enum": [*real.values(), "1", "true", "id"]}]}
        parameters += [
            {"name": name, "in": "query", "schema": _PAGE.get(name, usual)} for name in PARAMETERS[service.name].split()
        ]
    return {
        "operationId": name_of(service, route),
        "parameters": parameters,
        "responses": {"default": {"description": "in the service's own words"}},
        "x-headers": versions(service, route),
    }


def _body(world: World, service: Service, route: Route, body: Any, components: dict[str, Any]) -> Schema:
    with pytest.MonkeyPatch.context() as patch, mutations.noted(patch, body) as seen:
        world.send(world.admin, service, route, world.url(service, route, world.alpha), body)
    kinds: dict[mutations.Path, Any] = {}
    for path, kind in seen:
        kinds.setdefault(path, kind)
    return _schema(body, (), kinds, components)


def _schema(value: Any, at: mutations.Path, kinds: dict[mutations.Path, Any], components: dict[str, Any]) -> Schema:
    """Of a noted type where there is one, else like the value that stands there."""
    kind = kinds.get(at)
    if kind is not None and kind is not Any:
        try:
            (schema,), more = msgspec.json.schema_components((kind,), ref_template="#/components/schemas/{name}")
        except TypeError:
            schema, more = {}, {}
        if schema and schema != {"type": "object"}:
            components.update(more)
            return dict(schema)
    if isinstance(value, dict):
        parts = {str(key): _schema(each, (*at, key), kinds, components) for key, each in value.items()}
        return {"type": "object", "properties": parts, "required": list(parts)}
    if isinstance(value, list):
        items = [_schema(each, (*at, place), kinds, components) for place, each in enumerate(value)]
        return {"type": "array", "items": {"anyOf": items}} if items else {"type": "array"}
    return {"type": _KINDS[type(value)]}
