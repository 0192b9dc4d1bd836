"""Trunks: ports whose guests tag their frames, and the ports behind the tags."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, ForeignKey, Table, UniqueConstraint, exists, or_

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

trunk = Table(
    "network_trunk",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    boolean("admin_state_up", default=True),
    Column("port_id", ForeignKey("network_port.id"), nullable=False, unique=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)

subport = Table(
    "network_subport",
    metadata,
    Column("port_id", ForeignKey("network_port.id"), primary_key=True),
    Column("trunk_id", ForeignKey("network_trunk.id", ondelete="CASCADE"), nullable=False, index=True),
    text("kind"),
    integer("number"),
    UniqueConstraint("trunk_id", "number"),
)
"""`number` is the VLAN id of the frames in the guest; `kind` is how it was asked for: vlan or inherit."""


def in_trunk(port_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the port of this id is a trunk's parent or behind a tag."""
    return or_(exists().where(trunk.c.port_id == port_id), exists().where(subport.c.port_id == port_id))


SUBPORT = "trunk:subport"
"""The device owner of a port that is behind a tag."""
