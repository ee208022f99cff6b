"""The kernel as an engine, the number of a result's arithmetic, and the engine that a rerun requests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mlpq_migrations import checks, view

revision = "0012"
down_revision = "0011"

Id = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
Json = sa.JSON().with_variant(JSONB(), "postgresql")

RESULT_CHECKS = (("weights_sha256", checks.SHA256), ("test_total", checks.POSITIVE))  # a copied table has no triggers

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
    {boolean:bias} AS bias,
    coalesce({text:initialisation}, 'torch') AS initialisation,
    {number:dropout} AS dropout,
    {text:optimizer} AS optimizer,
    {number:lr} AS lr,
    {number:optimizer_settings,weight_decay} AS weight_decay,
    {text:optimizer_settings} AS optimizer_settings,
    {number:l1} AS l1,
    jobs.seed,
    {integer:epochs} AS epochs,
    {integer:batch_size} AS batch_size,
    {number:validation} AS validation,
    {integer:patience} AS patience,
    job_results.test_correct,
    job_results.test_total,
    CAST(job_results.test_correct AS DOUBLE PRECISION) / nullif(job_results.test_total, 0) AS test_accuracy,
    job_results.test_loss,
    job_results.validation_correct,
    job_results.validation_total,
    CAST(job_results.validation_correct AS DOUBLE PRECISION) / nullif(job_results.validation_total, 0)
        AS validation_accuracy,
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
        for column, check in RESULT_CHECKS:
            for statement in checks.triggers("job_results", column, check, "sqlite"):
                op.get_bind().exec_driver_sql(statement)
        _create_images()
        op.execute("INSERT INTO result_images SELECT * FROM kept_images")
        op.drop_table("kept_images")
    op.get_bind().exec_driver_sql(view.safe_statement(VIEW, op.get_bind().dialect.name))


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
