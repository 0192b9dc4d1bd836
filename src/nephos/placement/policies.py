"""The placement API's policy rules: names, checks and token scopes as Placement 16 has them."""

from __future__ import annotations

from nephos.kernel.policy import Rule

PROJECT = ("project",)

ADMIN_OR_SERVICE = "rule:admin_or_service_api"

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("admin_api", "role:admin", PROJECT),
    Rule("service_api", "role:service", PROJECT),
    Rule("admin_or_service_api", "role:admin or role:service", PROJECT),
    Rule("project_reader_api", "role:reader and project_id:%(project_id)s"),
    Rule("admin_or_project_reader_or_service_api", "role:admin or rule:project_reader_api or role:service", PROJECT),
    Rule("placement:resource_providers:list", ADMIN_OR_SERVICE, PROJECT, "GET /resource_providers"),
    Rule("placement:resource_providers:create", ADMIN_OR_SERVICE, PROJECT, "POST /resource_providers"),
    Rule("placement:resource_providers:show", ADMIN_OR_SERVICE, PROJECT, "GET /resource_providers/{uuid}"),
    Rule("placement:resource_providers:update", ADMIN_OR_SERVICE, PROJECT, "PUT /resource_providers/{uuid}"),
    Rule("placement:resource_providers:delete", ADMIN_OR_SERVICE, PROJECT, "DELETE /resource_providers/{uuid}"),
    Rule("placement:resource_classes:list", ADMIN_OR_SERVICE, PROJECT, "GET /resource_classes"),
    Rule("placement:resource_classes:create", ADMIN_OR_SERVICE, PROJECT, "POST /resource_classes"),
    Rule("placement:resource_classes:show", ADMIN_OR_SERVICE, PROJECT, "GET /resource_classes/{name}"),
    Rule("placement:resource_classes:update", ADMIN_OR_SERVICE, PROJECT, "PUT /resource_classes/{name}"),
    Rule("placement:resource_classes:delete", ADMIN_OR_SERVICE, PROJECT, "DELETE /resource_classes/{name}"),
    Rule("placement:resource_providers:inventories:list", ADMIN_OR_SERVICE, PROJECT,
        "GET /resource_providers/{uuid}/inventories"),
    Rule("placement:resource_providers:inventories:create", ADMIN_OR_SERVICE, PROJECT,
        "POST /resource_providers/{uuid}/inventories"),
    Rule("placement:resource_providers:inventories:show", ADMIN_OR_SERVICE, PROJECT,
        "GET /resource_providers/{uuid}/inventories/{resource_class}"),
    Rule("placement:resource_providers:inventories:update", ADMIN_OR_SERVICE, PROJECT,
        "PUT /resource_providers/{uuid}/inventories, PUT /resource_providers/{uuid}/inventories/{resource_class}"),
    Rule("placement:resource_providers:inventories:delete", ADMIN_OR_SERVICE, PROJECT,
        "DELETE /resource_providers/{uuid}/inventories, "
        "DELETE /resource_providers/{uuid}/inventories/{resource_class}"),
    Rule("placement:resource_providers:aggregates:list", ADMIN_OR_SERVICE, PROJECT,
        "GET /resource_providers/{uuid}/aggregates"),
    Rule("placement:resource_providers:aggregates:update", ADMIN_OR_SERVICE, PROJECT,
        "PUT /resource_providers/{uuid}/aggregates"),
    Rule("placement:resource_providers:usages", ADMIN_OR_SERVICE, PROJECT, "GET /resource_providers/{uuid}/usages"),
    Rule("placement:usages", "rule:admin_or_project_reader_or_service_api", PROJECT, "GET /usages"),
    Rule("placement:traits:list", ADMIN_OR_SERVICE, PROJECT, "GET /traits"),
    Rule("placement:traits:show", ADMIN_OR_SERVICE, PROJECT, "GET /traits/{name}"),
    Rule("placement:traits:update", ADMIN_OR_SERVICE, PROJECT, "PUT /traits/{name}"),
    Rule("placement:traits:delete", ADMIN_OR_SERVICE, PROJECT, "DELETE /traits/{name}"),
    Rule("placement:resource_providers:traits:list", ADMIN_OR_SERVICE, PROJECT,
        "GET /resource_providers/{uuid}/traits"),
    Rule("placement:resource_providers:traits:update", ADMIN_OR_SERVICE, PROJECT,
        "PUT /resource_providers/{uuid}/traits"),
    Rule("placement:resource_providers:traits:delete", ADMIN_OR_SERVICE, PROJECT,
        "DELETE /resource_providers/{uuid}/traits"),
    Rule("placement:allocations:manage", ADMIN_OR_SERVICE, PROJECT, "POST /allocations"),
    Rule("placement:allocations:list", ADMIN_OR_SERVICE, PROJECT, "GET /allocations/{consumer_uuid}"),
    Rule("placement:allocations:update", ADMIN_OR_SERVICE, PROJECT, "PUT /allocations/{consumer_uuid}"),
    Rule("placement:allocations:delete", ADMIN_OR_SERVICE, PROJECT, "DELETE /allocations/{consumer_uuid}"),
    Rule("placement:resource_providers:allocations:list", ADMIN_OR_SERVICE, PROJECT,
        "GET /resource_providers/{uuid}/allocations"),
    Rule("placement:allocation_candidates:list", ADMIN_OR_SERVICE, PROJECT, "GET /allocation_candidates"),
    Rule("placement:reshaper:reshape", "rule:service_api", PROJECT, "POST /reshaper"),
)
# fmt: on
