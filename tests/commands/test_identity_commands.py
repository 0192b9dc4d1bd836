"""Every identity command of the client, typed against one running cloud; what is left out is named (docs/identity.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cloud import RunningCloud
from tests.commands.table import Typed, command_of, commands, play

LEFT_OUT = (
    "access token",
    "consumer",
    "request token",
    "federation",
    "identity provider",
    "mapping",
    "service provider",
)
"""OAuth 1 and federation."""

# fmt: off
DOMAINS = (
    Typed("domain create site --description d", shows={"name": "site", "description": "d", "enabled": True}, keep={"site": "id"}),
    Typed("domain create site --or-show", shows={"id": "{site}"}),
    Typed("domain create site", refused="409|Conflict"),
    Typed("domain create gone --disable --no-immutable", shows={"enabled": False}),
    Typed("domain list", has={"Name": {"Default", "site", "gone"}}),
    Typed("domain list --enabled", has={"Name": {"site"}}, lacks={"Name": {"gone"}}),
    Typed("domain list --name site", has={"ID": {"{site}"}}, only=True),
    Typed("domain set site --description other --immutable"),
    Typed("domain show site", shows={"description": "other", "options": {"immutable": True}}),
    Typed("domain delete site", refused="(?i)immutable|403|disable"),
    Typed("domain set site --no-immutable"),
    Typed("domain delete gone"),
    Typed("domain list", lacks={"Name": {"gone"}}),
    Typed("domain show gone", refused="(?i)no domain"),
)
PROJECTS = (
    Typed("project create tree --domain site --description d --tag red --tag blue --property colour=green",
        shows={"name": "tree", "domain_id": "{site}", "parent_id": "{site}", "tags": ["blue", "red"], "colour": "green"},
        keep={"tree": "id"}),
    Typed("project create leaf --domain site --parent tree --disable", shows={"parent_id": "{tree}", "enabled": False},
        keep={"leaf": "id"}),
    Typed("project create tree --domain site --or-show", shows={"id": "{tree}"}),
    Typed("project list --domain site", has={"Name": {"tree", "leaf"}}, only=True),
    Typed("project list --parent tree", has={"Name": {"leaf"}}, only=True),
    Typed("project list --tags red,blue", has={"Name": {"tree"}}, only=True),
    Typed("project list --tags-any red,green", has={"Name": {"tree"}}, only=True),
    Typed("project list --not-tags red,blue", has={"Name": {"leaf"}}, lacks={"Name": {"tree"}}),
    Typed("project list --not-tags-any red", has={"Name": {"leaf"}}, lacks={"Name": {"tree"}}),
    Typed("project list --domain site --long --enabled", has={"Description": {"d"}}, only=True),
    Typed("project list --domain site --disabled", has={"Name": {"leaf"}}, only=True),
    Typed("project list --domain site --limit 1 --max-items 1 --sort name:desc", has={"Name": {"leaf"}}, only=True),
    Typed("project list --domain site --limit 1", has={"Name": {"leaf", "tree"}}, only=True),
    Typed("project set tree --domain site --name trunk --description other --tag green --property colour=grey"),
    Typed("project set trunk --domain site --remove-tag red"),
    Typed("project show trunk --domain site", shows={"id": "{tree}", "description": "other", "tags": ["blue", "green"], "colour": "grey"}),
    Typed("project show {tree} --children", shows={"id": "{tree}"}),
    Typed("project show {leaf} --parents", shows={"id": "{leaf}"}),
    Typed("project set leaf --domain site --enable --clear-tags"),
    Typed("project list --my-projects", has={"Name": {"demo"}}, only=True, user="demo"),
    Typed("project show admin", refused="(?i)no project|403|forbidden", user="demo"),
)
USERS = (
    Typed("user create zoe --domain site --project trunk --project-domain site --password first --email zoe@site --description d",
        shows={"name": "zoe", "domain_id": "{site}", "default_project_id": "{tree}", "email": "zoe@site", "enabled": True},
        keep={"zoe": "id"}),
    Typed("user create zoe --domain site --or-show", shows={"id": "{zoe}"}),
    Typed("user create max --domain site --disable --ignore-lockout-failure-attempts --ignore-password-expiry "
        "--ignore-change-password-upon-first-use --enable-lock-password --multi-factor-auth-rule password,totp "
        "--enable-multi-factor-auth",
        shows={"enabled": False, "options": {"ignore_lockout_failure_attempts": True, "ignore_password_expiry": True,
            "ignore_change_password_upon_first_use": True, "lock_password": True, "multi_factor_auth_enabled": True,
            "multi_factor_auth_rules": [["password", "totp"]]}},
        keep={"max": "id"}),
    Typed("user list --domain site", has={"Name": {"zoe", "max"}}, only=True),
    Typed("user list --domain site --enabled", has={"Name": {"zoe"}}, only=True),
    Typed("user list --domain site --disabled --long", has={"Name": {"max"}, "Enabled": {False}}, only=True),
    Typed("user list --domain site --limit 1", has={"Name": {"zoe", "max"}}, only=True),
    Typed("user list", has={"Name": {"admin", "demo", "zoe"}}),
    Typed("user set max --domain site --enable --email max@site --name moritz --no-ignore-password-expiry --disable-lock-password"),
    Typed("user show moritz --domain site", shows={"id": "{max}", "email": "max@site", "enabled": True}),
    Typed("user set {max} --password second --disable-multi-factor-auth"),
    Typed("user show nonesuch", refused="(?i)no user"),
    Typed("group create staff --domain site --description d", shows={"domain_id": "{site}", "description": "d"}, keep={"staff": "id"}),
    Typed("group create staff --domain site --or-show", shows={"id": "{staff}"}),
    Typed("group create temps --domain site", keep={"temps": "id"}),
    Typed("group set temps --domain site --name former --description x"),
    Typed("group show former --domain site", shows={"id": "{temps}", "description": "x"}),
    Typed("group add user staff zoe moritz --group-domain site --user-domain site"),
    Typed("group contains user staff zoe --group-domain site --user-domain site", says="zoe in group staff"),
    Typed("user list --group staff --domain site", has={"Name": {"zoe", "moritz"}}, only=True),
    Typed("group remove user staff moritz --group-domain site --user-domain site"),
    Typed("group contains user staff moritz --group-domain site --user-domain site", says="moritz not in group staff"),
    Typed("group list --domain site --long", has={"Name": {"staff", "former"}, "Domain ID": {"{site}"}}, only=True),
    Typed("group list --user zoe --user-domain site", has={"Name": {"staff"}}, only=True),
    Typed("group delete former --domain site"),
    Typed("group show former --domain site", refused="(?i)no group"),
)
ROLES = (
    Typed("role create captain --description d", shows={"name": "captain", "description": "d", "domain_id": None}, keep={"captain": "id"}),
    Typed("role create captain --or-show", shows={"id": "{captain}"}),
    Typed("role create local --domain site --immutable", shows={"domain_id": "{site}"}),
    Typed("role list", has={"Name": {"admin", "manager", "member", "reader", "service", "captain"}}, lacks={"Name": {"local"}}),
    Typed("role list --domain site", has={"Name": {"local"}}, only=True),
    Typed("role delete local --domain site", refused="(?i)immutable|403"),
    Typed("role set local --domain site --no-immutable"),
    Typed("role set captain --name chief --description other"),
    Typed("role show chief", shows={"id": "{captain}", "description": "other"}),
    Typed("implied role create chief --implied-role member"),
    Typed("implied role list", has={"Prior Role Name": {"chief", "admin"}}),
    Typed("role add chief --project trunk --project-domain site --user zoe --user-domain site"),
    Typed("role add reader --project trunk --project-domain site --group staff --group-domain site --inherited"),
    Typed("role add reader --domain site --group staff --group-domain site"),
    Typed("role add reader --system all --user zoe --user-domain site"),
    Typed("role assignment list --user zoe --user-domain site --names", has={"Role": {"chief", "reader"}, "User": {"zoe@site"},
        "Project": {"trunk@site", ""}, "System": {"all", ""}}, only=True),
    Typed("role assignment list --project trunk --project-domain site", has={"User": {"{zoe}"}}),
    Typed("role assignment list --project trunk --project-domain site --effective --user zoe --user-domain site --names",
        has={"Role": {"chief", "member", "reader"}}, only=True),
    Typed("role assignment list --system all --user zoe --user-domain site --names", has={"Role": {"reader"}}, only=True),
    Typed("role assignment list --group staff --group-domain site --inherited", has={"Inherited": {True}}, only=True),
    Typed("role assignment list --domain site --role reader --names", has={"Group": {"staff@site"}}, only=True),
    Typed("role assignment list --auth-user --auth-project --names", has={"Project": {"admin@Default"}, "Role": {"admin"}}, only=True),
    Typed("role remove reader --system all --user zoe --user-domain site"),
    Typed("role remove reader --project trunk --project-domain site --group staff --group-domain site --inherited"),
    Typed("role remove reader --domain site --group staff --group-domain site"),
    Typed("role assignment list --group staff --group-domain site", only=True),
    Typed("role add member --project trunk --project-domain site --user zoe --user-domain site"),
    Typed("implied role delete chief --implied-role member"),
    Typed("implied role list", lacks={"Prior Role Name": {"chief"}}),
    Typed("role delete local --domain site"),
    Typed("role show nonesuch", refused="(?i)no role"),
)
ZOE = ("--os-username zoe --os-user-domain-name site --os-password {secret} --os-project-name trunk --os-project-domain-name site ")
OWN = (
    Typed(ZOE + "token issue", shows={"user_id": "{zoe}", "project_id": "{tree}"}, keep={"token": "id"}),
    Typed(ZOE + "token revoke {token}"),
    Typed(ZOE + "catalog list", has={"Name": {"keystone", "nova", "glance", "neutron", "placement"}}),
    Typed(ZOE + "catalog show identity", shows={"type": "identity", "name": "keystone"}),
    Typed(ZOE + "application credential create robot --secret s3cret --role chief --description d --unrestricted "
        "--expiration 2099-01-01T00:00:00 --access-rules "
        """'[{{"path": "/v2.1/servers", "method": "GET", "service": "compute"}}]'""",
        shows={"Name": "robot", "Description": "d", "Secret": "s3cret", "Unrestricted": True}, keep={"robot": "ID"}),
    Typed(ZOE + "application credential list", has={"ID": {"{robot}"}}, only=True),
    Typed(ZOE + "application credential show robot", shows={"ID": "{robot}", "Project ID": "{tree}"}),
    Typed("application credential list --user zoe --user-domain site", has={"Name": {"robot"}}, only=True),
    Typed(ZOE + "access rule list", has={"Path": {"/v2.1/servers"}, "Method": {"GET"}, "Service": {"compute"}}, only=True,
        keep={"rule": "ID"}),
    Typed(ZOE + "access rule show {rule}", shows={"Path": "/v2.1/servers", "Method": "GET"}),
    Typed(ZOE + "access rule delete {rule}", refused="(?i)403|forbidden|in use"),
    Typed(ZOE + "application credential delete robot"),
    Typed(ZOE + "application credential list", only=True),
    Typed(ZOE + "access rule delete {rule}"),
    Typed(ZOE + "access rule list", only=True),
    Typed(ZOE + "ec2 credentials create", shows={"user_id": "{zoe}", "project_id": "{tree}"}, keep={"ec2": "access"}),
    Typed(ZOE + "ec2 credentials list", has={"Access": {"{ec2}"}}, only=True),
    Typed(ZOE + "ec2 credentials show {ec2}", shows={"access": "{ec2}"}),
    Typed("ec2 credentials list --user zoe --user-domain site", has={"User ID": {"{zoe}"}}, only=True),
    Typed(ZOE + "ec2 credentials delete {ec2}"),
    Typed(ZOE + "ec2 credentials list", only=True),
    Typed(ZOE + "trust create --project {tree} --role {captain} --impersonate {zoe} {max} --expiration 2099-01-01T00:00:00",
        shows={"trustor_user_id": "{zoe}", "trustee_user_id": "{max}", "is_impersonation": True, "project_id": "{tree}"}, keep={"trust": "id"}),
    Typed("trust list", has={"ID": {"{trust}"}}),
    Typed("trust list --trustor zoe --trustor-domain site", has={"ID": {"{trust}"}, "Trustee User ID": {"{max}"}}, only=True),
    Typed(ZOE + "trust show {trust}", shows={"id": "{trust}"}),
    Typed(ZOE + "trust delete {trust}"),
    Typed("trust list", only=True),
    Typed(ZOE + "user password set --original-password wrong --password third", refused="(?i)401|unauthori"),
    Typed(ZOE + "user password set --original-password {secret} --password third"),
    Typed(ZOE + "token issue", refused="(?i)401|requires authentication"),
    Typed("credential create {zoe} data --type cert --project {tree}", shows={"user_id": "{zoe}", "type": "cert", "blob": "data"},
        keep={"credential": "id"}),
    Typed("credential list --user {zoe} --type cert", has={"ID": {"{credential}"}, "Data": {"data"}}, only=True),
    Typed("credential set {credential} --user {zoe} --type cert --data other"),
    Typed("credential show {credential}", shows={"blob": "other", "project_id": "{tree}"}),
    Typed("credential delete {credential}"),
    Typed("credential show {credential}", refused="(?i)404|could not find"),
)
CATALOG = (
    Typed("region create north --description d", shows={"region": "north", "description": "d"}),
    Typed("region create harbour --parent-region north", shows={"parent_region": "north"}),
    Typed("region list --parent-region north", has={"Region": {"harbour"}}, only=True),
    Typed("region list", has={"Region": {"RegionOne", "north", "harbour"}}),
    Typed("region set harbour --description other"),
    Typed("region show harbour", shows={"description": "other", "parent_region": "north"}),
    Typed("region delete harbour"),
    Typed("region show harbour", refused="(?i)404|could not find"),
    Typed("service create toaster --name toast --description d --disable", shows={"type": "toaster", "enabled": False}, keep={"service": "id"}),
    Typed("service list --long", has={"Name": {"keystone", "nova", "toast"}, "Enabled": {True, False}}),
    Typed("service set toast --name bread --type oven --description other --enable"),
    Typed("service show bread", shows={"id": "{service}", "type": "oven", "enabled": True, "description": "other"}),
    Typed("endpoint create bread public http://127.0.0.1:9/v1 --region north", shows={"service_id": "{service}", "region": "north",
        "url": "http://127.0.0.1:9/v1", "interface": "public"}, keep={"endpoint": "id"}),
    Typed("endpoint list --service bread --interface public --region north", has={"ID": {"{endpoint}"}}, only=True),
    Typed("endpoint list", has={"Service Name": {"keystone", "nova", "bread"}}),
    Typed("endpoint set {endpoint} --url http://127.0.0.1:9/v2 --interface internal --disable"),
    Typed("endpoint show {endpoint}", shows={"url": "http://127.0.0.1:9/v2", "interface": "internal", "enabled": False}),
    Typed("endpoint add project {endpoint} trunk --project-domain site"),
    Typed("endpoint list --project trunk --project-domain site", has={"ID": {"{endpoint}"}}),
    Typed("endpoint list --endpoint {endpoint}", has={"ID": {"{tree}"}}, only=True),
    Typed("endpoint remove project {endpoint} trunk --project-domain site"),
    Typed("endpoint list --project trunk --project-domain site", lacks={"ID": {"{endpoint}"}}),
    Typed("endpoint group create ovens {filters} --description d", shows={"name": "ovens", "description": "d"}, keep={"ovens": "id"}),
    Typed("endpoint group list", has={"Name": {"ovens"}}, only=True),
    Typed("endpoint group add project ovens trunk --project-domain site"),
    Typed("endpoint group list --project trunk --domain site", has={"ID": {"{ovens}"}}, only=True),
    Typed("endpoint group list --endpointgroup ovens", has={"ID": {"{tree}"}}, only=True),
    Typed("endpoint group set ovens --name bakery --description other --filters {filters}"),
    Typed("endpoint group show bakery", shows={"id": "{ovens}", "description": "other"}),
    Typed("endpoint group remove project bakery trunk --project-domain site"),
    Typed("endpoint group list --project trunk --domain site", only=True),
    Typed("endpoint group delete bakery"),
    Typed("endpoint group list", only=True),
    Typed("policy create {filters} --type application/json", shows={"type": "application/json"}, keep={"policy": "id"}),
    Typed("policy list --long", has={"ID": {"{policy}"}, "Type": {"application/json"}}, only=True),
    Typed("policy set {policy} --type text/plain --rules {filters}"),
    Typed("policy show {policy}", shows={"type": "text/plain"}),
    Typed("policy delete {policy}"),
    Typed("policy list", only=True),
    Typed("registered limit create slices --service bread --default-limit 10 --description d", shows={"default_limit": 10, "resource_name": "slices"},
        keep={"registered": "id"}),
    Typed("registered limit list --service bread --resource-name slices", has={"ID": {"{registered}"}}, only=True),
    Typed("registered limit set {registered} --default-limit 20 --description other"),
    Typed("registered limit show {registered}", shows={"default_limit": 20, "description": "other"}),
    Typed("limit create slices --service bread --project {tree} --resource-limit 5 --description d", shows={"resource_limit": 5, "project_id": "{tree}"},
        keep={"limit": "id"}),
    Typed("limit list --service bread --project {tree}", has={"ID": {"{limit}"}}, only=True),
    Typed("limit set {limit} --resource-limit 7"),
    Typed("limit show {limit}", shows={"resource_limit": 7, "description": "d"}),
    Typed("registered limit delete {registered}", refused="(?i)403|forbidden"),
    Typed("limit delete {limit}"),
    Typed("limit list", only=True),
    Typed("registered limit delete {registered}"),
    Typed("registered limit list", only=True),
    Typed("endpoint delete {endpoint}"),
    Typed("service delete bread"),
    Typed("service show bread", refused="(?i)no service"),
    Typed("region delete north"),
)
END = (
    Typed("role remove chief --project trunk --project-domain site --user zoe --user-domain site"),
    Typed("role delete chief"),
    Typed("user delete zoe moritz --domain site"),
    Typed("user list --domain site", only=True),
    Typed("group delete staff --domain site"),
    Typed("project delete leaf trunk --domain site"),
    Typed("project list --domain site", only=True),
    Typed("domain set site --disable"),
    Typed("domain delete site"),
    Typed("domain list", lacks={"Name": {"site"}}),
)
# fmt: on
STORIES = {
    "domains": DOMAINS,
    "projects": PROJECTS,
    "users": USERS,
    "roles": ROLES,
    "own": OWN,
    "catalog": CATALOG,
    "end": END,
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    running = RunningCloud(hypervisor="fake", hosts=1)
    (running.state / "nephos.toml").write_text("[tokens]\nbcrypt_rounds = 4\n")
    with running:
        yield running


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the stories tell each other."""
    filters = tmp_path_factory.mktemp("files") / "filters.json"
    filters.write_text(json.dumps({"interface": "internal"}))
    return {"filters": str(filters), "secret": "first"}


@pytest.mark.host
@pytest.mark.parametrize("story", STORIES)
def test_as_typed(cloud: RunningCloud, kept: dict[str, str], story: str) -> None:
    """In their order: later stories use what earlier ones made."""
    play(cloud, STORIES[story], kept)


def test_every_command_is_typed() -> None:
    known = commands("openstack.identity.v3")
    typed = {command_of(line, known) for story in STORIES.values() for line in story}
    wanted = {each for each in known if not each.startswith(LEFT_OUT)}
    assert typed == wanted, (wanted - typed, typed - wanted)
    assert len(wanted) >= 98
