"""Trunks: ports whose guests tag their frames, and the ports behind the tags."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, UniqueConstraint

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

SUBPORT = "trunk:subport"
"""The device owner of a port that is behind a tag."""
