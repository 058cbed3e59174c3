"""What Alembic runs: migrations over the connection that `serve.store.migrate` holds, inside its transaction."""

from __future__ import annotations

from alembic import context

from serve.store.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
context.run_migrations()
