"""The metrics for Prometheus. All are read from the database, so every dashboard reports the same."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mlpq.jobs import Outcome
from mlpq.store import monitoring, worker_queries
from mlpq.store.session import Store
from mlpq.text import printable

__all__ = ["CONTENT_TYPE", "metrics"]

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)  # bounds of the histogram


def metrics(store: Store) -> bytes:
    """The state of the queue and its workers in Prometheus' text format. Raises StoreError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(store))
    return printable(generate_latest(registry).decode()).encode()


class _Reader(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        yield from _jobs(self._store)
        yield from _attempts(self._store)
        yield _seconds(self._store)
        yield from _workers(self._store)


def _jobs(store: Store) -> Iterator[Metric]:
    count = GaugeMetricFamily("mlpq_jobs", "Jobs by status and requested device.", labels=["status", "device"])
    for status, device, number in monitoring.jobs_by_status_and_device(store):
        count.add_metric([status, device], number)
    yield count
    without_worker = GaugeMetricFamily(
        "mlpq_jobs_without_worker", "Queued jobs that no live worker can run.", labels=["device", "world_size"]
    )
    for each in worker_queries.jobs_without_worker(store):
        without_worker.add_metric([each.device, str(each.world_size or "auto")], each.jobs)
    yield without_worker


def _attempts(store: Store) -> Iterator[Metric]:
    found = monitoring.attempts_by_outcome_and_device(store)
    running = GaugeMetricFamily("mlpq_attempts_running", "Running attempts, by device.", labels=["device"])
    ended = CounterMetricFamily("mlpq_attempts", "Ended attempts, by outcome and device.", labels=["outcome", "device"])
    for outcome, device, number in found:
        if outcome is None:
            running.add_metric([device], number)
        else:
            ended.add_metric([outcome, device], number)
    yield running
    yield ended
    expired = sum(number for outcome, _, number in found if outcome is Outcome.LOST)
    yield CounterMetricFamily(
        "mlpq_lease_expiries", "Expired leases: the worker stopped sending heartbeats.", value=expired
    )
    yield CounterMetricFamily(
        "mlpq_fence_rejections",
        "Writes of workers that were rejected because their attempt had lost its lease.",
        value=monitoring.fence_rejections(store),
    )


def _seconds(store: Store) -> Metric:
    seconds = HistogramMetricFamily(
        "mlpq_job_seconds",
        "Training seconds of jobs with a result, by device; an equal share for each job of a gang.",
        labels=["device"],
    )
    for device, within, count, total in monitoring.training_seconds(store, SECONDS):
        buckets = [(str(float(bound)), float(number)) for bound, number in zip(SECONDS, within, strict=True)]
        seconds.add_metric([device], [*buckets, ("+Inf", float(count))], total)
    return seconds


def _workers(store: Store) -> Iterator[Metric]:
    labels = ["worker", "device"]
    age = GaugeMetricFamily(
        "mlpq_worker_beat_age_seconds", "Seconds since a live worker's last heartbeat.", labels=labels
    )
    running = GaugeMetricFamily("mlpq_worker_jobs_running", "Jobs that a live worker runs.", labels=labels)
    done = CounterMetricFamily("mlpq_worker_jobs_done", "Results that a live worker has recorded.", labels=labels)
    alive: dict[str, int] = {}
    for worker in worker_queries.live_workers(store):
        names = [worker.name, worker.device]
        age.add_metric(names, (worker.now - worker.beat_at).total_seconds())
        running.add_metric(names, worker.jobs_running)
        done.add_metric(names, worker.jobs_done)
        alive[worker.device] = alive.get(worker.device, 0) + 1
    count = GaugeMetricFamily("mlpq_workers", "Live workers, by device.", labels=["device"])
    for device, number in alive.items():
        count.add_metric([device], number)
    yield from (count, age, running, done)
