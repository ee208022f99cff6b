"""The kernel as an engine, the number of a result's arithmetic, and the engine that a rerun requests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mlpq_migrations import view

revision = "0012"
down_revision = "0011"

Id = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
Json = sa.JSON().with_variant(JSONB(), "postgresql")

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
    coalesce({text:initialisation}, 'torch') AS initialisation,
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
    jobs.error,
    job_results.arithmetic
FROM jobs
JOIN experiments ON experiments.id = jobs.experiment_id
LEFT JOIN attempts ON attempts.job_id = jobs.id AND attempts.attempt = jobs.attempt
LEFT JOIN job_results ON job_results.job_id = jobs.id
"""


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute("DROP VIEW results")
    op.add_column("jobs", sa.Column("requested_engine", sa.String(length=8)))
    # SQLite changes a constraint only by a copy of the table, and can't drop a table that others refer to.
    if is_sqlite:
        op.execute("CREATE TABLE kept_images AS SELECT * FROM result_images")
        op.drop_table("result_images")
    with op.batch_alter_table("job_results") as batch:
        batch.add_column(sa.Column("arithmetic", sa.Integer()))
        batch.drop_constraint(op.f("ck_job_results_engine"), type_="check")
        batch.create_check_constraint(op.f("ck_job_results_engine"), "engine IN ('gang', 'plain', 'kernel')")
    if is_sqlite:
        _create_images()
        op.execute("INSERT INTO result_images SELECT * FROM kept_images")
        op.drop_table("kept_images")
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))


def _create_images() -> None:
    op.create_table(
        "result_images",
        sa.Column("job_id", Id, nullable=False),
        sa.Column("correct", sa.LargeBinary(), nullable=False),
        sa.Column("predictions_sha256", sa.String(length=64), nullable=False),
        sa.Column("confusion", Json, nullable=False),
        sa.Column("calibration", Json, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_results.job_id"], name=op.f("fk_result_images_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_result_images")),
    )
