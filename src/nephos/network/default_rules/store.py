"""The rules that new security groups start with."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

default_rule = Table(
    "network_default_rule",
    metadata,
    key(),
    text("description", default=""),
    text("direction"),
    integer("version"),
    text("protocol", null=True),
    integer("port_min", null=True),
    integer("port_max", null=True),
    text("remote_cidr", null=True),
    text("remote_prefix", null=True),
    text("remote_group_id", null=True),
    text("remote_address_group_id", null=True),
    boolean("in_default"),
    boolean("in_others"),
    boolean("removed"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`remote_group_id` PARENT is the group that the rule is made in. `removed` marks one of the first rules that the
operator took away, so that it does not come back."""

PARENT = "PARENT"
