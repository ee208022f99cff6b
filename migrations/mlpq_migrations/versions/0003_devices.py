"""Devices: the world size that a job requests, and the device and capabilities of a worker."""

import sqlalchemy as sa
from alembic import op

from mlpq_migrations import view

revision = "0003"
down_revision = "0002"

VIEW = """
CREATE VIEW results AS
SELECT
    jobs.seq,
    jobs.id,
    experiments.name AS experiment,
    jobs.status,
    attempts.outcome,
    {text:dataset} AS dataset,
    {hidden} AS hidden,
    {text:activation} AS activation,
    CAST({text:bias} AS BOOLEAN) AS bias,
    CAST({text:dropout} AS DOUBLE PRECISION) AS dropout,
    {text:optimizer} AS optimizer,
    CAST({text:lr} AS DOUBLE PRECISION) AS lr,
    CAST({text:optimizer_settings,weight_decay} AS DOUBLE PRECISION) AS weight_decay,
    {text:optimizer_settings} AS optimizer_settings,
    CAST({text:l1} AS DOUBLE PRECISION) AS l1,
    jobs.seed,
    CAST({text:epochs} AS INTEGER) AS epochs,
    CAST({text:batch_size} AS INTEGER) AS batch_size,
    CAST({text:validation} AS DOUBLE PRECISION) AS validation,
    CAST({text:patience} AS INTEGER) AS patience,
    job_results.test_correct,
    job_results.test_total,
    CAST(job_results.test_correct AS DOUBLE PRECISION) / job_results.test_total AS test_accuracy,
    job_results.test_loss,
    job_results.validation_correct,
    job_results.validation_total,
    CAST(job_results.validation_correct AS DOUBLE PRECISION) / job_results.validation_total AS validation_accuracy,
    job_results.validation_loss,
    job_results.best_epoch,
    job_results.epochs_run,
    job_results.weights_sha256,
    job_results.weights_file,
    job_results.train_seconds,
    job_results.device,
    job_results.world_size,
    job_results.gang_size,
    job_results.engine,
    jobs.attempt,
    jobs.spec_hash,
    jobs.parent_id,
    jobs.device AS requested_device,
    jobs.world_size AS requested_world_size,
    jobs.priority,
    jobs.worker,
    jobs.created_at,
    attempts.started_at,
    jobs.finished_at,
    jobs.error
FROM jobs
JOIN experiments ON experiments.id = jobs.experiment_id
LEFT JOIN attempts ON attempts.job_id = jobs.id AND attempts.attempt = jobs.attempt
LEFT JOIN job_results ON job_results.job_id = jobs.id
"""


def upgrade() -> None:
    op.execute("DROP VIEW results")
    op.add_column("jobs", sa.Column("world_size", sa.Integer(), nullable=True))
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))
    # Live workers insert their rows again with the next heartbeat.
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
