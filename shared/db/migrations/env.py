"""Runs inside Alembic: applies versions over the connection that `shared.db.migrate` holds the lock with."""

from alembic import context

from shared.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
