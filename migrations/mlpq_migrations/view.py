"""The view `results`: its text as the first migration made it, which later ones change."""

# The view reads the spec's JSON, so that a spec is stored once. Only the way into the JSON differs between databases.
FIRST = """
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


def statement(template: str, dialect: str) -> str:
    """The statement that creates a view on that database."""

    def text(path: str) -> str:
        if dialect == "postgresql":
            return f"jobs.spec #>> '{{{path}}}'"
        return f"json_extract(jobs.spec, '$.{path.replace(',', '.')}')"

    bare = text("hidden")
    for character in "[] ":
        bare = f"replace({bare}, '{character}', '')"
    made = template.replace("{hidden}", f"CASE {bare} WHEN '' THEN 'none' ELSE {bare} END")
    while "{text:" in made:
        before, _, rest = made.partition("{text:")
        path, _, after = rest.partition("}")
        made = f"{before}{text(path)}{after}"
    return made
