"""Comparisons of the arms of an experiment, and of several. Modules that draw load Altair, and are imported late."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from rich.console import Console

from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.fairness import notes
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.problems import ProblemsComparison as FoundProblems
from mlpq.experiment import compare_experiment, compare_experiments
from mlpq.lab.exports import report_page
from mlpq.lab.files import write
from mlpq.lab.frames import frame
from mlpq.lab.keys import ComparisonKeys, params_of
from mlpq.lab.pictures import Picture
from mlpq.lab.session import LabSession
from mlpq.report import comparison_tables, race_tables
from mlpq.report.markup import MARKUPS
from mlpq.report.notebook import Output, html, text

if TYPE_CHECKING:
    import pandas as pd

ARM_COLUMNS = ("arm", "n", "mean", "sd", "low", "high", "best", "worst", "diverged", "train_seconds")
PAIR_COLUMNS = ("a", "b", "n", "difference", "low", "high", "p", "p_anytime", "a_better", "verdict")
RANK_COLUMNS = ("arm", "mean_rank", "profile_score")
RANK_PAIR_COLUMNS = ("a", "b", "n", "difference", "p")


class Comparison:
    """The arms of an experiment, compared by one metric and paired by seed, as `mlpq compare` does.

    It is a finding about the results that were there: call `Lab.compare` again for later ones. In a notebook it shows
    the verdict, what could make the comparison unfair, the tables and the charts.
    """

    def __init__(self, session: LabSession, found: ExperimentComparison, params: ComparisonParams) -> None:
        self._session = session
        self._found = found
        self._params = params

    @property
    def experiment(self) -> str:
        """The name of the experiment."""
        return self._found.experiment

    @property
    def verdict(self) -> str:
        """Which arm is better and by how much, or that no difference is detectable; empty for a single arm."""
        return next(iter(self.verdicts), "")

    @property
    def verdicts(self) -> list[str]:
        """The verdict on all arms, then those on the pairs."""
        return comparison_tables.verdict_lines(self._found.comparison)

    @property
    def notes(self) -> list[str]:
        """What could make the comparison unfair, and how settings were chosen."""
        return notes(self._found.comparison)

    @property
    def arms(self) -> pd.DataFrame:
        """One row for each arm, the best first.

        `mean` and `sd` are over its `n` seeds, `low` and `high` the ends of the 95 % interval of the mean.
        """
        return frame([self._arm_row(arm) for arm in self._document["arms"]], ARM_COLUMNS)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of arms, of which `a` is the better one.

        `difference` is the mean of a − b over the common seeds, `low` and `high` the ends of its interval, and
        `a_better` the share of the seeds on which a is better. `p` and `p_anytime` have Holm's correction; `p` is
        valid only if n was fixed beforehand.
        """
        return frame([_pair_row(pair) for pair in self._document["pairs"]], PAIR_COLUMNS)

    def plot(self, chart: str = "curves", *, style: str | None = None, width: str | None = None) -> Picture:
        """One chart: curves, differences, rates, best-of-k or race.

        It is drawn for a screen, or for print with the `style` "paper" or "slides", then as wide as `width` says, such
        as "3.35in" or "8.5cm". Raises NotFoundError where the results do not allow the chart.
        """
        from mlpq.report.drawing import PAGE
        from mlpq.report.figures import figure, style_of

        drawn_as = PAGE if style is None and width is None else style_of(style or "paper", width)
        return Picture(figure(self._found, chart, drawn_as), f"{chart} of {self.experiment}", drawn_as)

    def to_markdown(self) -> str:
        """The registered questions, verdicts, notes and tables as Markdown."""
        return self._markup("md")

    def to_latex(self) -> str:
        """The same as LaTeX, with tables for the package booktabs."""
        return self._markup("latex")

    def _markup(self, name: str) -> str:
        markup, found = MARKUPS[name], self._found
        parts = [race_tables.question_markup(state, markup) for state in found.questions]
        return "\n\n".join([*parts, comparison_tables.comparison_markup(found.comparison, found.tuned, markup)])

    def report(self, file: str | PathLike[str]) -> Path:
        """Write the comparison as one HTML page, as `mlpq report` does; returns its path."""
        return write(file, report_page(self._session.config, self._session.store, self._found, self._params))

    @cached_property
    def _document(self) -> dict[str, Any]:
        return comparison_tables.to_document(self._found.comparison, self._found.tuned)

    def _arm_row(self, arm: dict[str, Any]) -> dict[str, Any]:
        low, high = arm["interval"] or (None, None)
        values = sorted(arm["values"].values(), reverse=self._found.comparison.metric.higher_is_better)
        best, worst = (values[0], values[-1]) if values else (None, None)
        return {**arm, "low": low, "high": high, "best": best, "worst": worst}

    def __repr__(self) -> str:
        return text(self._print)

    def _print(self, out: Console) -> None:
        for state in self._found.questions:
            race_tables.print_question(out, state)
            out.print()
        comparison_tables.print_comparison(out, self._found.comparison, self._found.tuned)

    def _repr_html_(self) -> str:
        from mlpq.report.charts import CHART_TITLES, named_charts
        from mlpq.report.html_report import comparison_text

        shown = comparison_text(self._found)
        found = [(each.title, (tuple(each.headings), [list(line) for line in each.lines]))
                          for each in shown.tables]  # fmt: skip
        registered = [line for each in shown.questions for line in (f"{each.registered}: {each.state}", *each.verdicts)]
        return html(
            Output(
                shown.question,
                verdicts=shown.verdicts,
                notes=[*registered, *shown.notes],
                tables=found[:2],
                charts=[(CHART_TITLES[name], chart) for name, chart in named_charts(self._found).items()],
                folded=found[2:],
                below=comparison_tables.methods(self._found.comparison),
            )
        )


class ProblemsComparison:
    """The arms of several experiments, ranked on each data set and model, as `mlpq compare --experiments` does."""

    def __init__(self, found: FoundProblems) -> None:
        self._found = found

    @property
    def verdict(self) -> str:
        """Which arms are better over all problems."""
        return self._found.verdict

    @property
    def arms(self) -> pd.DataFrame:
        """One row for each arm, with its mean rank, 1 for the best, and the score of its performance profile."""
        return frame(self._document["arms"], RANK_COLUMNS)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of arms: the mean difference of their ranks over the problems, and Holm's p."""
        return frame([{**pair, "difference": pair["rank_difference"], "p": pair["p_holm"]}
                      for pair in self._document["pairs"]], RANK_PAIR_COLUMNS)  # fmt: skip

    def plot(self) -> Picture:
        """The performance profiles."""
        from mlpq.report import problem_tables
        from mlpq.report.drawing import PAGE

        return Picture(problem_tables.profiles(self._found), problem_tables.PROFILE_TITLE, PAGE)

    def to_markdown(self) -> str:
        """The verdicts, notes and tables as Markdown."""
        from mlpq.report import problem_tables

        return problem_tables.problems_markup(self._found, MARKUPS["md"])

    def to_latex(self) -> str:
        """The same as LaTeX, with tables for the package booktabs."""
        from mlpq.report import problem_tables

        return problem_tables.problems_markup(self._found, MARKUPS["latex"])

    @cached_property
    def _document(self) -> dict[str, Any]:
        from mlpq.report import problem_tables

        return problem_tables.problems_document(self._found)

    def __repr__(self) -> str:
        return text(partial(_print_problems, self._found))

    def _repr_html_(self) -> str:
        from mlpq.report import problem_tables

        found, picture = self._found, self.plot()
        names = [problem.name for problem in found.problems]
        return html(
            Output(
                f"Which arm is best over {', '.join(names)}?",
                verdicts=[found.verdict],
                tables=[("", problem_tables.ranks_table(found))],
                charts=[(picture.title, picture.chart)],
                folded=[("Pairs", problem_tables.pairs_table(found))],
                below=problem_tables.methods(found),
            )
        )


def compared(session: LabSession, experiment: str, **options: Unpack[ComparisonKeys]) -> Comparison:
    """Compare the arms of an experiment; raises NotFoundError and SpecError."""
    params = params_of(**options)
    return Comparison(session, compare_experiment(session.store, experiment, params, with_curves=True), params)


def problems_compared(
    session: LabSession, experiments: Sequence[str], **options: Unpack[ComparisonKeys]
) -> ProblemsComparison:
    """Compare the arms over several experiments; raises NotFoundError and SpecError."""
    return ProblemsComparison(compare_experiments(session.store, experiments, params_of(**options)))


def _pair_row(pair: dict[str, Any]) -> dict[str, Any]:
    low, high = pair.get("simultaneous_interval") or (None, None)
    return {
        **pair, "n": len(pair["seeds"]), "difference": pair.get("difference"), "low": low, "high": high,
        "p": pair.get("p_holm"), "p_anytime": pair["p_anytime_holm"], "a_better": pair.get("superiority"),
    }  # fmt: skip


def _print_problems(found: FoundProblems, out: Console) -> None:
    from mlpq.report import problem_tables

    problem_tables.print_problems(out, found)
