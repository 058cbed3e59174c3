"""When contacts and facts were stored, by which other processes find what is new to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; what is there already stays without."""
    for name in ("contacts", "facts"):
        op.add_column(f"twotower_{name}", sa.Column("stored_at", sa.BigInteger))
        op.create_index(f"twotower_{name}_stored", f"twotower_{name}", ["stored_at"])
