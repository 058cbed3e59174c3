"""Contacts, decisions, hand-overs and what became known of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    _contacts()
    _decisions()
    _feedback()


def _contacts() -> None:
    op.create_table(
        "twotower_contacts",
        sa.Column("contact_id", ID, primary_key=True),
        sa.Column("customer_id", ID),
        sa.Column("arrived_at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("channel", "queue", "language", "intent", "intent_text", "transcript")),
        sa.Column("priority", sa.Float),
        sa.Column("customer_language", sa.Text),
        sa.Column("customer_since", sa.BigInteger),
    )
    op.create_index("twotower_contacts_customer", "twotower_contacts", ["customer_id"])
    op.create_index("twotower_contacts_arrived", "twotower_contacts", ["arrived_at"])
    op.create_table(
        "twotower_abandoned",
        sa.Column("contact_id", ID, primary_key=True),
        sa.Column("abandoned_at", sa.BigInteger, nullable=False),
    )


def _decisions() -> None:
    op.create_table(
        "twotower_decisions",
        sa.Column("decision_id", ID, primary_key=True),
        sa.Column("contact_id", ID, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("urgent", sa.Boolean),
        sa.Column("eligible", sa.Text),
        sa.Column("candidates", sa.Text, nullable=False),
        sa.Column("chosen", ID),
        sa.Column("policy", sa.Text),
        sa.Column("propensity", sa.Float),
        sa.Column("arm", sa.Text),
        sa.Column("seed", sa.BigInteger),
        sa.Column("salt", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("roster_version", sa.BigInteger),
        sa.Column("fallback", sa.Text),
    )
    op.create_index("twotower_decisions_contact", "twotower_decisions", ["contact_id", "decided_at"])


def _feedback() -> None:
    op.create_table(
        "twotower_handovers",
        sa.Column("contact_id", ID, primary_key=True),
        sa.Column("csa_id", ID, primary_key=True),
        sa.Column("assigned_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("decision_id", ID),
        sa.Column("policy", sa.Text),
        sa.Column("propensity", sa.Float),
    )
    op.create_index("twotower_handovers_assigned", "twotower_handovers", ["assigned_at"])
    op.create_table(
        "twotower_facts",
        sa.Column("feedback_id", ID, primary_key=True),
        sa.Column("contact_id", ID, nullable=False),
        sa.Column("csa_id", ID, nullable=False),
        sa.Column("assigned_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("known_at", sa.BigInteger),
        sa.Column("resolved", sa.Boolean),
        sa.Column("csat", sa.Float),
        sa.Column("quality_score", sa.Float),
        sa.Column("handle_time_s", sa.Float),
        sa.Column("transferred", sa.Boolean),
        sa.Column("told", sa.Text, nullable=False),
    )
    op.create_index("twotower_facts_handover", "twotower_facts", ["contact_id", "csa_id", "assigned_at"])
    op.create_index("twotower_facts_known", "twotower_facts", ["known_at"])
    op.create_index("twotower_facts_ended", "twotower_facts", ["ended_at"])
