"""A comparison over several problems as tables for the terminal, as Markdown, as JSON and as a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair
from altair import Data, Scale, X, Y
from rich.console import Console

from mlpq.analysis.fairness import notes
from mlpq.analysis.problems import LARGEST_RATIO, Problem, ProblemsComparison
from mlpq.analysis.verdicts import FIXED_N, p_text
from mlpq.report.comparison_tables import sides_table, to_document, verdict_lines
from mlpq.report.drawing import PAGE, Chart, colors, titled
from mlpq.report.markup import Markup, document
from mlpq.report.tables import Cells, print_tables

RANK_HEADINGS = ("arm", ">mean rank", ">ranks", ">ratios to the best", ">profile score")
PAIR_HEADINGS = ("A − B, by problem", ">n", ">ranks better", ">p (Holm)")
PROFILE_TITLE = "Performance profiles"


def print_problems(out: Console, found: ProblemsComparison) -> None:
    """Print the notes, arms and verdicts of each problem, then the ranks, the tests and the verdict over all."""
    for problem in found.problems:
        out.print(problem.name, markup=False, style="bold")
        for note in notes(problem.comparison):
            out.print(f"! {note}", markup=False)
        print_tables(out, [sides_table(problem.comparison)])
        out.print()
        for line in _lines(problem):
            out.print(line, markup=False)
        out.print()
    for line in _left_out(found):
        out.print(f"! {line}", markup=False)
    print_tables(out, [ranks_table(found), pairs_table(found)])
    out.print(f"\n{found.verdict}", markup=False)
    out.print(f"\n{methods(found)}", markup=False, style="dim")


def problems_markup(found: ProblemsComparison, markup: Markup) -> str:
    """The same as Markdown or LaTeX."""
    parts = []
    for problem in found.problems:
        parts += [markup.heading(problem.name), markup.notes(notes(problem.comparison))]
        parts += [markup.table(*sides_table(problem.comparison)), markup.items(_lines(problem))]
    parts += [markup.heading("Over all problems"), markup.notes(_left_out(found)), markup.table(*ranks_table(found))]
    return document(
        [*parts, markup.table(*pairs_table(found)), markup.items([found.verdict]), markup.text(methods(found))]
    )


def problems_document(found: ProblemsComparison) -> dict[str, Any]:
    """All of it as JSON; infinite ratios, of targets that were never reached, are null."""
    return {
        "problems": [{"problem": each.name, **to_document(each.comparison, [])} for each in found.problems],
        "arms": [
            {
                "arm": arm.label, "mean_rank": arm.mean_rank, "ranks": arm.ranks,
                "ratios": [ratio if math.isfinite(ratio) else None for ratio in arm.ratios],
                "profile_score": arm.score,
            }
            for arm in found.arms
        ],
        "pairs": [
            {
                "a": pair.a.label, "b": pair.b.label, "n": len(found.problems), "rank_difference": pair.difference,
                "p": pair.p, "p_holm": pair.p_adjusted,
            }
            for pair in found.pairs
        ],
        "left_out": found.left_out,
        "verdict": found.verdict,
        "methods": methods(found),
    }  # fmt: skip


def methods(found: ProblemsComparison) -> str:
    """How the figures over all problems are computed, in a few sentences."""
    costs = "error rates (100 % − accuracy)" if found.metric.higher_is_better else found.metric.phrase
    return (
        "Each problem has one vote. Ranks are by the mean over the seeds, 1 for the best. p is that of the two-sided "
        f"sign-flip test of the differences of two arms' ranks over the problems, with Holm's correction, {FIXED_N}. "
        f"Ratios are of {costs}, to the best arm of the problem; the profile score is the mean share of problems "
        f"within a ratio, over ratios from 1 to {LARGEST_RATIO:g} (Dolan and Moré; AlgoPerf)."
    )


def profiles(found: ProblemsComparison) -> Chart:
    """Performance profiles: for each ratio on which share of the problems an arm is within it of the best one."""
    ends = sorted({min(ratio, LARGEST_RATIO) for arm in found.arms for ratio in arm.ratios} | {1.0, LARGEST_RATIO})
    points = [{"arm": arm.label, "ratio": end, "share": arm.profile(end)} for arm in found.arms for end in ends]
    labels = [arm.label for arm in found.arms]
    color, dash = colors(labels, labels)
    x = X("ratio:Q", title="ratio to the best arm of each problem", scale=Scale(domain=[1, LARGEST_RATIO], nice=False))
    y = Y("share:Q", title="share of the problems", scale=Scale(domain=[0, 1]))
    drawn = altair.Chart(Data(values=points)).mark_line(interpolate="step-after")
    caption = f"{len(found.problems)} problems, by {found.metric.phrase}. Higher and further left is better."
    return titled(drawn.encode(x, y, color, dash), PROFILE_TITLE, caption, PAGE.height)


def _lines(problem: Problem) -> list[str]:
    return verdict_lines(problem.comparison)


def _left_out(found: ProblemsComparison) -> list[str]:
    return [f"{label}: left out of the ranking, it has no figures in some problem" for label in found.left_out]


def ranks_table(found: ProblemsComparison) -> Cells:
    """One line per arm: its ranks and ratios on the problems, in their order."""
    return RANK_HEADINGS, [
        [arm.label, f"{arm.mean_rank:.2f}", _numbers(arm.ranks, "g"), _numbers(arm.ratios, ".2f"), f"{arm.score:.2f}"]
        for arm in found.arms
    ]


def pairs_table(found: ProblemsComparison) -> Cells:
    """One line per pair of arms."""
    n = str(len(found.problems))
    return PAIR_HEADINGS, [
        [f"{pair.a.label} − {pair.b.label}", n, f"{pair.difference:.2f}", p_text(pair.p_adjusted)]
        for pair in found.pairs
    ]


def _numbers(values: Sequence[float], format_: str) -> str:
    return " ".join(format(value, format_) if math.isfinite(value) else "∞" for value in values)
