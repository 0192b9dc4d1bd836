"""Options of a domain, in groups. They are kept and shown; the one driver that there is reads none of them.

Source: Keystone API v3.14, "Domain configuration"; the names are Keystone's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, delete, select

from nephos import errors
from nephos.identity.domain_configs.store import domain_option
from nephos.kernel.db.engine import Tx

_LDAP = [
    "alias_dereferencing",
    "auth_pool_connection_lifetime",
    "auth_pool_size",
    "chase_referrals",
    "debug_level",
    "group_additional_attribute_mapping",
    "group_attribute_ignore",
    "group_desc_attribute",
    "group_filter",
    "group_id_attribute",
    "group_member_attribute",
    "group_members_are_ids",
    "group_name_attribute",
    "group_objectclass",
    "group_tree_dn",
    "page_size",
    "pool_connection_lifetime",
    "pool_connection_timeout",
    "pool_retry_delay",
    "pool_retry_max",
    "pool_size",
    "query_scope",
    "suffix",
    "tls_cacertdir",
    "tls_cacertfile",
    "tls_req_cert",
    "url",
    "use_auth_pool",
    "use_pool",
    "use_tls",
    "user",
    "user_additional_attribute_mapping",
    "user_attribute_ignore",
    "user_default_project_id_attribute",
    "user_description_attribute",
    "user_enabled_attribute",
    "user_enabled_default",
    "user_enabled_emulation",
    "user_enabled_emulation_dn",
    "user_enabled_emulation_use_group_config",
    "user_enabled_invert",
    "user_enabled_mask",
    "user_filter",
    "user_id_attribute",
    "user_mail_attribute",
    "user_name_attribute",
    "user_objectclass",
    "user_pass_attribute",
    "user_tree_dn",
]
DEFAULTS: dict[str, dict[str, Any]] = {
    "identity": {"driver": "sql", "list_limit": None},
    "ldap": dict.fromkeys(_LDAP),
}
SECRET = {"ldap": frozenset({"password"})}
"""Taken and never shown."""

Config = dict[str, dict[str, Any]]
_c = domain_option.c


def known(group: str, option: str | None = None) -> None:
    """Raises BadRequest for a group or option that there is not."""
    if group not in DEFAULTS:
        raise errors.BadRequest(
            f"Invalid domain specific configuration: Group {group} is not supported for domain specific configurations."
        )
    if option is not None and option not in DEFAULTS[group] and option not in SECRET.get(group, ()):
        raise errors.BadRequest(
            f"Invalid domain specific configuration: Option {option} in group {group} is not supported for domain "
            "specific configurations."
        )


def checked(config: Any) -> Config:
    """Raises BadRequest unless it is groups of options, all of them known."""
    if not isinstance(config, dict) or not config:
        raise errors.BadRequest("Invalid domain specific configuration: No options specified.")
    for group, options in config.items():
        known(group)
        if not isinstance(options, dict) or not options:
            raise errors.BadRequest(f"Invalid domain specific configuration: group {group} is no object of options.")
        for option in options:
            known(group, option)
    return config


def get(tx: Tx, domain_id: str, group: str | None = None, option: str | None = None) -> Config:
    """What is set, secrets left out. Raises NotFound when nothing is."""
    rows = tx.all(select(domain_option).where(_where(domain_id, group, option)).order_by(_c.group, _c.option))
    config: Config = {}
    for row in rows:
        if row.option not in SECRET.get(row.group, ()):
            config.setdefault(row.group, {})[row.option] = row.value
    if not config:
        what = f"option {option} in group {group}" if option else f"group {group}" if group else "any options"
        raise errors.NotFound(f"Could not find {what} in domain configuration for domain {domain_id}.")
    return config


def _where(domain_id: str, group: str | None, option: str | None) -> ColumnElement[bool]:
    where: ColumnElement[bool] = _c.domain_id == domain_id
    if group is not None:
        where = where & (_c.group == group)
    return where & (_c.option == option) if option is not None else where


def replace(tx: Tx, domain_id: str, config: Mapping[str, Mapping[str, Any]]) -> bool:
    """Set these options and no others. Answers whether there were none before."""
    fresh = tx.execute(delete(domain_option).where(_c.domain_id == domain_id)).rowcount == 0
    merge(tx, domain_id, config)
    return fresh


def merge(tx: Tx, domain_id: str, config: Mapping[str, Mapping[str, Any]]) -> None:
    for group, options in config.items():
        for option, value in options.items():
            tx.execute(delete(domain_option).where(_where(domain_id, group, option)))
            tx.insert(domain_option, {"domain_id": domain_id, "group": group, "option": option, "value": value})


def remove(tx: Tx, domain_id: str, group: str | None, option: str | None) -> None:
    """Raises NotFound when there is nothing."""
    if tx.execute(delete(domain_option).where(_where(domain_id, group, option))).rowcount == 0:
        get(tx, domain_id, group, option)
