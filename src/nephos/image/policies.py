"""The image API's policy rules: names, checks and token scopes as Glance 33 has them.

A rule without operations is a building block for others. Targets hold `project_id`, `owner`, `visibility` and, where an
image is shared, `member_id`.
"""

from __future__ import annotations

from nephos.kernel.policy import Rule

PROJECT = ("project",)

ADMIN = "rule:context_is_admin"
METADEF_ADMIN = "rule:metadef_admin"
DEFAULT = "rule:default"
MEMBER_OR_ADMIN = "rule:context_is_admin or (role:member and project_id:%(project_id)s)"
READER_OR_ADMIN = "rule:context_is_admin or (role:reader and project_id:%(project_id)s)"
READER_OF_PUBLIC = "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))"
MEMBER_OF_VISIBLE = (
    "rule:context_is_admin or (role:member and (project_id:%(project_id)s or project_id:%(member_id)s "
    "or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))"
)
SHARER_OR_ADMIN = "rule:context_is_admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("default", ""),
    Rule("context_is_admin", "role:admin"),
    Rule("service_api", "role:service or role:admin"),
    Rule("add_image",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)", PROJECT,
        "POST /v2/images"),
    Rule("delete_image", MEMBER_OR_ADMIN, PROJECT, "DELETE /v2/images/{image_id}"),
    Rule("get_image",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s "
        "or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s "
        "or 'shared':%(visibility)s))", PROJECT,
        "GET /v2/images/{image_id}"),
    Rule("get_images", READER_OR_ADMIN, PROJECT, "GET /v2/images"),
    Rule("modify_image", MEMBER_OR_ADMIN, PROJECT, "PATCH /v2/images/{image_id}"),
    Rule("publicize_image", ADMIN, PROJECT, "PATCH /v2/images/{image_id}"),
    Rule("communitize_image", MEMBER_OR_ADMIN, PROJECT, "PATCH /v2/images/{image_id}"),
    Rule("download_image", MEMBER_OF_VISIBLE, PROJECT, "GET /v2/images/{image_id}/file"),
    Rule("download_from_store", MEMBER_OF_VISIBLE, PROJECT, "GET /v2/images/{image_id}/file"),
    Rule("upload_image", MEMBER_OR_ADMIN, PROJECT, "PUT /v2/images/{image_id}/file"),
    Rule("delete_image_location", ADMIN, PROJECT, "PATCH /v2/images/{image_id}"),
    Rule("get_image_location", READER_OR_ADMIN, PROJECT, "GET /v2/images/{image_id}"),
    Rule("set_image_location", MEMBER_OR_ADMIN, PROJECT, "PATCH /v2/images/{image_id}"),
    Rule("add_image_location",
        "rule:service_api or (role:member and project_id:%(project_id)s and project_id:%(owner)s)", PROJECT,
        "POST /v2/images/{image_id}/locations"),
    Rule("fetch_image_location", "rule:service_api", PROJECT, "GET /v2/images/{image_id}/locations"),
    Rule("add_member", MEMBER_OR_ADMIN, PROJECT, "POST /v2/images/{image_id}/members"),
    Rule("delete_member", MEMBER_OR_ADMIN, PROJECT, "DELETE /v2/images/{image_id}/members/{member_id}"),
    Rule("get_member", SHARER_OR_ADMIN, PROJECT, "GET /v2/images/{image_id}/members/{member_id}"),
    Rule("get_members", SHARER_OR_ADMIN, PROJECT, "GET /v2/images/{image_id}/members"),
    Rule("modify_member", "rule:context_is_admin or (role:member and project_id:%(member_id)s)", PROJECT,
        "PUT /v2/images/{image_id}/members/{member_id}"),
    Rule("manage_image_cache", ADMIN, PROJECT),
    Rule("deactivate", MEMBER_OR_ADMIN, PROJECT, "POST /v2/images/{image_id}/actions/deactivate"),
    Rule("reactivate", MEMBER_OR_ADMIN, PROJECT, "POST /v2/images/{image_id}/actions/reactivate"),
    Rule("copy_image", ADMIN, PROJECT, "POST /v2/images/{image_id}/import"),
    Rule("list_cached_nodes", ADMIN, PROJECT, "GET /v2/cache/nodes/{image_id}"),
    Rule("get_task", DEFAULT, PROJECT, "GET /v2/tasks/{task_id}"),
    Rule("get_tasks", DEFAULT, PROJECT, "GET /v2/tasks"),
    Rule("add_task", DEFAULT, PROJECT, "POST /v2/tasks"),
    Rule("modify_task", DEFAULT, PROJECT, "DELETE /v2/tasks/{task_id}"),
    Rule("tasks_api_access", ADMIN, PROJECT,
        "GET /v2/tasks/{task_id}, GET /v2/tasks, POST /v2/tasks, DELETE /v2/tasks/{task_id}"),
    Rule("metadef_default", ""),
    Rule("metadef_admin", ADMIN),
    Rule("get_metadef_namespace", READER_OF_PUBLIC, PROJECT, "GET /v2/metadefs/namespaces/{namespace_name}"),
    Rule("get_metadef_namespaces", READER_OR_ADMIN, PROJECT, "GET /v2/metadefs/namespaces"),
    Rule("modify_metadef_namespace", METADEF_ADMIN, PROJECT, "PUT /v2/metadefs/namespaces/{namespace_name}"),
    Rule("add_metadef_namespace", METADEF_ADMIN, PROJECT, "POST /v2/metadefs/namespaces"),
    Rule("delete_metadef_namespace", METADEF_ADMIN, PROJECT, "DELETE /v2/metadefs/namespaces/{namespace_name}"),
    Rule("get_metadef_object", READER_OF_PUBLIC, PROJECT,
        "GET /v2/metadefs/namespaces/{namespace_name}/objects/{object_name}"),
    Rule("get_metadef_objects", READER_OF_PUBLIC, PROJECT, "GET /v2/metadefs/namespaces/{namespace_name}/objects"),
    Rule("modify_metadef_object", METADEF_ADMIN, PROJECT,
        "PUT /v2/metadefs/namespaces/{namespace_name}/objects/{object_name}"),
    Rule("add_metadef_object", METADEF_ADMIN, PROJECT, "POST /v2/metadefs/namespaces/{namespace_name}/objects"),
    Rule("delete_metadef_object", METADEF_ADMIN, PROJECT,
        "DELETE /v2/metadefs/namespaces/{namespace_name}/objects/{object_name}"),
    Rule("list_metadef_resource_types", READER_OF_PUBLIC, PROJECT, "GET /v2/metadefs/resource_types"),
    Rule("get_metadef_resource_type", READER_OF_PUBLIC, PROJECT,
        "GET /v2/metadefs/namespaces/{namespace_name}/resource_types"),
    Rule("add_metadef_resource_type_association", METADEF_ADMIN, PROJECT,
        "POST /v2/metadefs/namespaces/{namespace_name}/resource_types"),
    Rule("remove_metadef_resource_type_association", METADEF_ADMIN, PROJECT,
        "DELETE /v2/metadefs/namespaces/{namespace_name}/resource_types/{name}"),
    Rule("get_metadef_property", READER_OF_PUBLIC, PROJECT,
        "GET /v2/metadefs/namespaces/{namespace_name}/properties/{property_name}"),
    Rule("get_metadef_properties", READER_OF_PUBLIC, PROJECT,
        "GET /v2/metadefs/namespaces/{namespace_name}/properties"),
    Rule("modify_metadef_property", METADEF_ADMIN, PROJECT,
        "PUT /v2/metadefs/namespaces/{namespace_name}/properties/{property_name}"),
    Rule("add_metadef_property", METADEF_ADMIN, PROJECT, "POST /v2/metadefs/namespaces/{namespace_name}/properties"),
    Rule("remove_metadef_property", METADEF_ADMIN, PROJECT,
        "DELETE /v2/metadefs/namespaces/{namespace_name}/properties/{property_name}"),
    Rule("get_metadef_tag", READER_OF_PUBLIC, PROJECT, "GET /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}"),
    Rule("get_metadef_tags", READER_OF_PUBLIC, PROJECT, "GET /v2/metadefs/namespaces/{namespace_name}/tags"),
    Rule("modify_metadef_tag", METADEF_ADMIN, PROJECT, "PUT /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}"),
    Rule("add_metadef_tag", METADEF_ADMIN, PROJECT, "POST /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}"),
    Rule("add_metadef_tags", METADEF_ADMIN, PROJECT, "POST /v2/metadefs/namespaces/{namespace_name}/tags"),
    Rule("delete_metadef_tag", METADEF_ADMIN, PROJECT,
        "DELETE /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}"),
    Rule("delete_metadef_tags", METADEF_ADMIN, PROJECT, "DELETE /v2/metadefs/namespaces/{namespace_name}/tags"),
    Rule("cache_image", ADMIN, PROJECT, "PUT /v2/cache/{image_id}"),
    Rule("cache_list", ADMIN, PROJECT, "GET /v2/cache"),
    Rule("cache_delete", ADMIN, PROJECT, "DELETE /v2/cache, DELETE /v2/cache/{image_id}"),
    Rule("cache_clean", ADMIN, PROJECT, "POST /v2/cache/clean"),
    Rule("cache_prune", ADMIN, PROJECT, "POST /v2/cache/prune"),
    Rule("stores_info_detail", "rule:context_is_admin or rule:service_api", PROJECT, "GET /v2/info/stores/detail"),
)
# fmt: on
