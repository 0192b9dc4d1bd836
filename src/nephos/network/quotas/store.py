"""Limits that an operator set for a project; what is not here has the setting's value."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from nephos.kernel.db.schema import integer, metadata

quota = Table(
    "network_quota",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    integer("limit"),
)

taking = Table("network_taking", metadata, Column("project_id", Text, primary_key=True), integer("generation", default=0))
"""One row for each project that ever took something, counted up by whoever takes more: it puts them in an order."""
