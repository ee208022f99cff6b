"""The first schema: experiments, jobs, attempts, epochs, results, environments, workers, and the view `results`."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mlpq_migrations import view

revision = "0001"
down_revision = None

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(JSONB(), "postgresql")
Id = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
Time = sa.DateTime(timezone=True)

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
    _create_environments_experiments_and_workers()
    _create_jobs()
    _create_indexes_of_jobs()
    _create_attempts()
    _create_job_results()
    _create_epochs()
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))


def _create_environments_experiments_and_workers() -> None:
    op.create_table(
        "environments",
        sa.Column("id", Serial, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("facts", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_environments_fingerprint")),
    )
    op.create_table(
        "experiments",
        sa.Column("id", Serial, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("name", name=op.f("uq_experiments_name")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("started_at", Time, nullable=False),
        sa.Column("beat_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", Serial, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("experiment_id", Serial, nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=100), nullable=True),
        sa.Column("lease_until", Time, nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("not_before", Time, nullable=True),
        sa.Column("parent_id", Id, nullable=True),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("finished_at", Time, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name=op.f("ck_jobs_lease")),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished"),
        ),
        sa.CheckConstraint(
            "status IN ('blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_jobs_status"),
        ),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_jobs_experiment_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["jobs.id"], name=op.f("fk_jobs_parent_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_jobs")),
        sa.UniqueConstraint("experiment_id", "spec_hash", "repeat", name=op.f("uq_jobs_experiment_id")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
    )


def _create_indexes_of_jobs() -> None:
    op.create_index(
        "ix_jobs_claim",
        "jobs",
        [sa.literal_column("priority DESC"), "seq"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_jobs_experiment_status", "jobs", ["experiment_id", "status"], unique=False)
    op.create_index(
        "ix_jobs_lease",
        "jobs",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
        sqlite_where=sa.text("status = 'running'"),
    )
    op.create_index("ix_jobs_parent_id", "jobs", ["parent_id"], unique=False)


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", Id, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("started_at", Time, nullable=False),
        sa.Column("ended_at", Time, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("log_tail", sa.Text(), nullable=True),
        sa.Column("environment_id", Serial, nullable=True),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'diverged', 'failed', 'lost', 'released', 'cancelled')",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_attempts_environment_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id")),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_attempts")),
    )


def _create_job_results() -> None:
    op.create_table(
        "job_results",
        sa.Column("job_id", Id, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("test_correct", sa.Integer(), nullable=False),
        sa.Column("test_total", sa.Integer(), nullable=False),
        sa.Column("test_loss", sa.Float(53), nullable=False),
        sa.Column("validation_correct", sa.Integer(), nullable=True),
        sa.Column("validation_total", sa.Integer(), nullable=True),
        sa.Column("validation_loss", sa.Float(53), nullable=True),
        sa.Column("best_epoch", sa.Integer(), nullable=False),
        sa.Column("epochs_run", sa.Integer(), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("weights_file", sa.Text(), nullable=False),
        sa.Column("train_seconds", sa.Float(53), nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("world_size", sa.Integer(), nullable=False),
        sa.Column("gang_size", sa.Integer(), nullable=False),
        sa.CheckConstraint("0 <= test_correct AND test_correct <= test_total", name=op.f("ck_job_results_test_count")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_results_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_results")),
    )


def _create_epochs() -> None:
    op.create_table(
        "epochs",
        sa.Column("job_id", Id, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("train_loss", sa.Float(53), nullable=False),
        sa.Column("validation_loss", sa.Float(53), nullable=True),
        sa.Column("validation_correct", sa.Integer(), nullable=True),
        sa.Column("validation_total", sa.Integer(), nullable=True),
        sa.Column("test_loss", sa.Float(53), nullable=False),
        sa.Column("test_correct", sa.Integer(), nullable=False),
        sa.Column("test_total", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id", "attempt"], ["attempts.job_id", "attempts.attempt"], name=op.f("fk_epochs_job_id")
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "epoch", name=op.f("pk_epochs")),
    )
