"""Indexes for the dashboard: pages of an experiment's jobs, and what its queued jobs request."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.drop_index("ix_jobs_experiment_status", "jobs")
    op.create_index("ix_jobs_experiment_status", "jobs", ["experiment_id", "status", "seq"])
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["experiment_id", "device", "world_size"],
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
