"""Run by Alembic; the connection comes from `migrate` (see the package), never from an ini file."""

from __future__ import annotations

from alembic import context

from modules.utils.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table only by making it anew
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
