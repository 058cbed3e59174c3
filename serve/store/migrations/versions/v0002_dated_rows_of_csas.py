"""Dated rows of the CSAs that decisions were made among."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "twotower_csas",
        sa.Column("csa_id", ID, primary_key=True),
        sa.Column("valid_from", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hired_at", sa.BigInteger),
        sa.Column("left_at", sa.BigInteger),
        sa.Column("site", sa.Text),
        sa.Column("team", sa.Text),
        sa.Column("languages", sa.Text, nullable=False),
        sa.Column("skills", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("capacity", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("cost", sa.Float),
    )
