"""The comparison of an experiment and its charts, cached until one of the experiment's jobs changes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.params import ComparisonParams
from mlpq.dashboard.bounded_cache import BoundedCache
from mlpq.errors import NotFoundError, SpecError
from mlpq.experiment import compare_experiment
from mlpq.jobs import Status
from mlpq.records import ExperimentRecord
from mlpq.report.charts import curves_so_far, job_charts, named_chart, named_charts
from mlpq.report.drawing import PAGE, PHONE, Chart, Style, svg
from mlpq.report.html_report import ComparisonText, comparison_text
from mlpq.store import dashboard_queries, queries
from mlpq.store.session import Store

# With these limits the slowest page takes about ten seconds, once, on one core.
MAX_JOBS = 1000
MAX_PAIRS = 200
MAX_EPOCHS = 50_000  # of all jobs of an experiment, for learning curves
CACHED_COMPARISONS = 8
CACHED_CHARTS = 48
LABEL_ROOM = 60  # pixels
SIZES = {"": PAGE, "phone": PHONE}  # of charts, by the parameter of their addresses


@dataclass(frozen=True, slots=True)
class RenderedComparison:
    """What is compared, its text for the report's templates, and the charts of a page by name."""

    compared: ExperimentComparison
    text: ComparisonText
    charts: Mapping[str, Chart]

    def chart(self, name: str, style: Style) -> Chart | None:
        """The chart in that style; None where there is none of that name."""
        page = self.charts.get(name)
        return page if style is PAGE or page is None else named_chart(self.compared, name, style)


class Comparisons:
    """Renders comparisons, and charts as SVG."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._comparisons: BoundedCache[RenderedComparison] = BoundedCache(CACHED_COMPARISONS)
        self._charts: BoundedCache[str] = BoundedCache(CACHED_CHARTS)

    def comparison(self, experiment: ExperimentRecord, history: str, params: ComparisonParams) -> RenderedComparison:
        """The comparison of an experiment for which `is_compared` is true, as of its `history_token`.

        Raises SpecError.
        """
        metric = params.parsed_metric()
        params.parsed_by()  # raises now, before the request waits
        params.parsed_choose_seeds()

        def compute() -> RenderedComparison:
            has_curves = dashboard_queries.epochs_of_results(self._store, experiment.id) <= MAX_EPOCHS
            if metric.needs_curves and not has_curves:
                raise SpecError(f"a page compares at most {MAX_EPOCHS:,} epochs by {metric.name}: use mlpq compare")
            compared = compare_experiment(self._store, experiment.name, params, has_curves, MAX_PAIRS)
            return RenderedComparison(compared, comparison_text(compared), named_charts(compared))

        return self._comparisons.get((history, params), compute)

    def chart(self, experiment: str, params: ComparisonParams, name: str, size: str = "") -> tuple[str, str]:
        """A chart as SVG, and a token that differs after the chart changes.

        Raises SpecError, and NotFoundError where the jobs have no such chart.
        """
        found = dashboard_queries.experiment(self._store, experiment)
        counts = dashboard_queries.counts(self._store, [found.id])[found.id]
        history = dashboard_queries.history_token(self._store, found.id) if is_compared(counts) else ""
        style = style_of(size)
        chart = self.comparison(found, history, params).chart(name, style) if history else None
        return self._svg((history, params, name, size), chart, name, style), history

    def chart_of_running(self, experiment: str, params: ComparisonParams, size: str = "") -> tuple[str, str]:
        """The curves of an experiment's jobs so far as SVG, and its token; raises NotFoundError, SpecError."""
        found = dashboard_queries.experiment(self._store, experiment)
        epochs = epochs_of_running(self._store, found.id)
        if epochs is None:
            raise NotFoundError("these jobs have too many epochs for a chart")
        token = f"{dashboard_queries.history_token(self._store, found.id)} {epochs}"
        metric, by, style = params.parsed_metric(), params.parsed_by(), style_of(size)

        def compute() -> str:
            jobs = queries.job_records(self._store, experiment)
            chart = curves_so_far(jobs, by, queries.curves(self._store, experiment), metric, style)
            if chart is None:
                raise NotFoundError("no job of this experiment has finished an epoch")
            return svg(chart, style=style)

        return self._charts.get((token, params, "running", size), compute), token

    def job_chart(self, job: str, name: str, size: str = "") -> tuple[str, str]:
        """A chart of the job with this id as SVG, and its token."""
        curve = queries.curve(self._store, job)
        token = f"{len(curve)} {curve[-1].train_loss if curve else ''}"
        style = style_of(size)
        return self._svg((job, token, name, size), job_charts(curve, style).get(name), name, style), token

    def _svg(self, key: Hashable, chart: Chart | None, name: str, style: Style) -> str:
        if chart is None:
            raise NotFoundError(f"these jobs have no chart '{name}'")
        # A page crops an image at its edges, and the width of long labels depends on the reader's fonts.
        room = LABEL_ROOM if name == "differences" and style is PAGE else 0
        return self._charts.get(key, lambda: svg(chart, room, style))


def style_of(size: str) -> Style:
    """The style of charts of that size; raises SpecError."""
    if size not in SIZES:
        raise SpecError(f"there are no charts of the size '{size}': leave it out, or choose phone")
    return SIZES[size]


def epochs_of_running(store: Store, experiment_id: int) -> int | None:
    """Number of recorded epochs of running attempts; None where the experiment has too many jobs or epochs for a chart
    of their curves."""
    counts = dashboard_queries.counts(store, [experiment_id])[experiment_id]
    if sum(counts.values()) > MAX_JOBS:
        return None
    running = dashboard_queries.epochs_of_running(store, experiment_id)
    return running if running + dashboard_queries.epochs_of_results(store, experiment_id) <= MAX_EPOCHS else None


def is_compared(counts: Mapping[Status, int]) -> bool:
    """Whether a page compares an experiment with these numbers of jobs by status."""
    return counts.get(Status.SUCCEEDED, 0) > 0 and sum(counts.values()) <= MAX_JOBS
