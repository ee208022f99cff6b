"""What each page shows, from the database."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from mlpq import formatting
from mlpq.analysis.grouping import FIELDS
from mlpq.analysis.metrics import NAMES
from mlpq.dashboard.comparing import JOBS_AT_MOST, Comparisons, Question, epochs_now, is_compared
from mlpq.errors import SpecError, nearest
from mlpq.jobs import FINISHED, Status
from mlpq.report.grades import notes_on
from mlpq.report.job_details import attempts_table, curve_table, facts_of
from mlpq.report.tables import results_cells
from mlpq.store import dashboard_queries, queries
from mlpq.store.session import Store
from mlpq.verification.grading import Grade

Row = Mapping[str, Any]
Content = dict[str, Any]

EXPERIMENTS_A_PAGE = 50
JOBS_A_PAGE = 50
EPOCHS_A_PAGE = 200  # in figures; the charts show all
ERROR_CHARACTERS = 120  # of an error in a table of jobs; the job's page has all of it
CHARTS = {
    "curves": "Learning curves: mean and band over the seeds, by epoch",
    "differences": "Paired differences: each seed, their mean and its 95 % interval",
    "rates": "Accuracy against the learning rate",
    "tuning": "Expected accuracy of the best of k settings",
}
JOB_CHARTS = {"loss": "Loss by epoch", "accuracy": "Accuracy by epoch"}


def experiments(store: Store, before: int | None) -> Content:
    """The latest experiments, or those before the one with that id, and who is there to train."""
    rows = dashboard_queries.experiments_page(store, before, EXPERIMENTS_A_PAGE + 1)
    shown = rows[:EXPERIMENTS_A_PAGE]
    ids = [row["id"] for row in shown]
    counts, waiting, alive = (
        dashboard_queries.counts(store, ids),
        dashboard_queries.waiting(store, ids),
        queries.live_workers(store),
    )
    lines = [
        {
            "id": row["id"],
            "name": row["name"],
            "url": experiment_url(row["name"]),
            "created_at": row["created_at"],
            "waiting": _waiting(waiting[row["id"]], alive),
            **_progress(counts[row["id"]]),
        }
        for row in shown
    ]
    return {
        "live": True,
        "experiments": lines,
        "workers": _summary(alive),
        "later": before is not None,
        "earlier": shown[-1]["id"] if len(rows) > len(shown) else None,
    }


def experiment(
    store: Store, comparisons: Comparisons, name: str, question: Question, status: str, after: int
) -> tuple[Content, int]:
    """One experiment, and the HTTP status: 400 where what was asked for can't be compared or listed.

    Raises NotFoundError where there is no experiment of that name.
    """
    found = dashboard_queries.experiment(store, name)
    counts = dashboard_queries.counts(store, [found["id"]])[found["id"]]
    progress = _progress(counts)
    content = {
        "live": progress["unfinished"] > 0,
        "name": name,
        "created_at": found["created_at"],
        "url": experiment_url(name),
        "command": f"mlpq compare {shlex.quote(name)}",
        "question_asked": question,
        "metrics": NAMES,
        "fields": FIELDS,
        "waiting": _waiting(dashboard_queries.waiting(store, [found["id"]])[found["id"]], queries.live_workers(store)),
        "answer": None,
        "charts": [],
        "problem": "",
        "most": JOBS_AT_MOST,
        "now": _now(store, found, question) if counts.get(Status.RUNNING) else [],
        **progress,
        **_jobs(store, found["id"], name, question, status, after),
    }
    if is_compared(counts):
        history = dashboard_queries.history(store, found["id"])
        try:
            answer = comparisons.answer(found, history, question)
        except SpecError as error:
            return {**content, "problem": str(error)}, 400 if question.given() else 200
        content["answer"], content["without_curves"] = answer.parts, "curves" not in answer.charts
        # The last part only makes it another address once there is something new to draw.
        asked = urlencode({"experiment": name, **question.given(), "of": history})
        content["charts"] = [(chart, f"/charts/{chart}.svg?{asked}", CHARTS[chart]) for chart in answer.charts]
    return content, 400 if content["bad_status"] else 200


def _now(store: Store, found: Row, question: Question) -> list[tuple[str, str, str]]:
    """The picture of what trains now, if there is anything to draw."""
    epochs = epochs_now(store, found["id"])
    if not epochs:
        return []
    asked = {name: value for name, value in question.given().items() if name in ("by", "metric")}
    url = f"/charts/now.svg?{urlencode({'experiment': found['name'], **asked, 'of': epochs})}"
    return [("now", url, "Curves of the jobs that train now and of those that are done, by epoch")]


def _jobs(store: Store, experiment_id: int, name: str, question: Question, status: str, after: int) -> Content:
    """The page of the table of jobs behind the one with the `seq` `after`."""
    known = status in set(Status)
    statuses = [status] if known else list(Status)
    rows = dashboard_queries.jobs_page(store, experiment_id, statuses, after, JOBS_A_PAGE + 1)
    shown = rows[:JOBS_A_PAGE]
    running = [row["id"] for row in shown if row["status"] == Status.RUNNING]
    reached = dashboard_queries.latest_epochs(store, running) if running else {}
    chosen = {"status": status} if known else {}

    def address(**more: object) -> str:
        return f"{experiment_url(name)}?{urlencode({**question.given(), **more})}#jobs"

    return {
        "jobs": [_job_line(row, reached.get(row["id"])) for row in shown],
        "status": status if known else "",
        "statuses": [("", address()), *((str(each), address(status=each)) for each in Status)],
        "bad_status": "" if known or not status else f"no job has the status '{status}'{nearest(status, Status)}",
        "first_jobs": address(**chosen) if after else "",
        "more_jobs": address(**chosen, after=shown[-1]["seq"]) if len(rows) > len(shown) else "",
    }


def _job_line(row: Row, reached: Row | None) -> Content:
    short, model, optimizer, seed, epochs, correct, percent, time = results_cells(row)
    error = " ".join((row["error"] or "").split())
    if row["status"] == Status.RUNNING:
        epochs = f"{reached['epoch'] if reached else 0} of {row['epochs']}"
    return {
        "id": row["id"], "short": short, "model": model, "optimizer": optimizer, "seed": seed,
        "status": row["status"], "word": formatting.status(row), "correct": correct, "percent": percent,
        "epochs": epochs,
        "time": time if row["status"] == Status.SUCCEEDED else "",
        "error": error if len(error) <= ERROR_CHARACTERS else f"{error[:ERROR_CHARACTERS]}…",
    }  # fmt: skip


def job(store: Store, prefix: str) -> Content:
    """One job, found by the first digits of its id; raises NotFoundError."""
    found = queries.find_job(store, prefix)
    row = queries.jobs_by_id(store, [found])[0]
    curve, attempts = queries.curve(store, found), queries.attempts_of(store, found)
    charts = JOB_CHARTS if curve else {}
    return {
        "live": row["status"] not in FINISHED,
        "row": row,
        "word": formatting.status(row),
        "short": formatting.short_id(found),
        "title": f"{formatting.model(row)}, {formatting.optimizer(row)}, seed {row['seed']}",
        "experiment_url": experiment_url(row["experiment"]),
        "facts": facts_of(row),
        "charts": [
            (name, f"/jobs/{found}/{name}.svg?of={row['attempt']}.{len(curve)}", alt) for name, alt in charts.items()
        ],
        "epoch": curve[-1]["epoch"] if curve else 0,
        "curve": curve_table(curve[-EPOCHS_A_PAGE:]),
        "left_out": max(0, len(curve) - EPOCHS_A_PAGE),
        "attempts": attempts_table(attempts),
        "logs": [(attempt["attempt"], attempt["worker"], attempt["log_tail"]) for attempt in attempts],
        "environment": _known(attempts[-1]["environment"] or {}) if attempts else {},
        "verifications": [
            {**each, "words": Grade(each["grade"]).words, "notes": notes_on(each)}
            for each in queries.verifications_of(store, found)
        ],
    }


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def workers(store: Store) -> Content:
    """The workers that are alive, and what waits for one that is not."""
    alive = queries.live_workers(store)
    stranded = [
        f"{formatting.count_of(row['jobs'], 'job')} {formatting.waiting_for(row)}" for row in queries.stranded(store)
    ]
    return {"live": True, "alive": alive, "summary": _summary(alive), "stranded": stranded}


def experiment_url(name: str) -> str:
    """Its address; names may hold anything printable."""
    return f"/experiments/{quote(name, safe='')}"


def _progress(counts: Mapping[str, int]) -> Content:
    """Counts by status with the ends of each one's part of a bar, in percent."""
    total = sum(counts.values())
    bar, start = [], 0.0
    for status, count in sorted(counts.items(), key=lambda item: Status(item[0]) not in FINISHED):
        bar.append((status, count, round(start, 3), round(100 * count / total, 3)))
        start += 100 * count / total
    finished = sum(count for status, count in counts.items() if status in FINISHED)
    return {"bar": bar, "total": total, "finished": finished, "unfinished": total - finished}


def _waiting(asked: Sequence[Row], alive: Sequence[Row]) -> list[Content]:
    """What queued jobs wait for, in words, and whether anybody alive could take them."""
    found = []
    for row in asked:
        jobs = formatting.count_of(row["jobs"], "job")
        can_run = any(queries.can_run(worker, row["device"], row["world_size"]) for worker in alive)
        ranks = f" by {row['world_size']} processes" if row["world_size"] else ""
        device = "any device" if row["device"] == "auto" else row["device"]
        text = f"{jobs} for {device}{ranks}" if can_run else f"{jobs} {formatting.waiting_for(row)}"
        found.append({"text": text, "stranded": not can_run})
    return found


def _summary(alive: Sequence[Row]) -> str:
    """ "3 workers alive (2 cpu, 1 cuda), 128 jobs running"."""
    if not alive:
        return "no worker is alive: mlpq worker starts one"
    devices = [row["device"] for row in alive]
    each = ", ".join(f"{devices.count(device)} {device}" for device in sorted(set(devices)))
    running = formatting.count_of(sum(row["jobs_running"] for row in alive), "job")
    return f"{formatting.count_of(len(alive), 'worker')} alive ({each}), {running} running"
