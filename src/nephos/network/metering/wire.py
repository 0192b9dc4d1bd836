"""Metering labels and their rules as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import select

from nephos.network import resource
from nephos.network.metering.store import label, rule
from nephos.network.resource import Item, Loaded, Noun, View

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=1024)]


class CreateLabel(resource.Owned, kw_only=True):
    """POST /metering/metering-labels."""

    name: Name = ""
    description: Words = ""
    shared: bool = False


class CreateRule(resource.Owned, kw_only=True):
    """POST /metering/metering-label-rules."""

    metering_label_id: str
    direction: Literal["ingress", "egress"]
    excluded: bool = False
    remote_ip_prefix: str | None = None
    source_ip_prefix: str | None = None
    destination_ip_prefix: str | None = None


def _label(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "shared": row.shared,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
    }


def _rule(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "metering_label_id": row.label_id,
        "direction": row.direction,
        "excluded": row.excluded,
        "remote_ip_prefix": row.remote,
        "source_ip_prefix": row.source,
        "destination_ip_prefix": row.destination,
    }


def _rule_target(row: Any) -> dict[str, Any]:
    return {"project_id": row.owner, "tenant_id": row.owner}


_l, _r = label.c, rule.c
LABEL = Noun(
    name="metering_label",
    plural="metering_labels",
    title="Metering label",
    table=label,
    select=select(label),
    scope=_l.project_id == resource.VIEWER,
    render=_label,
    lacks=resource.NO_REVISIONS,
    columns={"description": _l.description, "shared": _l.shared},
)
RULE = Noun(
    name="metering_label_rule",
    plural="metering_label_rules",
    title="Metering label rule",
    table=rule,
    select=select(rule, label.c.project_id.label("owner")).join(label, label.c.id == _r.label_id),
    scope=_l.project_id == resource.VIEWER,
    render=_rule,
    lacks=resource.NO_REVISIONS,
    target=_rule_target,
    columns={
        "metering_label_id": _r.label_id,
        "direction": _r.direction,
        "excluded": _r.excluded,
        "remote_ip_prefix": _r.remote,
    },
    filters={"source_ip_prefix": _r.source, "destination_ip_prefix": _r.destination},
)
