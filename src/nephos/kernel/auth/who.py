"""Who asks: a verified token, as every handler and policy rule sees it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class AccessRule(NamedTuple):
    """One API call that an application credential is for: `service` is the catalogue's type; `path` is below the
    service's address and may hold `*` (within a part), `**` (any) and `{names}` (one part)."""

    service: str
    method: str
    path: str


PRIMARY = frozenset({"external", "mapped", "password", "saml2", "token", "totp"})
"""How users themselves prove who they are. Every other method stands for something narrower that they made, and so does
one that nobody has thought of."""


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """The credentials of one token. Ids are None where the scope has none.

    The attribute names are those that policy rules use (`project_id:%(project_id)s`, `role:admin`, `system_scope:all`).
    `roles` are lower-case names, implied ones included. `expires` is microseconds since the epoch. `restricted` is a
    token that may not make credentials of its own; with `access_rules` it is good for these calls only.
    """

    user_id: str
    user_name: str = ""
    user_domain_id: str = "default"
    user_domain_name: str = ""
    project_id: str | None = None
    project_name: str | None = None
    project_domain_id: str | None = None
    project_domain_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    system_scope: str | None = None
    is_admin_project: bool = True
    is_domain: bool = False
    roles: frozenset[str] = frozenset()
    service_roles: frozenset[str] = frozenset()
    service_user_id: str | None = None
    is_admin: bool = False
    methods: tuple[str, ...] = ()
    audit_ids: tuple[str, ...] = ()
    issued: int = 0
    expires: int = 0
    trust_id: str | None = None
    application_credential_id: str | None = None
    restricted: bool = False
    access_rules: tuple[AccessRule, ...] | None = None

    @property
    def delegated(self) -> bool:
        """Whether the token was got by an application credential, an EC2 key or the like. A trust is not among them:
        see `trust_id`."""
        return not self.methods or not PRIMARY.issuperset(self.methods)

    @property
    def tenant_id(self) -> str | None:
        return self.project_id

    @property
    def system(self) -> str | None:
        return self.system_scope


SYSTEM = Who(user_id="", user_name="nephos", roles=frozenset({"admin", "manager", "member", "reader", "service"}), is_admin=True)
"""The cloud itself, for work that no request asked for."""
