"""Checks of what is written from now on, and a view that odd values in older rows can't break.

The checks are triggers, and the same on both databases. They look at the columns that a statement sets, so rows that
violate them already stay as they are, and can still change in other columns: a worker can fail such a job. A CHECK
constraint, even one that is NOT VALID, would refuse every update of such a row, and with it each claim.
"""

from alembic import op

from mlpq_migrations import checks, view

revision = "0009"
down_revision = "0008"

CHECKS = (
    ("experiments", "name", checks.PRINTABLE),
    ("jobs", "id", checks.UUID),
    ("jobs", "spec", checks.SPEC),
    ("jobs", "spec_hash", checks.SHA256),
    ("jobs", "worker", checks.PRINTABLE),
    ("jobs", "world_size", checks.POSITIVE),
    ("attempts", "worker", checks.PRINTABLE),
    ("job_results", "weights_sha256", checks.SHA256),
    ("job_results", "test_total", checks.POSITIVE),
    ("environments", "fingerprint", checks.SHA256),
    ("workers", "name", checks.WORKER_NAME),
    ("workers", "most_ranks", checks.POSITIVE),
    ("workers", "world_size", checks.POSITIVE),
)

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
    jobs.error
FROM jobs
JOIN experiments ON experiments.id = jobs.experiment_id
LEFT JOIN attempts ON attempts.job_id = jobs.id AND attempts.attempt = jobs.attempt
LEFT JOIN job_results ON job_results.job_id = jobs.id
"""


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    statements = ["DROP VIEW results", view.safe_statement(VIEW, dialect)]
    if dialect == "postgresql":
        statements.append(checks.FUNCTION)
    for table, column, check in CHECKS:
        statements += checks.triggers(table, column, check, dialect)
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
