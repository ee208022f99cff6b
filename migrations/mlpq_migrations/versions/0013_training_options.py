"""Schedules, warmup, clipping, smoothing, formulas, own data sets and plug-ins of specs in the view `results`."""

from alembic import op

from mlpq_migrations import view

revision = "0013"
down_revision = "0012"

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
    job_results.arithmetic,
    coalesce({text:schedule}, 'constant') AS schedule,
    coalesce({text:schedule_settings}, '{}') AS schedule_settings,
    coalesce({number:warmup}, 0.0) AS warmup,
    {number:clip_norm} AS clip_norm,
    coalesce({number:label_smoothing}, 0.0) AS label_smoothing,
    {text:formula} AS formula,
    {text:content,sha256} AS data_sha256,
    {text:plugin} AS plugin
FROM jobs
JOIN experiments ON experiments.id = jobs.experiment_id
LEFT JOIN attempts ON attempts.job_id = jobs.id AND attempts.attempt = jobs.attempt
LEFT JOIN job_results ON job_results.job_id = jobs.id
"""


def upgrade() -> None:
    op.execute("DROP VIEW results")
    op.get_bind().exec_driver_sql(view.safe_statement(VIEW, op.get_bind().dialect.name))
