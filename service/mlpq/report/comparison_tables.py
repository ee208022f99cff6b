"""A comparison as tables for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mlpq import formatting
from mlpq.analysis.best_of_k import NO_SEED, BestOf, counts, label
from mlpq.analysis.comparison import Comparison, Pair, Side
from mlpq.analysis.fairness import notes
from mlpq.analysis.inference import Interval
from mlpq.analysis.metrics import Metric
from mlpq.analysis.verdicts import overall, p_text, verdict
from mlpq.report.tables import Cells, markdown, print_tables

PAIRS_AT_MOST = 15

SIDE_HEADINGS = ("arm", ">n", ">{heading}, mean ± sd", ">95 % interval", ">best", ">worst", ">time")
PAIR_HEADINGS = (
    "A − B, by seed", ">n", ">{unit}", ">95 % bootstrap", ">95 % t", ">p", ">P(A > B)",
)  # fmt: skip
BEST_OF_HEADINGS = ("expected test % of the best of k settings", ">k", ">mean ± sd", ">n")


def print_comparison(out: Console, comparison: Comparison, tuned: Sequence[BestOf]) -> None:
    """Notes, arms, pairs, best of k, verdicts, and how the figures are computed."""
    for note in notes(comparison):
        out.print(f"! {note}", markup=False)
    print_tables(out, _tables(comparison, tuned))
    out.print()
    for line in told(comparison):
        out.print(line, markup=False)
    out.print(f"\n{methods(comparison)}", markup=False, style="dim")


def comparison_markdown(comparison: Comparison, tuned: Sequence[BestOf]) -> str:
    """The same as Markdown."""
    parts = ["\n".join(f"- **Note:** {note}" for note in notes(comparison))]
    parts += [
        markdown([heading.lstrip(">") for heading in headings], cells)
        for headings, cells in _tables(comparison, tuned)
        if cells
    ]
    parts += ["\n".join(f"- {line}" for line in told(comparison)), methods(comparison)]
    return "\n\n".join(part for part in parts if part)


def told(comparison: Comparison) -> list[str]:
    """The verdict on all, those on the pairs that are shown, and how many are not."""
    shown = shown_pairs(comparison)
    lines = [summary] if (summary := overall(comparison)) else []
    lines += [verdict(pair, comparison.metric, comparison.tests) for pair in shown]
    if len(shown) < len(comparison.pairs):
        lines.append(
            f"{formatting.count_of(len(comparison.pairs) - len(shown), 'more pair')} "
            f"without {comparison.sides[0].label}: --format json has them; --against ARM compares with that arm only"
        )
    return lines


def methods(comparison: Comparison) -> str:
    """How the figures are computed, in a sentence or two."""
    holm = f", after Holm's correction for {comparison.tests} comparisons" if comparison.tests > 1 else ""
    return (
        "± is the standard deviation in tables and half of the 95 % t interval in verdicts. The intervals of arms are "
        "Student's t. A pair's difference is that of jobs with the same seed; its intervals are by the studentized "
        "bootstrap and by Student's t, p by the two-sided sign-flip permutation test of the mean difference"
        f"{holm}. Seeds stand in brackets. P(A > B): how often A was better than B, a tie counting a half."
    )


def sides_table(comparison: Comparison) -> Cells:
    """One line an arm."""
    metric = comparison.metric
    return _filled(SIDE_HEADINGS, metric), [side_cells(side, metric) for side in comparison.sides]


def pairs_table(comparison: Comparison) -> Cells:
    """One line a pair of arms."""
    metric = comparison.metric
    return _filled(PAIR_HEADINGS, metric), [pair_cells(pair, metric) for pair in shown_pairs(comparison)]


def best_of_table(tuned: Sequence[BestOf]) -> Cells:
    """For each optimizer with several settings one line for each number of settings that is shown."""
    return BEST_OF_HEADINGS, [cells for each in tuned for cells in best_of_cells(each)]


def _tables(comparison: Comparison, tuned: Sequence[BestOf]) -> list[Cells]:
    return [sides_table(comparison), pairs_table(comparison), best_of_table(tuned)]


def _filled(headings: Sequence[str], metric: Metric) -> tuple[str, ...]:
    return tuple(heading.format(heading=metric.heading, unit=metric.unit) for heading in headings)


def shown_pairs(comparison: Comparison) -> list[Pair]:
    """All pairs, or where each arm is compared with each and they are many, those with the best mean."""
    if len(comparison.pairs) <= max(PAIRS_AT_MOST, len(comparison.sides) - 1):
        return list(comparison.pairs)
    return [pair for pair in comparison.pairs if comparison.sides[0] in (pair.a, pair.b)]


def side_cells(side: Side, metric: Metric) -> list[str]:
    """An arm: n, mean ± sd, interval, best and worst with their seeds, time a job."""
    planned = len(side.values) + len(side.lacking)
    n = str(len(side.values)) if not side.lacking else f"{len(side.values)} of {planned}"
    if side.summary is None:
        return [side.label, n, "", "", "", "", ""]
    ranked = sorted(side.values, key=lambda seed: side.values[seed], reverse=metric.higher_is_better)
    ends = [f"{metric.text(side.values[seed])} ({seed})" for seed in (ranked[0], ranked[-1])]
    spread = "" if side.summary.sd is None else f" ± {metric.text(side.summary.sd)}"
    return [
        side.label, n, f"{metric.text(side.summary.mean)}{spread}", _interval(side.interval, metric), *ends,
        formatting.seconds(side.arm.seconds),
    ]  # fmt: skip


def pair_cells(pair: Pair, metric: Metric) -> list[str]:
    """Two arms: the paired difference with its intervals, p after the correction, P(A better)."""
    found = pair.paired
    label = f"{pair.a.label} − {pair.b.label}"
    if found is None:
        return [label, "0", *[""] * 5]
    return [
        label, str(found.n), metric.signed(found.difference), _interval(found.bootstrap_interval, metric),
        _interval(found.t_interval, metric), p_text(pair.p_adjusted),
        f"{superiority(pair, metric):.2f}",
    ]  # fmt: skip


def best_of_cells(each: BestOf) -> list[list[str]]:
    """One line for each number of settings that is shown."""
    if not each.expected:
        return [[label(each), "", NO_SEED, "0"]]
    return [
        [label(each) if k == 1 else "", str(k), formatting.spread_of(each.expected[k - 1]), str(each.expected[k - 1].n)]
        for k in counts(len(each.expected))
    ]


def to_document(comparison: Comparison, tuned: Sequence[BestOf]) -> dict[str, Any]:
    """All of it as JSON."""
    metric = comparison.metric
    return {
        "metric": {"name": metric.name, "title": metric.title, "higher_is_better": metric.higher_is_better},
        "by": list(comparison.by),
        "notes": notes(comparison),
        "arms": [_side_document(side) for side in comparison.sides],
        "verdict": overall(comparison),
        "pairs": [
            {**_pair_document(pair, metric), "verdict": verdict(pair, metric, comparison.tests)}
            for pair in comparison.pairs
        ],
        "best_of_k": [
            {
                "optimizer": each.optimizer, "seeds": list(each.seeds),
                "expected_test_percent": [summary.mean for summary in each.expected],
                "sd": [summary.sd for summary in each.expected],
            }
            for each in tuned
        ],
        "methods": methods(comparison),
    }  # fmt: skip


def superiority(pair: Pair, metric: Metric) -> float:
    """How often the first of a pair is the better one, a tie counting a half."""
    assert pair.paired is not None
    return pair.paired.better if metric.higher_is_better else 1 - pair.paired.better


def _side_document(side: Side) -> dict[str, Any]:
    summary = side.summary
    return {
        "arm": side.label,
        "optimizer": formatting.optimizer(side.arm.first),
        "n": len(side.values),
        "mean": summary and summary.mean,
        "sd": summary and summary.sd,
        "interval": _ends(side.interval),
        "values": side.values,
        "left_out": side.lacking,
        "settings_tried": len(side.choice.tried),
        "chosen_on_seeds": side.choice.seeds,
        "train_seconds": side.arm.seconds,
    }


def _pair_document(pair: Pair, metric: Metric) -> dict[str, Any]:
    found = pair.paired
    document: dict[str, Any] = {"a": pair.a.label, "b": pair.b.label, "seeds": list(pair.seeds)}
    if found is not None:
        document |= {
            "difference": found.difference, "sd": found.sd, "bootstrap_interval": _ends(found.bootstrap_interval),
            "t_interval": _ends(found.t_interval), "p": found.p_value, "exact": found.exact, "p_holm": pair.p_adjusted,
            "superiority": superiority(pair, metric),
        }  # fmt: skip
    return document


def _interval(found: Interval | None, metric: Metric) -> str:
    return "" if found is None else f"{metric.text(found.low)} to {metric.text(found.high)}"


def _ends(found: Interval | None) -> tuple[float, float] | None:
    return None if found is None else (found.low, found.high)
