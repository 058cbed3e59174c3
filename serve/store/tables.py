"""The store's tables, as the newest migration leaves them; a test holds the two together.

Notable: times are int64 µs UTC, as everywhere here. Ids compare by their bytes on every database, so an export has the
same order, and the same bytes, wherever it comes from. Lists and candidates are JSON: they are read as a whole or not
at all. Nothing refers to another table by a foreign key: outcomes may come before the decision, or without it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.dialects import postgresql

ID = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
PREFIX = "twotower_"
VERSION_TABLE = f"{PREFIX}version"

metadata = MetaData()

# intent_text, transcript: redacted; null until they are. stored_at, here and of facts: when that was (of a fact: when
# it) was written, by the clock of who wrote; null before, and in rows from before there was the column.
contacts = Table(
    f"{PREFIX}contacts",
    metadata,
    Column("contact_id", ID, primary_key=True),
    Column("customer_id", ID),
    Column("arrived_at", BigInteger, nullable=False),
    Column("channel", Text),
    Column("queue", Text),
    Column("language", Text),
    Column("intent", Text),
    Column("intent_text", Text),
    Column("transcript", Text),
    Column("priority", Float),
    Column("customer_language", Text),
    Column("customer_since", BigInteger),
    Column("stored_at", BigInteger),
    Index("twotower_contacts_customer", "customer_id"),
    Index("twotower_contacts_arrived", "arrived_at"),
    Index("twotower_contacts_stored", "stored_at"),
)

abandoned = Table(
    f"{PREFIX}abandoned",
    metadata,
    Column("contact_id", ID, primary_key=True),
    Column("abandoned_at", BigInteger, nullable=False),
)

decisions = Table(
    f"{PREFIX}decisions",
    metadata,
    Column("decision_id", ID, primary_key=True),
    Column("contact_id", ID, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("urgent", Boolean),
    Column("eligible", Text),
    Column("candidates", Text, nullable=False),
    Column("chosen", ID),
    Column("policy", Text),
    Column("propensity", Float),
    Column("arm", Text),
    Column("seed", BigInteger),
    Column("salt", Text),
    Column("model", Text),
    Column("roster_version", BigInteger),
    Column("fallback", Text),
    Index("twotower_decisions_contact", "contact_id", "decided_at"),
)

handovers = Table(
    f"{PREFIX}handovers",
    metadata,
    Column("contact_id", ID, primary_key=True),
    Column("csa_id", ID, primary_key=True),
    Column("assigned_at", BigInteger, primary_key=True, autoincrement=False),
    Column("decision_id", ID),
    Column("policy", Text),
    Column("propensity", Float),
    Index("twotower_handovers_assigned", "assigned_at"),
)

# What each piece of feedback added to its hand-over; `told` is the whole of it as it was sent.
facts = Table(
    f"{PREFIX}facts",
    metadata,
    Column("feedback_id", ID, primary_key=True),
    Column("contact_id", ID, nullable=False),
    Column("csa_id", ID, nullable=False),
    Column("assigned_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("known_at", BigInteger),
    Column("resolved", Boolean),
    Column("csat", Float),
    Column("quality_score", Float),
    Column("handle_time_s", Float),
    Column("transferred", Boolean),
    Column("told", Text, nullable=False),
    Column("stored_at", BigInteger),
    Index("twotower_facts_handover", "contact_id", "csa_id", "assigned_at"),
    Index("twotower_facts_known", "known_at"),
    Index("twotower_facts_ended", "ended_at"),
    Index("twotower_facts_stored", "stored_at"),
)

# What another bundle would have answered beside a decision (`shadows.py`); `answered` is null where it did not, and
# `error` says why. `served_s`, `shadow_s`: seconds that either took.
shadows = Table(
    f"{PREFIX}shadows",
    metadata,
    Column("decision_id", ID, primary_key=True),
    Column("shadow", ID, primary_key=True),
    Column("contact_id", ID, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("served", ID, nullable=False),
    Column("same_first", Boolean),
    Column("overlap", Float),
    Column("answered", Text),
    Column("error", Text),
    Column("served_s", Float),
    Column("shadow_s", Float),
    Index("twotower_shadows_contact", "contact_id"),
    Index("twotower_shadows_shadow", "shadow", "decided_at"),
)

# Contacts last, as they say whose the others are.
OF_CONTACTS: tuple[Table, ...] = (shadows, decisions, facts, handovers, abandoned, contacts)

# Who was erased, see `erasures.py`: the latest number of each key; and one row with the database's salt and the number
# of the latest erasure.
erasures = Table(
    f"{PREFIX}erasures",
    metadata,
    Column("key", ID, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("erased_at", BigInteger, nullable=False),
    Index("twotower_erasures_number", "number"),
)
erasing = Table(
    f"{PREFIX}erasing",
    metadata,
    Column("salt", ID, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# Dated rows of csas.parquet; valid_from is the least int64 where a row counts from the beginning.
csas = Table(
    f"{PREFIX}csas",
    metadata,
    Column("csa_id", ID, primary_key=True),
    Column("valid_from", BigInteger, primary_key=True, autoincrement=False),
    Column("hired_at", BigInteger),
    Column("left_at", BigInteger),
    Column("site", Text),
    Column("team", Text),
    Column("languages", Text, nullable=False),
    Column("skills", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("capacity", BigInteger, nullable=False),
    Column("kind", Text),
    Column("cost", Float),
)
