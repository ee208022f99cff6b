"""The packages that workers have, and the one that a job needs: torch, or that of a plug-in."""

import sqlalchemy as sa
from alembic import op

from mlpq_migrations import checks

revision = "0015"
down_revision = "0014"

IS_QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("package", sa.String(length=150)))
    op.add_column("workers", sa.Column("packages", sa.Text()))
    op.drop_index("ix_jobs_waiting", "jobs")
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["experiment_id", "device", "world_size", "data_sha256", "package"],
        postgresql_where=IS_QUEUED,
        sqlite_where=IS_QUEUED,
    )
    for statement in checks.triggers("jobs", "package", checks.PRINTABLE, op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)
