"""What a policy rule may know about the one who asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


def role_set(names: Iterable[str]) -> frozenset[str]:
    """Role names as rules compare them: case does not count."""
    return frozenset(name.lower() for name in names)


@dataclass(slots=True)
class Creds:
    """The asker, made once a request from a verified token.

    `roles` and `service_roles` hold lower-case names (`role_set`). `scope` is derived and is `system`, `domain` or
    `project`; an unscoped token counts as `project`, as oslo.policy has it. `is_admin` is what the old `is_admin:True`
    rules of the compute and network policies ask for; it is true for who holds the role admin.
    """

    user_id: str | None = None
    user_domain_id: str | None = None
    project_id: str | None = None
    project_domain_id: str | None = None
    domain_id: str | None = None
    system_scope: str | None = None
    roles: frozenset[str] = frozenset()
    is_admin: bool | None = None
    is_admin_project: bool = True
    service_user_id: str | None = None
    service_user_domain_id: str | None = None
    service_project_id: str | None = None
    service_project_domain_id: str | None = None
    service_roles: frozenset[str] = frozenset()
    scope: str = field(init=False)

    def __post_init__(self) -> None:
        self.scope = "system" if self.system_scope else "domain" if self.domain_id else "project"
        if self.is_admin is None:
            self.is_admin = "admin" in self.roles


#: What a generic check may name on its left side, and the attribute it means. The old names of oslo.context are kept,
#: because policy files in the field still use them.
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
            "service_user_domain_id",
            "service_project_id",
            "service_project_domain_id",
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

#: Names that a token has or has not: paths into the token document of the identity API, and `system`. Where the token
#: lacks it the check is false, while a missing ATTRIBUTE compares as the text None.
TOKEN_PATHS: dict[str, str] = {
    "system": "system_scope",
    "token.user.id": "user_id",
    "token.user.domain.id": "user_domain_id",
    "token.project.id": "project_id",
    "token.project.domain.id": "project_domain_id",
    "token.domain.id": "domain_id",
}
