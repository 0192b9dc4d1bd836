"""/v3/domains/{domain_id}/config and the defaults below /v3/domains/config."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.identity.domain_configs import actions
from nephos.identity.projects import actions as projects
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

SECURITY = "security_compliance"
VALUES = ("password_regex", "password_regex_description")


def _path(call: Call) -> tuple[str, str | None, str | None]:
    return call.params["domain_id"], call.params.get("group"), call.params.get("option")


def show(call: Call) -> Reply:
    domain_id, group, option = _path(call)
    if group == SECURITY:
        return _security(call, domain_id, option)
    call.permit({})
    with call.cloud.database.read() as tx:
        projects.find_domain(tx, domain_id)
        if group is not None:
            actions.known(group, option)
        config = actions.get(tx, domain_id, group, option)
    return _reply(config, group, option)


def _security(call: Call, domain_id: str, option: str | None) -> Reply:
    """What passwords must look like; anybody may know. Only the default domain has it, as in Keystone."""
    call.permit({}, rule="identity:get_security_compliance_domain_config")
    with call.cloud.database.read() as tx:
        projects.find_domain(tx, domain_id)
    if domain_id != "default":
        raise errors.Forbidden("Reading security compliance information for any domain other than the default domain "
                               "is not allowed or supported.")  # fmt: skip
    if option is not None and option not in VALUES:
        raise errors.Forbidden(f"Reading security compliance values other than {' and '.join(VALUES)} is not allowed.")
    rules = call.cloud.settings.security
    shown = {VALUES[0]: rules.password_regex or None, VALUES[1]: rules.password_words or None}
    return _reply({SECURITY: shown}, SECURITY, option)


def _reply(config: actions.Config, group: str | None, option: str | None) -> Reply:
    """One option is shown without its group."""
    return Reply({"config": {option: config[group][option]} if group and option else config})


def create(call: Call) -> Reply:
    call.permit({})
    domain_id = call.params["domain_id"]
    config = actions.checked(call.body(dict[str, Any]).get("config"))

    def work(tx: Tx) -> tuple[bool, actions.Config]:
        projects.find_domain(tx, domain_id)
        fresh = actions.replace(tx, domain_id, config)
        return fresh, actions.get(tx, domain_id)

    fresh, shown = call.cloud.database.write(work)
    return Reply({"config": shown}, status=201 if fresh else 200)


def update(call: Call) -> Reply:
    call.permit({})
    domain_id, group, option = _path(call)
    config = call.body(dict[str, Any]).get("config")
    if group is not None and option is not None and isinstance(config, dict) and group not in config:
        config = {group: config}
    config = actions.checked(config)
    if group is not None:
        actions.known(group, option)
        if set(config) != {group} or (option is not None and set(config[group]) != {option}):
            raise errors.BadRequest(
                "Invalid domain specific configuration: the URL and the body name different options."
            )

    def work(tx: Tx) -> actions.Config:
        projects.find_domain(tx, domain_id)
        actions.get(tx, domain_id, group, option)
        actions.merge(tx, domain_id, config)
        return actions.get(tx, domain_id)

    return Reply({"config": call.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    call.permit({})
    domain_id, group, option = _path(call)
    if group is not None:
        actions.known(group, option)

    def work(tx: Tx) -> None:
        projects.find_domain(tx, domain_id)
        actions.remove(tx, domain_id, group, option)

    call.cloud.database.write(work)
    return Reply()


def show_defaults(call: Call) -> Reply:
    call.permit({})
    group, option = call.params.get("group"), call.params.get("option")
    if group is None:
        return Reply({"config": actions.DEFAULTS})
    actions.known(group, option)
    return _reply({group: actions.DEFAULTS[group]}, group, option)


_ALL, _GROUP = "/v3/domains/{domain_id}/config", "/v3/domains/{domain_id}/config/{group}"
_OPTION = f"{_GROUP}/{{option}}"
_DEFAULT = "identity:get_domain_config_default"
ROUTES = (
    Route("GET", "/v3/domains/config/default", show_defaults, _DEFAULT, target="later"),
    Route("GET", "/v3/domains/config/{group}/default", show_defaults, _DEFAULT, target="later"),
    Route("GET", "/v3/domains/config/{group}/{option}/default", show_defaults, _DEFAULT, target="later"),
    Route("PUT", _ALL, create, "identity:create_domain_config", 201, target="later"),
    *(
        route
        for path in (_ALL, _GROUP, _OPTION)
        for route in (
            Route("GET", path, show, "identity:get_domain_config", target="later"),
            Route("PATCH", path, update, "identity:update_domain_config", target="later"),
            Route("DELETE", path, delete, "identity:delete_domain_config", 204, target="later"),
        )
    ),
)
