"""Limits that differ from the defaults, and the row that a project's takings are ordered by."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from nephos.kernel.db.schema import integer, metadata

quota = Table(
    "compute_quota",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True, default=""),
    Column("resource", Text, primary_key=True),
    integer("amount"),
)
"""`user_id` is empty for the project's own limits."""

quota_class = Table(
    "compute_quota_class",
    metadata,
    Column("name", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    integer("amount"),
)
"""The class `default` lies over the settings for every project."""

taking = Table(
    "compute_taking",
    metadata,
    Column("project_id", Text, primary_key=True),
    integer("generation", default=0),
)
"""Bumped by whoever takes quota, so that of two transactions that counted the same rows one is repeated."""
