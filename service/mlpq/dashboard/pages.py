"""The content of each page, from the database."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from mlpq import formatting
from mlpq.analysis.grouping import FIELDS
from mlpq.analysis.metrics import NAMES
from mlpq.analysis.params import ComparisonParams
from mlpq.dashboard.comparisons import MAX_JOBS, Comparisons, epochs_of_running, is_compared
from mlpq.errors import SpecError, nearest
from mlpq.jobs import FINISHED, Status
from mlpq.records import AnyJob, EpochMetrics, ExperimentRecord, JobRecord, WaitingJobs
from mlpq.report.charts import CHART_TITLES, CURVES_SO_FAR_TITLE, JOB_CHART_TITLES
from mlpq.report.grades import notes_on
from mlpq.report.job_details import attempts_table, curve_table, facts_of
from mlpq.report.tables import job_settings, results_cells
from mlpq.store import dashboard_queries, queries, worker_queries
from mlpq.store.session import Store
from mlpq.worker_records import WorkerRecord

Content = dict[str, Any]  # the variables of a template

EXPERIMENTS_PER_PAGE = 50
JOBS_PER_PAGE = 50
EPOCHS_PER_PAGE = 200  # in the table; the charts show all
ERROR_CHARACTERS = 120  # of an error in a table of jobs; the job's page shows all


@dataclass(frozen=True, slots=True)
class Progress:
    """The jobs of an experiment by status; `bar` has for each status its count, and its start and width in percent."""

    bar: Sequence[tuple[Status, int, float, float]]
    total: int
    finished: int

    @property
    def unfinished(self) -> int:
        return self.total - self.finished


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line about queued jobs; `has_worker` says whether a live worker can run them."""

    text: str
    has_worker: bool


@dataclass(frozen=True, slots=True)
class ExperimentLine:
    """An experiment in the list of experiments."""

    id: int
    name: str
    url: str
    owner: str
    created_at: datetime
    progress: Progress
    waiting: Sequence[Waiting]


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in the table of an experiment's jobs, as text; `epochs` of a running job are those so far."""

    id: str
    short: str
    status: Status
    status_text: str
    percent: str
    optimizer: str
    seed: str
    epochs: str
    correct: str
    time: str
    model: str
    error: str


@dataclass(frozen=True, slots=True)
class ChartLink:
    """A chart as an image of a page."""

    name: str
    url: str
    alt: str


def experiments(store: Store, before: int | None) -> Content:
    """The latest experiments, or those before the one with that id; and the workers in one line."""
    found = dashboard_queries.experiments_page(store, before, EXPERIMENTS_PER_PAGE + 1)
    shown = found[:EXPERIMENTS_PER_PAGE]
    ids = [each.id for each in shown]
    counts, waiting = dashboard_queries.counts(store, ids), dashboard_queries.waiting(store, ids)
    alive = worker_queries.live_workers(store)
    lines = [
        ExperimentLine(
            each.id, each.name, experiment_url(each.name), each.owner or "", each.created_at,
            _progress(counts[each.id]), _waiting(waiting[each.id], alive),
        )
        for each in shown
    ]  # fmt: skip
    return {
        "live": True,
        "experiments": lines,
        "workers": _workers_summary(alive),
        "is_first_page": before is None,
        "older": shown[-1].id if len(found) > len(shown) else None,
    }


def experiment(
    store: Store, comparisons: Comparisons, name: str, params: ComparisonParams, status: str, after: int
) -> tuple[Content, int]:
    """One experiment, and the HTTP status: 400 for parameters with which it can't be compared or listed.

    Raises NotFoundError where there is no experiment of that name.
    """
    found = dashboard_queries.experiment(store, name)
    counts = dashboard_queries.counts(store, [found.id])[found.id]
    progress = _progress(counts)
    waiting = dashboard_queries.waiting(store, [found.id])[found.id]
    content = {
        "live": progress.unfinished > 0,
        "name": name,
        "created_at": found.created_at,
        "url": experiment_url(name),
        "command": f"mlpq compare {shlex.quote(name)}",
        "params": params,
        "metrics": NAMES,
        "fields": FIELDS,
        "progress": progress,
        "waiting": _waiting(waiting, worker_queries.live_workers(store)),
        "comparison": None,
        "charts": [],
        "problem": "",
        "max_jobs": MAX_JOBS,
        "jobs_per_page": JOBS_PER_PAGE,
        "running_charts": _chart_of_running(store, found, params) if counts.get(Status.RUNNING) else [],
        **_jobs(store, found, params, status, after),
    }
    if is_compared(counts):
        history = dashboard_queries.history_token(store, found.id)
        try:
            rendered = comparisons.comparison(found, history, params)
        except SpecError as error:
            return {**content, "problem": str(error)}, 400 if params.given() else 200
        content["comparison"], content["has_curves"] = rendered.text, "curves" in rendered.charts
        # Between two rounds of a race no job is unfinished.
        content["live"] = progress.unfinished > 0 or not all(each.is_over for each in rendered.text.questions)
        # `of` is not read: it changes the URL when the charts change, so that the browser loads them again.
        query = urlencode({"experiment": name, **params.given(), "of": history})
        content["charts"] = [
            ChartLink(chart, f"/charts/{chart}.svg?{query}", CHART_TITLES[chart]) for chart in rendered.charts
        ]
    return content, 400 if content["bad_status"] else 200


def _chart_of_running(store: Store, found: ExperimentRecord, params: ComparisonParams) -> list[ChartLink]:
    """The chart of the jobs that train now; empty where there is nothing to draw."""
    epochs = epochs_of_running(store, found.id)
    if not epochs:
        return []
    given = {name: value for name, value in params.given().items() if name != "against"}
    url = f"/charts/now.svg?{urlencode({'experiment': found.name, **given, 'of': epochs})}"
    return [ChartLink("now", url, CURVES_SO_FAR_TITLE)]


def _jobs(store: Store, found: ExperimentRecord, params: ComparisonParams, status: str, after: int) -> Content:
    """A page of the table of jobs: those after the job with the `seq` `after`."""
    is_known = status in set(Status)
    statuses = [Status(status)] if is_known else list(Status)
    page = dashboard_queries.jobs_page(store, found.id, statuses, after, JOBS_PER_PAGE + 1)
    shown = page[:JOBS_PER_PAGE]
    running = [job.id for _, job in shown if job.status is Status.RUNNING]
    latest = dashboard_queries.latest_epochs(store, running) if running else {}
    chosen = {"status": status} if is_known else {}

    def address(**more: object) -> str:
        return f"{experiment_url(found.name)}?{urlencode({**params.given(), **more})}#jobs"

    settings = job_settings([job for _, job in shown], shown=("epochs",))
    return {
        "jobs": [_job_line(job, own, latest.get(job.id)) for (_, job), own in zip(shown, settings, strict=True)],
        "status": status if is_known else "",
        "statuses": [("", address()), *((str(each), address(status=each)) for each in Status)],
        "bad_status": "" if is_known or not status else f"unknown status '{status}'{nearest(status, Status)}",
        "first_jobs": address(**chosen) if after else "",
        "next_jobs": address(**chosen, after=shown[-1][0]) if len(page) > len(shown) else "",
    }


def _job_line(job: AnyJob, settings: str, latest: EpochMetrics | None) -> JobLine:
    short, model, optimizer, seed, epochs, correct, percent, time = results_cells(job)
    error = " ".join((job.error or "").split())
    if isinstance(job, JobRecord) and job.status is Status.RUNNING:
        epochs = f"{latest.epoch if latest else 0} of {job.spec.epochs}"
    return JobLine(
        id=job.id, short=short, status=job.status, status_text=formatting.status(job), percent=percent,
        optimizer=optimizer, seed=seed, epochs=epochs, correct=correct,
        time=time if job.status is Status.SUCCEEDED else "",
        model=f"{model}, {settings}" if settings else model,
        error=error if len(error) <= ERROR_CHARACTERS else f"{error[:ERROR_CHARACTERS]}…",
    )  # fmt: skip


def job(store: Store, prefix: str) -> Content:
    """One job, found by the first digits of its id; raises NotFoundError."""
    (found,) = queries.listed_by_id(store, [queries.find_job(store, prefix)])
    curve, attempts = queries.curve(store, found.id), queries.attempts_of(store, found.id)
    version = f"{attempts[-1].attempt if attempts else 0}.{len(curve)}"  # changes the URL when the charts change
    titles = JOB_CHART_TITLES if curve else {}
    return {
        "live": not found.status.is_finished,
        "job": found,
        "status_text": formatting.status(found),
        "short": formatting.short_id(found.id),
        "title": _title(found),
        "parent": found.parent_id if isinstance(found, JobRecord) else None,
        "epochs": found.spec.epochs if isinstance(found, JobRecord) else "?",
        "experiment_url": experiment_url(found.experiment),
        "facts": facts_of(found),
        "charts": [ChartLink(name, f"/jobs/{found.id}/{name}.svg?of={version}", alt) for name, alt in titles.items()],
        "epoch": curve[-1].epoch if curve else 0,
        "curve": curve_table(curve[-EPOCHS_PER_PAGE:]),
        "left_out": max(0, len(curve) - EPOCHS_PER_PAGE),
        "attempts": attempts_table(attempts),
        "logs": [(attempt.attempt, attempt.worker, attempt.log_tail) for attempt in attempts],
        "environment": _known(attempts[-1].environment or {}) if attempts else {},
        "verifications": [
            (each, formatting.grade_text(each.grade), notes_on(each))
            for each in queries.verifications_of(store, found.id)
        ],
    }


def _title(job: AnyJob) -> str:
    if not isinstance(job, JobRecord):
        return job.description
    return f"{formatting.model(job.spec)}, {formatting.optimizer(job.spec)}, seed {job.spec.seed}"


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def workers(store: Store) -> Content:
    """The live workers, and the queued jobs that none of them can run."""
    alive = worker_queries.live_workers(store)
    waiting = [formatting.jobs_without_worker(each) for each in worker_queries.jobs_without_worker(store)]
    return {"live": True, "alive": alive, "summary": _workers_summary(alive), "without_worker": waiting}


def experiment_url(name: str) -> str:
    """The path of an experiment's page; names may contain any printable character."""
    return f"/experiments/{quote(name, safe='')}"


def _progress(counts: Mapping[Status, int]) -> Progress:
    total = sum(counts.values())
    bar, start = [], 0.0
    for status, count in sorted(counts.items(), key=lambda item: item[0] not in FINISHED):
        bar.append((status, count, round(start, 3), round(100 * count / total, 3)))
        start += 100 * count / total
    return Progress(bar, total, sum(count for status, count in counts.items() if status in FINISHED))


def _waiting(waiting: Sequence[WaitingJobs], alive: Sequence[WorkerRecord]) -> list[Waiting]:
    found = []
    for each in waiting:
        without_worker = worker_queries.lacking(each, alive)
        ranks = f" with {each.world_size} processes" if each.world_size else ""
        device = "any device" if each.device == "auto" else each.device
        text = (
            f"{formatting.count_of(each.jobs, 'job')} for {device}{ranks}"
            if without_worker is None
            else formatting.jobs_without_worker(without_worker)
        )
        found.append(Waiting(text, without_worker is None))
    return found


def _workers_summary(alive: Sequence[WorkerRecord]) -> str:
    """ "3 workers alive (2 cpu, 1 cuda), 128 jobs running"."""
    if not alive:
        return "no worker is alive: mlpq worker starts one"
    devices = [worker.device for worker in alive]
    each = ", ".join(f"{devices.count(device)} {device}" for device in sorted(set(devices)))
    running = formatting.count_of(sum(worker.jobs_running for worker in alive), "job")
    return f"{formatting.count_of(len(alive), 'worker')} alive ({each}), {running} running"
