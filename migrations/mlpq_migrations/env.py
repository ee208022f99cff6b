"""Alembic's entry point: runs the migrations in the transaction of the caller, mlpq.store.migrate."""

from alembic import context

from mlpq.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
