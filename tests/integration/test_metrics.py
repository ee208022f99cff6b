"""Metrics of a known database, parsed as Prometheus does. On both databases."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from mlpq.dashboard.metrics import metrics
from mlpq.store import execution
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from tests.support.filled_database import ANN, BOB, fill
from tests.support.job_steps import claim_one, heartbeat, let_lease_expire, spec, submit

Labels = tuple[str, ...]


def scraped(store: Store) -> dict[str, dict[Labels, float]]:
    """Samples by name, and by the values of their labels."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(metrics(store).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_empty_database_can_be_scraped(store: Store) -> None:
    found = scraped(store)
    assert found == {"mlpq_lease_expiries_total": {(): 0}, "mlpq_fence_rejections_total": {(): 0}}


def test_jobs_attempts_and_seconds_match_the_tables(store: Store) -> None:
    fill(store)
    found = scraped(store)
    # 40 of the sweep, 2 of "again", 1 that was lost once, and 2 of which one continues from the other.
    assert found["mlpq_jobs"] == {("auto", "succeeded"): 45, ("auto", "failed"): 2, ("auto", "queued"): 1}
    assert found["mlpq_attempts_total"] == {
        ("cpu", "succeeded"): 45, ("cpu", "diverged"): 1, ("cpu", "lost"): 1, ("cpu", "failed"): 2,
    }  # fmt: skip
    assert found["mlpq_lease_expiries_total"] == {(): 1}
    assert "mlpq_attempts_running" not in found
    buckets = found["mlpq_job_seconds_bucket"]
    # 24 jobs of 1 s, one of 1.25 s and 20 of 1.75 s.
    assert [buckets["cpu", bound] for bound in ("0.3", "1.0", "3.0", "+Inf")] == [0, 24, 45, 45]
    assert found["mlpq_job_seconds_count"] == {("cpu",): 45}
    assert found["mlpq_job_seconds_sum"] == {("cpu",): 60.25}
    assert found["mlpq_workers"] == {("cpu",): 2}
    assert {ANN, BOB} == {name for _, name in found["mlpq_worker_jobs_done_total"]}
    assert all(0 <= age < 60 for age in found["mlpq_worker_beat_age_seconds"].values())


def test_waiting_jobs_expired_leases_and_rejected_writes_are_counted(store: Store) -> None:
    execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cpu"))
    (job,) = submit(store, spec())
    claimed = claim_one(store, "ann:1:a")
    submit(store, spec(seeds=1), device="cuda")
    found = scraped(store)
    assert found["mlpq_worker_jobs_running"] == {("cpu", "ann:1:a"): 1}
    assert found["mlpq_attempts_running"] == {("cpu",): 1}
    assert found["mlpq_jobs_without_worker"] == {("cuda", "auto"): 1}

    let_lease_expire(store, job)
    execution.requeue_expired(store)
    assert heartbeat(store, claimed) is None
    found = scraped(store)
    assert (found["mlpq_lease_expiries_total"], found["mlpq_fence_rejections_total"]) == ({(): 1}, {(): 1})
    assert "mlpq_attempts_running" not in found
