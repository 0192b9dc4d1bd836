"""The identity service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.identity import audit
from nephos.identity import seed as first
from nephos.identity.application_credentials import api as application_credentials
from nephos.identity.assignments import api as assignments
from nephos.identity.catalog import api as catalog
from nephos.identity.credentials import api as credentials
from nephos.identity.discovery import api as discovery
from nephos.identity.domain_configs import api as domain_configs
from nephos.identity.domains import api as domains
from nephos.identity.endpoint_filters import api as endpoint_filters
from nephos.identity.groups import api as groups
from nephos.identity.keys import rotation
from nephos.identity.limits import api as limits
from nephos.identity.part import Identity
from nephos.identity.policy_documents import api as policy_documents
from nephos.identity.projects import api as projects
from nephos.identity.roles import api as roles
from nephos.identity.tokens import api as tokens
from nephos.identity.tokens import ec2, scopes
from nephos.identity.trusts import api as trusts
from nephos.identity.users import api as users
from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service

SERVICE = Service(
    name="identity",
    prefixes=("", "/identity"),
    routes=(
        *discovery.ROUTES,
        *tokens.ROUTES,
        *scopes.ROUTES,
        *ec2.ROUTES,
        *domains.ROUTES,
        *projects.ROUTES,
        *users.ROUTES,
        *groups.ROUTES,
        *roles.ROUTES,
        *assignments.ROUTES,
        *catalog.ROUTES,
        *credentials.ROUTES,
        *application_credentials.ROUTES,
        *endpoint_filters.ROUTES,
        *domain_configs.ROUTES,
        *trusts.ROUTES,
        *limits.ROUTES,
        *policy_documents.ROUTES,
    ),
    dialect=faults.identity,
)


def compose(cloud: Cloud) -> None:
    """Tell the cloud who asks: every service's requests depend on it."""
    identity = Identity(cloud)
    cloud.parts["identity"] = identity
    cloud.verify = identity.verify
    identity.used = rotation.Automatic(cloud).look
    cloud.audits.append(audit.assignments)


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Domain, projects, roles, users and catalog; again: nothing. `passwords` are those of the first users, by name."""
    first.seed(cloud, passwords)
