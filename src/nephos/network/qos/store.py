"""QoS policies and their rules."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table

from nephos.kernel.db.schema import document, integer, key, metadata, text, when

policy = Table(
    "network_qos_policy",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    text("default_of", null=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    Index("uq_network_qos_policy_default_of", "default_of", unique=True),
)
"""`default_of` is the project whose default policy it is, NULL for all others."""

rule = Table(
    "network_qos_rule",
    metadata,
    key(),
    Column("policy_id", ForeignKey("network_qos_policy.id", ondelete="CASCADE"), nullable=False, index=True),
    text("kind"),
    text("direction", null=True),
    integer("amount"),
    integer("burst", default=0),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`amount` is in kbit/s, thousands of packets a second, or a DSCP mark, as `kind` has it; `burst` in kbit or thousands
of packets, 0 for what the host finds right. `direction` is as the guest sees it: egress is what it sends."""
