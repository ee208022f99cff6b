"""Alembic's entry: runs the migrations on the connection, and in the transaction, of the caller (mlpq.store.migrate)."""

from alembic import context

from mlpq.store.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
