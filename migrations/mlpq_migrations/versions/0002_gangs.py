"""Gangs: the key by which jobs are claimed together, and which engine trained a result."""

import sqlalchemy as sa
from alembic import op

from mlpq_migrations import view

revision = "0002"
down_revision = "0001"

VIEW = view.FIRST.replace("job_results.gang_size,", "job_results.gang_size,\n    job_results.engine,")


def upgrade() -> None:
    op.execute("DROP VIEW results")
    # Jobs that are queued already have no key, so they run alone.
    op.add_column("jobs", sa.Column("gang_key", sa.Text(), nullable=True))
    op.create_index(
        "ix_jobs_gang",
        "jobs",
        ["gang_key", "priority", "seq"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    # The default is for the rows that are there: whoever writes a result from now on says which engine it was.
    with op.batch_alter_table("job_results") as batch:
        batch.add_column(sa.Column("engine", sa.String(length=8), server_default="plain", nullable=False))
        batch.create_check_constraint(op.f("ck_job_results_engine"), "engine IN ('gang', 'plain')")
    with op.batch_alter_table("job_results") as batch:
        batch.alter_column("engine", server_default=None)
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))
