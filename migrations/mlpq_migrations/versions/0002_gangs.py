"""Gangs: the key by which jobs are claimed together, and the engine that trained a result."""

import sqlalchemy as sa
from alembic import op

from mlpq_migrations import view

revision = "0002"
down_revision = "0001"

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
    # Jobs that are already queued have no key, so they run alone.
    op.add_column("jobs", sa.Column("gang_key", sa.Text(), nullable=True))
    op.create_index(
        "ix_jobs_gang",
        "jobs",
        ["gang_key", "priority", "seq"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    # The default is for existing rows only: from now on every result names its engine.
    with op.batch_alter_table("job_results") as batch:
        batch.add_column(sa.Column("engine", sa.String(length=8), server_default="plain", nullable=False))
        batch.create_check_constraint(op.f("ck_job_results_engine"), "engine IN ('gang', 'plain')")
    with op.batch_alter_table("job_results") as batch:
        batch.alter_column("engine", server_default=None)
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))
