"""What another bundle would have answered beside each decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "twotower_shadows",
        sa.Column("decision_id", ID, primary_key=True),
        sa.Column("shadow", ID, primary_key=True),
        sa.Column("contact_id", ID, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
        sa.Column("served", ID, nullable=False),
        sa.Column("same_first", sa.Boolean),
        sa.Column("overlap", sa.Float),
        sa.Column("answered", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("served_s", sa.Float),
        sa.Column("shadow_s", sa.Float),
    )
    op.create_index("twotower_shadows_contact", "twotower_shadows", ["contact_id"])
    op.create_index("twotower_shadows_shadow", "twotower_shadows", ["shadow", "decided_at"])
