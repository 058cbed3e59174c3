"""Who was erased, as salted hashes, and the salt."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables, and this database's salt."""
    erasing = op.create_table(
        "twotower_erasing",
        sa.Column("salt", ID, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(erasing, [{"salt": secrets.token_hex(32), "number": 0}])
    op.create_table(
        "twotower_erasures",
        sa.Column("key", ID, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("erased_at", sa.BigInteger, nullable=False),
    )
    op.create_index("twotower_erasures_number", "twotower_erasures", ["number"])
