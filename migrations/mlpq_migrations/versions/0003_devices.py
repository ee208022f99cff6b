"""Devices: the world size that a job asks for, and what a worker has to run jobs on."""

import sqlalchemy as sa
from alembic import op

from mlpq_migrations import view

revision = "0003"
down_revision = "0002"

VIEW = view.FIRST.replace("job_results.gang_size,", "job_results.gang_size,\n    job_results.engine,").replace(
    "jobs.device AS requested_device,",
    "jobs.device AS requested_device,\n    jobs.world_size AS requested_world_size,",
)


def upgrade() -> None:
    op.execute("DROP VIEW results")
    op.add_column("jobs", sa.Column("world_size", sa.Integer(), nullable=True))
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))
    # Who is in it is told anew with every beat.
    op.drop_table("workers")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("most_ranks", sa.Integer(), nullable=False),
        sa.Column("world_size", sa.Integer(), nullable=False),
        sa.Column("jobs_done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", time, nullable=False),
        sa.Column("beat_at", time, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
