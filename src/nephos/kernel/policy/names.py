"""What a rule may name on the left side of a check, and the attribute of the asker (`Who`) that it means."""

from __future__ import annotations

from collections.abc import Iterable


def role_set(names: Iterable[str]) -> frozenset[str]:
    """Role names as rules compare them: case does not count."""
    return frozenset(name.lower() for name in names)


#: What every token has; None compares as the text None. The old names of oslo.context are kept, because policy files in
#: the field still use them.
ATTRIBUTES: dict[str, str] = {
    **{
        name: name
        for name in (
            "user_id",
            "user_domain_id",
            "project_id",
            "project_domain_id",
            "domain_id",
            "system_scope",
            "roles",
            "is_admin",
            "is_admin_project",
            "service_user_id",
            "service_roles",
        )
    },
    "user": "user_id",
    "tenant": "project_id",
    "tenant_id": "project_id",
    "domain": "domain_id",
    "user_domain": "user_domain_id",
    "project_domain": "project_domain_id",
}

#: What a token has or has not: paths into the token document of the identity API, and `system`. Where the token lacks
#: it the check is false.
TOKEN_PATHS: dict[str, str] = {
    "system": "system_scope",
    "token.user.id": "user_id",
    "token.user.domain.id": "user_domain_id",
    "token.project.id": "project_id",
    "token.project.domain.id": "project_domain_id",
    "token.domain.id": "domain_id",
    "token.is_domain": "is_domain",
}
