"""The identity API's policy rules: names, checks and token scopes as Keystone 30 has them.

A rule without operations is a building block for others. HEAD goes with GET.
"""

from __future__ import annotations

from nephos.kernel.policy import Rule

PROJECT = ("project",)
SYSTEM_PROJECT = ("system", "project")
ANY = ("system", "domain", "project")

ADMIN = "rule:admin_required"
ANYBODY = ""
SYSTEM_READER = "rule:admin_required or (role:reader and system_scope:all)"
PROJECT_MANAGER = (
    "(rule:admin_required) "
    "or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"
)
SYSTEM_READER_OR_OWNER = "(rule:admin_required) or (role:reader and system_scope:all) or rule:owner"
CREDENTIAL_OWNER = "(rule:admin_required) or user_id:%(target.credential.user_id)s"
GROUP_READER = (
    "(rule:admin_required) or (role:reader and system_scope:all) "
    "or (role:reader and domain_id:%(target.group.domain_id)s)"
)
GROUP_MANAGER = "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s)"
PROJECT_READER = (
    "(rule:admin_required) or (role:reader and system_scope:all) "
    "or (role:reader and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) "
    "or project_id:%(target.project.id)s"
)
TRUST_PARTY = (
    "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s "
    "or user_id:%(target.trust.trustee_user_id)s)"
)
USER_MANAGER = "(rule:admin_required) or (role:manager and token.domain.id:%(target.user.domain_id)s)"
OWN_ACCESS_RULES = "(role:reader and system_scope:all) or user_id:%(target.user.id)s"
SYSTEM_READER_OR_CREDENTIAL_OWNER = (
    "(rule:admin_required) or (role:reader and system_scope:all) or user_id:%(target.credential.user_id)s"
)
GROUP_USER_MANAGER = (
    "(rule:admin_required) "
    "or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"
)
SERVICE_OR_ADMIN = "rule:service_or_admin"
ENDPOINT_DOMAIN_READER = (
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)"
)
ENDPOINT_DOMAIN_READER_SET = (
    "(rule:admin_required) or (role:reader and system_scope:all) "
    "or (role:reader and domain_id:%(target.domain_id)s and not None:%(target.domain_id)s)"
)

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("admin_required", "role:admin or is_admin:1"),
    Rule("service_role", "role:service"),
    Rule("service_or_admin", "rule:admin_required or rule:service_role"),
    Rule("owner", "user_id:%(user_id)s"),
    Rule("admin_or_owner", "rule:admin_required or rule:owner"),
    Rule("token_subject", "user_id:%(target.token.user_id)s"),
    Rule("admin_or_token_subject", "rule:admin_required or rule:token_subject"),
    Rule("service_admin_or_token_subject", "rule:service_or_admin or rule:token_subject"),
    Rule("domain_managed_target_role",
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s "
        "or 'reader':%(target.role.name)s"),
    Rule("identity:get_access_rule", OWN_ACCESS_RULES, SYSTEM_PROJECT,
        "GET /v3/users/{user_id}/access_rules/{access_rule_id}"),
    Rule("identity:list_access_rules", OWN_ACCESS_RULES, SYSTEM_PROJECT, "GET /v3/users/{user_id}/access_rules"),
    Rule("identity:delete_access_rule",
        "(role:admin and system_scope:all) or user_id:%(target.user.id)s", SYSTEM_PROJECT,
        "DELETE /v3/users/{user_id}/access_rules/{access_rule_id}"),
    Rule("identity:authorize_request_token", ADMIN, PROJECT, "PUT /v3/OS-OAUTH1/authorize/{request_token_id}"),
    Rule("identity:get_access_token", ADMIN, PROJECT,
        "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}"),
    Rule("identity:get_access_token_role", ADMIN, PROJECT,
        "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}"),
    Rule("identity:list_access_tokens", ADMIN, PROJECT, "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens"),
    Rule("identity:list_access_token_roles", ADMIN, PROJECT,
        "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles"),
    Rule("identity:delete_access_token", ADMIN, PROJECT,
        "DELETE /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}"),
    Rule("identity:get_application_credential", SYSTEM_READER_OR_OWNER, SYSTEM_PROJECT,
        "GET /v3/users/{user_id}/application_credentials/{application_credential_id}"),
    Rule("identity:list_application_credentials", SYSTEM_READER_OR_OWNER, SYSTEM_PROJECT,
        "GET /v3/users/{user_id}/application_credentials"),
    Rule("identity:create_application_credential", "user_id:%(user_id)s", PROJECT,
        "POST /v3/users/{user_id}/application_credentials"),
    Rule("identity:delete_application_credential", "rule:admin_or_owner", SYSTEM_PROJECT,
        "DELETE /v3/users/{user_id}/application_credentials/{application_credential_id}"),
    Rule("identity:get_auth_catalog", ANYBODY, (), "GET /v3/auth/catalog"),
    Rule("identity:get_auth_projects", ANYBODY, (), "GET /v3/auth/projects"),
    Rule("identity:get_auth_domains", ANYBODY, (), "GET /v3/auth/domains"),
    Rule("identity:get_auth_system", ANYBODY, (), "GET /v3/auth/system"),
    Rule("identity:get_consumer", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-OAUTH1/consumers/{consumer_id}"),
    Rule("identity:list_consumers", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-OAUTH1/consumers"),
    Rule("identity:create_consumer", ADMIN, SYSTEM_PROJECT, "POST /v3/OS-OAUTH1/consumers"),
    Rule("identity:update_consumer", ADMIN, SYSTEM_PROJECT, "PATCH /v3/OS-OAUTH1/consumers/{consumer_id}"),
    Rule("identity:delete_consumer", ADMIN, SYSTEM_PROJECT, "DELETE /v3/OS-OAUTH1/consumers/{consumer_id}"),
    Rule("identity:get_credential", SYSTEM_READER_OR_CREDENTIAL_OWNER, ANY, "GET /v3/credentials/{credential_id}"),
    Rule("identity:list_credentials", SYSTEM_READER_OR_CREDENTIAL_OWNER, ANY, "GET /v3/credentials"),
    Rule("identity:create_credential", CREDENTIAL_OWNER, ANY, "POST /v3/credentials"),
    Rule("identity:update_credential", CREDENTIAL_OWNER, ANY, "PATCH /v3/credentials/{credential_id}"),
    Rule("identity:delete_credential", CREDENTIAL_OWNER, ANY, "DELETE /v3/credentials/{credential_id}"),
    Rule("identity:get_domain",
        "rule:admin_required or (role:reader and system_scope:all) "
        "or token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s", ANY,
        "GET /v3/domains/{domain_id}"),
    Rule("identity:list_domains",
        "rule:admin_required or (role:reader and system_scope:all) "
        "or (role:reader and domain_id:%(target.domain.id)s)", ANY,
        "GET /v3/domains"),
    Rule("identity:create_domain", ADMIN, SYSTEM_PROJECT, "POST /v3/domains"),
    Rule("identity:update_domain", ADMIN, SYSTEM_PROJECT, "PATCH /v3/domains/{domain_id}"),
    Rule("identity:delete_domain", ADMIN, SYSTEM_PROJECT, "DELETE /v3/domains/{domain_id}"),
    Rule("identity:create_domain_config", ADMIN, SYSTEM_PROJECT, "PUT /v3/domains/{domain_id}/config"),
    Rule("identity:get_domain_config", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/domains/{domain_id}/config, GET /v3/domains/{domain_id}/config/{group}, "
        "GET /v3/domains/{domain_id}/config/{group}/{option}"),
    Rule("identity:get_security_compliance_domain_config", ANYBODY, ANY,
        "GET /v3/domains/{domain_id}/config/security_compliance, "
        "GET /v3/domains/{domain_id}/config/security_compliance/{option}"),
    Rule("identity:update_domain_config", ADMIN, SYSTEM_PROJECT,
        "PATCH /v3/domains/{domain_id}/config, PATCH /v3/domains/{domain_id}/config/{group}, "
        "PATCH /v3/domains/{domain_id}/config/{group}/{option}"),
    Rule("identity:delete_domain_config", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/domains/{domain_id}/config, DELETE /v3/domains/{domain_id}/config/{group}, "
        "DELETE /v3/domains/{domain_id}/config/{group}/{option}"),
    Rule("identity:get_domain_config_default", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/domains/config/default, GET /v3/domains/config/{group}/default, "
        "GET /v3/domains/config/{group}/{option}/default"),
    Rule("identity:ec2_get_credential", SYSTEM_READER_OR_CREDENTIAL_OWNER, SYSTEM_PROJECT,
        "GET /v3/users/{user_id}/credentials/OS-EC2/{credential_id}"),
    Rule("identity:ec2_list_credentials", SYSTEM_READER_OR_OWNER, SYSTEM_PROJECT,
        "GET /v3/users/{user_id}/credentials/OS-EC2"),
    Rule("identity:ec2_create_credential",
        "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)", SYSTEM_PROJECT,
        "POST /v3/users/{user_id}/credentials/OS-EC2"),
    Rule("identity:ec2_delete_credential",
        "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)", SYSTEM_PROJECT,
        "DELETE /v3/users/{user_id}/credentials/OS-EC2/{credential_id}"),
    Rule("identity:get_endpoint", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/endpoints/{endpoint_id}"),
    Rule("identity:list_endpoints", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/endpoints"),
    Rule("identity:create_endpoint", ADMIN, SYSTEM_PROJECT, "POST /v3/endpoints"),
    Rule("identity:update_endpoint", ADMIN, SYSTEM_PROJECT, "PATCH /v3/endpoints/{endpoint_id}"),
    Rule("identity:delete_endpoint", ADMIN, SYSTEM_PROJECT, "DELETE /v3/endpoints/{endpoint_id}"),
    Rule("identity:create_endpoint_group", ADMIN, SYSTEM_PROJECT, "POST /v3/OS-EP-FILTER/endpoint_groups"),
    Rule("identity:list_endpoint_groups", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-EP-FILTER/endpoint_groups"),
    Rule("identity:get_endpoint_group", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"),
    Rule("identity:update_endpoint_group", ADMIN, SYSTEM_PROJECT,
        "PATCH /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"),
    Rule("identity:delete_endpoint_group", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"),
    Rule("identity:list_projects_associated_with_endpoint_group", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects"),
    Rule("identity:list_endpoints_associated_with_endpoint_group", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints"),
    Rule("identity:get_endpoint_group_in_project", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"),
    Rule("identity:list_endpoint_groups_for_project", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups"),
    Rule("identity:add_endpoint_group_to_project", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"),
    Rule("identity:remove_endpoint_group_from_project", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"),
    Rule("identity:check_grant",
        "(rule:admin_required) or ((role:reader and system_scope:all) "
        "or ((role:reader and domain_id:%(target.user.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) "
        "or (role:reader and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) "
        "and (domain_id:%(target.role.domain_id)s "
        "or None:%(target.role.domain_id)s))", ANY,
        "GET /v3/projects/{project_id}/users/{user_id}/roles/{role_id}, "
        "GET /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}, "
        "GET /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}, "
        "GET /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}, "
        "GET /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects, "
        "GET /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects, "
        "GET /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects, "
        "GET /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"),
    Rule("identity:list_grants",
        "(rule:admin_required) or ((role:reader and system_scope:all) "
        "or (role:reader and domain_id:%(target.user.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) "
        "or (role:reader and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s))", ANY,
        "GET /v3/projects/{project_id}/users/{user_id}/roles, "
        "GET /v3/projects/{project_id}/groups/{group_id}/roles, GET /v3/domains/{domain_id}/users/{user_id}/roles, "
        "GET /v3/domains/{domain_id}/groups/{group_id}/roles, "
        "GET /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects, "
        "GET /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects"),
    Rule("identity:create_grant",
        "(rule:admin_required) "
        "or ((role:admin and domain_id:%(target.user.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) "
        "or (role:admin and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) "
        "and (domain_id:%(target.role.domain_id)s "
        "or None:%(target.role.domain_id)s) "
        "or ((role:manager and domain_id:%(target.user.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) "
        "or (role:manager and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:manager and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role", ANY,
        "PUT /v3/projects/{project_id}/users/{user_id}/roles/{role_id}, "
        "PUT /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}, "
        "PUT /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}, "
        "PUT /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}, "
        "PUT /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects, "
        "PUT /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects, "
        "PUT /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects, "
        "PUT /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"),
    Rule("identity:revoke_grant",
        "(rule:admin_required) "
        "or ((role:admin and domain_id:%(target.user.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) "
        "or (role:admin and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) "
        "and (domain_id:%(target.role.domain_id)s "
        "or None:%(target.role.domain_id)s) "
        "or ((role:manager and domain_id:%(target.user.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) "
        "or (role:manager and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.project.domain_id)s) "
        "or (role:manager and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role", ANY,
        "DELETE /v3/projects/{project_id}/users/{user_id}/roles/{role_id}, "
        "DELETE /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}, "
        "DELETE /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}, "
        "DELETE /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}, "
        "DELETE /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects, "
        "DELETE /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects, "
        "DELETE /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects, "
        "DELETE /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"),
    Rule("identity:list_system_grants_for_user", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/system/users/{user_id}/roles"),
    Rule("identity:check_system_grant_for_user", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/system/users/{user_id}/roles/{role_id}"),
    Rule("identity:create_system_grant_for_user", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/system/users/{user_id}/roles/{role_id}"),
    Rule("identity:revoke_system_grant_for_user", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/system/users/{user_id}/roles/{role_id}"),
    Rule("identity:list_system_grants_for_group", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/system/groups/{group_id}/roles"),
    Rule("identity:check_system_grant_for_group", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/system/groups/{group_id}/roles/{role_id}"),
    Rule("identity:create_system_grant_for_group", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/system/groups/{group_id}/roles/{role_id}"),
    Rule("identity:revoke_system_grant_for_group", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/system/groups/{group_id}/roles/{role_id}"),
    Rule("identity:get_group", GROUP_READER, ANY, "GET /v3/groups/{group_id}"),
    Rule("identity:list_groups", GROUP_READER, ANY, "GET /v3/groups"),
    Rule("identity:list_groups_for_user",
        "(rule:admin_required) or (role:reader and system_scope:all) "
        "or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(user_id)s", ANY,
        "GET /v3/users/{user_id}/groups"),
    Rule("identity:create_group", GROUP_MANAGER, ANY, "POST /v3/groups"),
    Rule("identity:update_group", GROUP_MANAGER, ANY, "PATCH /v3/groups/{group_id}"),
    Rule("identity:delete_group", GROUP_MANAGER, ANY, "DELETE /v3/groups/{group_id}"),
    Rule("identity:list_users_in_group", GROUP_READER, ANY, "GET /v3/groups/{group_id}/users"),
    Rule("identity:remove_user_from_group", GROUP_USER_MANAGER, ANY, "DELETE /v3/groups/{group_id}/users/{user_id}"),
    Rule("identity:check_user_in_group",
        "(rule:admin_required) or (role:reader and system_scope:all) "
        "or (role:reader and domain_id:%(target.group.domain_id)s "
        "and domain_id:%(target.user.domain_id)s)", ANY,
        "GET /v3/groups/{group_id}/users/{user_id}"),
    Rule("identity:add_user_to_group", GROUP_USER_MANAGER, ANY, "PUT /v3/groups/{group_id}/users/{user_id}"),
    Rule("identity:create_identity_provider", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/OS-FEDERATION/identity_providers/{idp_id}"),
    Rule("identity:list_identity_providers", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-FEDERATION/identity_providers"),
    Rule("identity:get_identity_provider", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-FEDERATION/identity_providers/{idp_id}"),
    Rule("identity:update_identity_provider", ADMIN, SYSTEM_PROJECT,
        "PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}"),
    Rule("identity:delete_identity_provider", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}"),
    Rule("identity:get_implied_role", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/roles/{prior_role_id}/implies/{implied_role_id}"),
    Rule("identity:list_implied_roles", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/roles/{prior_role_id}/implies"),
    Rule("identity:create_implied_role", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/roles/{prior_role_id}/implies/{implied_role_id}"),
    Rule("identity:delete_implied_role", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/roles/{prior_role_id}/implies/{implied_role_id}"),
    Rule("identity:list_role_inference_rules", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/role_inferences"),
    Rule("identity:check_implied_role", SYSTEM_READER, SYSTEM_PROJECT,
        "HEAD /v3/roles/{prior_role_id}/implies/{implied_role_id}"),
    Rule("identity:get_limit_model", ANYBODY, ANY, "GET /v3/limits/model"),
    Rule("identity:get_limit",
        "rule:admin_required or (role:reader and system_scope:all) "
        "or (domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s) "
        "or (project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)", ANY,
        "GET /v3/limits/{limit_id}"),
    Rule("identity:list_limits", ANYBODY, ANY, "GET /v3/limits"),
    Rule("identity:create_limits", ADMIN, SYSTEM_PROJECT, "POST /v3/limits"),
    Rule("identity:update_limit", ADMIN, SYSTEM_PROJECT, "PATCH /v3/limits/{limit_id}"),
    Rule("identity:delete_limit", ADMIN, SYSTEM_PROJECT, "DELETE /v3/limits/{limit_id}"),
    Rule("identity:create_mapping", ADMIN, SYSTEM_PROJECT, "PUT /v3/OS-FEDERATION/mappings/{mapping_id}"),
    Rule("identity:get_mapping", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-FEDERATION/mappings/{mapping_id}"),
    Rule("identity:list_mappings", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-FEDERATION/mappings"),
    Rule("identity:delete_mapping", ADMIN, SYSTEM_PROJECT, "DELETE /v3/OS-FEDERATION/mappings/{mapping_id}"),
    Rule("identity:update_mapping", ADMIN, SYSTEM_PROJECT, "PATCH /v3/OS-FEDERATION/mappings/{mapping_id}"),
    Rule("identity:get_policy", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/policies/{policy_id}"),
    Rule("identity:list_policies", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/policies"),
    Rule("identity:create_policy", ADMIN, SYSTEM_PROJECT, "POST /v3/policies"),
    Rule("identity:update_policy", ADMIN, SYSTEM_PROJECT, "PATCH /v3/policies/{policy_id}"),
    Rule("identity:delete_policy", ADMIN, SYSTEM_PROJECT, "DELETE /v3/policies/{policy_id}"),
    Rule("identity:create_policy_association_for_endpoint", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"),
    Rule("identity:check_policy_association_for_endpoint", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"),
    Rule("identity:delete_policy_association_for_endpoint", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"),
    Rule("identity:create_policy_association_for_service", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"),
    Rule("identity:check_policy_association_for_service", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"),
    Rule("identity:delete_policy_association_for_service", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"),
    Rule("identity:create_policy_association_for_region_and_service", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"),
    Rule("identity:check_policy_association_for_region_and_service", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"),
    Rule("identity:delete_policy_association_for_region_and_service", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"),
    Rule("identity:get_policy_for_endpoint", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy"),
    Rule("identity:list_endpoints_for_policy", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints"),
    Rule("identity:get_project", PROJECT_READER, ANY, "GET /v3/projects/{project_id}"),
    Rule("identity:list_projects", ENDPOINT_DOMAIN_READER, ANY, "GET /v3/projects"),
    Rule("identity:list_user_projects",
        "(rule:admin_required) or (role:reader and system_scope:all) "
        "or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", ANY,
        "GET /v3/users/{user_id}/projects"),
    Rule("identity:create_project", PROJECT_MANAGER, ANY, "POST /v3/projects"),
    Rule("identity:update_project", PROJECT_MANAGER, ANY, "PATCH /v3/projects/{project_id}"),
    Rule("identity:delete_project", PROJECT_MANAGER, ANY, "DELETE /v3/projects/{project_id}"),
    Rule("identity:list_project_tags", PROJECT_READER, ANY, "GET /v3/projects/{project_id}/tags"),
    Rule("identity:get_project_tag", PROJECT_READER, ANY, "GET /v3/projects/{project_id}/tags/{value}"),
    Rule("identity:update_project_tags", PROJECT_MANAGER, ANY, "PUT /v3/projects/{project_id}/tags"),
    Rule("identity:create_project_tag", PROJECT_MANAGER, ANY, "PUT /v3/projects/{project_id}/tags/{value}"),
    Rule("identity:delete_project_tags", PROJECT_MANAGER, ANY, "DELETE /v3/projects/{project_id}/tags"),
    Rule("identity:delete_project_tag", PROJECT_MANAGER, ANY, "DELETE /v3/projects/{project_id}/tags/{value}"),
    Rule("identity:list_projects_for_endpoint", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects"),
    Rule("identity:add_endpoint_to_project", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"),
    Rule("identity:check_endpoint_in_project", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"),
    Rule("identity:list_endpoints_for_project", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints"),
    Rule("identity:remove_endpoint_from_project", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"),
    Rule("identity:create_protocol", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"),
    Rule("identity:update_protocol", ADMIN, SYSTEM_PROJECT,
        "PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"),
    Rule("identity:get_protocol", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"),
    Rule("identity:list_protocols", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols"),
    Rule("identity:delete_protocol", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"),
    Rule("identity:get_region", ANYBODY, ANY, "GET /v3/regions/{region_id}"),
    Rule("identity:list_regions", ANYBODY, ANY, "GET /v3/regions"),
    Rule("identity:create_region", ADMIN, SYSTEM_PROJECT, "POST /v3/regions, PUT /v3/regions/{region_id}"),
    Rule("identity:update_region", ADMIN, SYSTEM_PROJECT, "PATCH /v3/regions/{region_id}"),
    Rule("identity:delete_region", ADMIN, SYSTEM_PROJECT, "DELETE /v3/regions/{region_id}"),
    Rule("identity:get_registered_limit", ANYBODY, ANY, "GET /v3/registered_limits/{registered_limit_id}"),
    Rule("identity:list_registered_limits", ANYBODY, ANY, "GET /v3/registered_limits"),
    Rule("identity:create_registered_limits", ADMIN, SYSTEM_PROJECT, "POST /v3/registered_limits"),
    Rule("identity:update_registered_limit", ADMIN, SYSTEM_PROJECT,
        "PATCH /v3/registered_limits/{registered_limit_id}"),
    Rule("identity:delete_registered_limit", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/registered_limits/{registered_limit_id}"),
    Rule("identity:list_revoke_events", SERVICE_OR_ADMIN, SYSTEM_PROJECT, "GET /v3/OS-REVOKE/events"),
    Rule("identity:get_role",
        "(rule:admin_required or (role:reader and system_scope:all)) "
        "or (role:manager and rule:domain_managed_target_role)", ANY,
        "GET /v3/roles/{role_id}"),
    Rule("identity:list_roles",
        "(rule:admin_required or (role:reader and system_scope:all)) "
        "or (role:manager and not domain_id:None)", ANY,
        "GET /v3/roles"),
    Rule("identity:create_role", ADMIN, SYSTEM_PROJECT, "POST /v3/roles"),
    Rule("identity:update_role", ADMIN, SYSTEM_PROJECT, "PATCH /v3/roles/{role_id}"),
    Rule("identity:delete_role", ADMIN, SYSTEM_PROJECT, "DELETE /v3/roles/{role_id}"),
    Rule("identity:get_domain_role", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/roles/{role_id}"),
    Rule("identity:list_domain_roles", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/roles?domain_id={domain_id}"),
    Rule("identity:create_domain_role", ADMIN, SYSTEM_PROJECT, "POST /v3/roles"),
    Rule("identity:update_domain_role", ADMIN, SYSTEM_PROJECT, "PATCH /v3/roles/{role_id}"),
    Rule("identity:delete_domain_role", ADMIN, SYSTEM_PROJECT, "DELETE /v3/roles/{role_id}"),
    Rule("identity:list_role_assignments", ENDPOINT_DOMAIN_READER_SET, ANY, "GET /v3/role_assignments"),
    Rule("identity:list_role_assignments_for_tree", ENDPOINT_DOMAIN_READER_SET, ANY,
        "GET /v3/role_assignments?include_subtree"),
    Rule("identity:s3tokens_validate", SERVICE_OR_ADMIN, ANY, "POST /v3/s3tokens"),
    Rule("identity:ec2tokens_validate", SERVICE_OR_ADMIN, ANY, "POST /v3/ec2tokens"),
    Rule("identity:get_service", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/services/{service_id}"),
    Rule("identity:list_services", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/services"),
    Rule("identity:create_service", ADMIN, SYSTEM_PROJECT, "POST /v3/services"),
    Rule("identity:update_service", ADMIN, SYSTEM_PROJECT, "PATCH /v3/services/{service_id}"),
    Rule("identity:delete_service", ADMIN, SYSTEM_PROJECT, "DELETE /v3/services/{service_id}"),
    Rule("identity:create_service_provider", ADMIN, SYSTEM_PROJECT,
        "PUT /v3/OS-FEDERATION/service_providers/{service_provider_id}"),
    Rule("identity:list_service_providers", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-FEDERATION/service_providers"),
    Rule("identity:get_service_provider", SYSTEM_READER, SYSTEM_PROJECT,
        "GET /v3/OS-FEDERATION/service_providers/{service_provider_id}"),
    Rule("identity:update_service_provider", ADMIN, SYSTEM_PROJECT,
        "PATCH /v3/OS-FEDERATION/service_providers/{service_provider_id}"),
    Rule("identity:delete_service_provider", ADMIN, SYSTEM_PROJECT,
        "DELETE /v3/OS-FEDERATION/service_providers/{service_provider_id}"),
    Rule("identity:revocation_list", SERVICE_OR_ADMIN, SYSTEM_PROJECT, "GET /v3/auth/tokens/OS-PKI/revoked"),
    Rule("identity:check_token",
        "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject", ANY,
        "HEAD /v3/auth/tokens"),
    Rule("identity:validate_token",
        "rule:admin_required or (role:reader and system_scope:all) or rule:service_role "
        "or rule:token_subject", ANY,
        "GET /v3/auth/tokens"),
    Rule("identity:revoke_token", "rule:admin_required or rule:token_subject", ANY, "DELETE /v3/auth/tokens"),
    Rule("identity:create_trust", "user_id:%(target.trust.trustor_user_id)s", PROJECT, "POST /v3/OS-TRUST/trusts"),
    Rule("identity:list_trusts", SYSTEM_READER, SYSTEM_PROJECT, "GET /v3/OS-TRUST/trusts"),
    Rule("identity:list_trusts_for_trustor",
        "(rule:admin_required) or (role:reader and system_scope:all "
        "or user_id:%(target.trust.trustor_user_id)s)", SYSTEM_PROJECT,
        "GET /v3/OS-TRUST/trusts?trustor_user_id={trustor_user_id}"),
    Rule("identity:list_trusts_for_trustee",
        "(rule:admin_required) or (role:reader and system_scope:all "
        "or user_id:%(target.trust.trustee_user_id)s)", SYSTEM_PROJECT,
        "GET /v3/OS-TRUST/trusts?trustee_user_id={trustee_user_id}"),
    Rule("identity:list_roles_for_trust", TRUST_PARTY, SYSTEM_PROJECT, "GET /v3/OS-TRUST/trusts/{trust_id}/roles"),
    Rule("identity:get_role_for_trust", TRUST_PARTY, SYSTEM_PROJECT,
        "GET /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}"),
    Rule("identity:delete_trust", "rule:admin_required or user_id:%(target.trust.trustor_user_id)s", SYSTEM_PROJECT,
        "DELETE /v3/OS-TRUST/trusts/{trust_id}"),
    Rule("identity:get_trust", TRUST_PARTY, SYSTEM_PROJECT, "GET /v3/OS-TRUST/trusts/{trust_id}"),
    Rule("identity:get_user",
        "(rule:admin_required) or (role:reader and system_scope:all) "
        "or (role:reader and token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", ANY,
        "GET /v3/users/{user_id}"),
    Rule("identity:list_users", ENDPOINT_DOMAIN_READER, ANY, "GET /v3/users"),
    Rule("identity:list_projects_for_user", ANYBODY, (), "GET /v3/auth/projects"),
    Rule("identity:list_domains_for_user", ANYBODY, (), "GET /v3/auth/domains"),
    Rule("identity:create_user", USER_MANAGER, ANY, "POST /v3/users"),
    Rule("identity:update_user", USER_MANAGER, ANY, "PATCH /v3/users/{user_id}"),
    Rule("identity:delete_user", USER_MANAGER, ANY, "DELETE /v3/users/{user_id}"),
    Rule("identity:revoke_tokens_for_user", "rule:admin_or_owner", ANY, "DELETE /v3/users/{user_id}/tokens"),
)
# fmt: on
