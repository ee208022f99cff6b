"""The comparison of an experiment and its charts, kept until one of the experiment's jobs changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any, Generic, TypeVar

from mlpq.analysis.grouping import parse_by
from mlpq.analysis.metrics import Metric, metric
from mlpq.errors import MlpqError, NotFoundError, SpecError
from mlpq.experiment import load
from mlpq.report.charts import curves_so_far, job_charts, named_charts
from mlpq.report.drawing import Chart, svg
from mlpq.report.html_report import answer
from mlpq.store import dashboard_queries, queries
from mlpq.store.session import Store

# What a page waits for at worst: about ten seconds, once, on one core.
JOBS_AT_MOST = 1000
PAIRS_AT_MOST = 200
EPOCHS_AT_MOST = 50_000  # of all its jobs, for learning curves
WAITING_AT_MOST = 8  # for something to be made: the others must not be kept from what is there
ANSWERS_KEPT = 8
PICTURES_KEPT = 48
LABEL_ROOM = 60  # pixels

Row = Mapping[str, Any]
Value = TypeVar("Value")


class BusyError(MlpqError):
    """More is asked for at once than can be made."""


@dataclass(frozen=True)
class Question:
    """How an experiment is to be compared, as it was typed: the options of `mlpq compare`."""

    by: str = ""
    metric: str = "accuracy"
    target: str = ""
    against: str = ""

    def given(self) -> dict[str, str]:
        """The options that are not left out, for a URL."""
        return {name: value for name, value in vars(self).items() if value and (name, value) != ("metric", "accuracy")}

    def parsed_metric(self) -> Metric:
        """Raises SpecError."""
        try:
            return metric(self.metric, float(self.target.replace(",", ".")) if self.target else None)
        except ValueError:
            raise SpecError(f"the target '{self.target}' is no number: type percent, as 85") from None


@dataclass(frozen=True)
class Answer:
    """`parts` for the report's templates `answer.html` and `figures.html`, and the charts by name."""

    parts: Mapping[str, Any]
    charts: Mapping[str, Chart]


class Kept(Generic[Value]):
    """The latest values that were made, at most so many. One is made at a time: others who want it wait for it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._changing, self._making = Lock(), Lock()
        self._places = BoundedSemaphore(WAITING_AT_MOST)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made where it is not there. Raises BusyError where too many wait for one."""
        found = self._known(key)
        if found is not None:
            return found
        if not self._places.acquire(blocking=False):
            raise BusyError("too many different comparisons are asked for at once: try again in a moment")
        try:
            with self._making:
                found = self._known(key)
                return self._keep(key, make()) if found is None else found
        finally:
            self._places.release()

    def _keep(self, key: Hashable, value: Value) -> Value:
        with self._changing:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

    def _known(self, key: Hashable) -> Value | None:
        with self._changing:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)


class Comparisons:
    """Comparisons, and charts as SVG."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: Kept[Answer] = Kept(ANSWERS_KEPT)
        self._pictures: Kept[str] = Kept(PICTURES_KEPT)

    def answer(self, experiment: Row, history: str, question: Question) -> Answer:
        """Of an experiment with a result and at most JOBS_AT_MOST jobs, as of `overview.history`. Raises SpecError.

        `experiment` is what `overview.experiment` found.
        """
        chosen, by = question.parsed_metric(), parse_by(question.by)

        def make() -> Answer:
            few = dashboard_queries.epochs_of_results(self._store, experiment["id"]) <= EPOCHS_AT_MOST
            if chosen.needs_curves and not few:
                raise SpecError(f"more than {EPOCHS_AT_MOST:,} epochs are not compared here: mlpq compare does it")
            compared = load(self._store, experiment["name"], chosen, by, question.against or None, few, PAIRS_AT_MOST)
            return Answer(answer(compared), named_charts(compared))

        return self._answers.get((history, question), make)

    def picture(self, experiment: str, question: Question, name: str) -> tuple[str, str]:
        """The chart of that name as SVG, and what it is a picture of: another word once it has changed.

        Raises NotFoundError where these jobs allow no such chart, SpecError.
        """
        found = dashboard_queries.experiment(self._store, experiment)
        counts = dashboard_queries.counts(self._store, [found["id"]])[found["id"]]
        history = dashboard_queries.history(self._store, found["id"]) if is_compared(counts) else ""
        charts = self.answer(found, history, question).charts if history else {}
        return self._drawn((history, question, name), charts, name), history

    def training_now(self, experiment: str, question: Question) -> tuple[str, str]:
        """The curves of an experiment's jobs so far, as `picture`; raises NotFoundError where there are none."""
        found = dashboard_queries.experiment(self._store, experiment)
        epochs = epochs_now(self._store, found["id"])
        if epochs is None:
            raise NotFoundError("these jobs have too many epochs to be drawn")
        state = f"{dashboard_queries.history(self._store, found['id'])} {epochs}"
        chosen, by = question.parsed_metric(), parse_by(question.by)

        def make() -> str:
            rows = queries.job_rows(self._store, experiment, limit=JOBS_AT_MOST)
            chart = curves_so_far(rows, by, queries.curves(self._store, experiment), chosen)
            if chart is None:
                raise NotFoundError("no job of this experiment has an epoch behind it")
            return svg(chart)

        return self._pictures.get((state, question, "now"), make), state

    def job_picture(self, job: str, name: str) -> tuple[str, str]:
        """A chart of one job, as `picture`; `job` is a whole id."""
        curve = queries.curve(self._store, job)
        state = f"{len(curve)} {curve[-1]['train_loss'] if curve else ''}"
        return self._drawn((job, state, name), job_charts(curve), name), state

    def _drawn(self, key: Hashable, charts: Mapping[str, Chart], name: str) -> str:
        if name not in charts:
            raise NotFoundError(f"there is no chart '{name}' of these jobs")
        # A picture in a page is cut at its edge, so long labels must not rely on the fonts that a reader has.
        return self._pictures.get(key, lambda: svg(charts[name], LABEL_ROOM if name == "differences" else 0))


def epochs_now(store: Store, experiment_id: int) -> int | None:
    """How many epochs the attempts that run have behind them; None where there are too many jobs or epochs in all for
    the curves to be drawn while they train."""
    counts = dashboard_queries.counts(store, [experiment_id])[experiment_id]
    if sum(counts.values()) > JOBS_AT_MOST:
        return None
    running = dashboard_queries.epochs_of_running(store, experiment_id)
    return running if running + dashboard_queries.epochs_of_results(store, experiment_id) <= EPOCHS_AT_MOST else None


def is_compared(counts: Mapping[str, int]) -> bool:
    """Whether a page compares an experiment with so many jobs in each state."""
    return counts.get("succeeded", 0) > 0 and sum(counts.values()) <= JOBS_AT_MOST
