"""A comparison as tables for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mlpq import formatting
from mlpq.analysis.best_of_k import BestOf
from mlpq.analysis.comparison import Comparison, Pair, Side
from mlpq.analysis.crossed import image_lines, standard_error_seeds
from mlpq.analysis.fairness import notes
from mlpq.analysis.inference import Interval
from mlpq.analysis.metrics import Metric
from mlpq.analysis.verdicts import overall, p_text, verdict
from mlpq.report.tables import Cells, markdown, print_tables

PAIRS_SHOWN = 15  # of more, only those with the best arm are shown
SETTINGS_SHOWN = (1, 2, 3, 5, 10, 20, 50, 100)  # numbers of settings in the table of the best of k

SIDE_HEADINGS = ("arm", ">n", ">{heading}, mean ± sd", ">95 % interval", ">best", ">worst", ">time")
PAIR_HEADINGS = ("A − B, by seed", ">n", ">{unit}", ">95 % bootstrap", ">95 % t", ">p", ">P(A better)")
ERROR_HEADINGS = ("standard error of A − B, {unit}", ">new seeds", ">new seeds and images")
BEST_OF_HEADINGS = ("expected test % of the best of k settings", ">k", ">mean ± sd", ">n")


def print_comparison(out: Console, comparison: Comparison, tuned: Sequence[BestOf]) -> None:
    """Print notes, the tables of arms, pairs and the best of k, verdicts, and how the figures are computed."""
    for note in notes(comparison):
        out.print(f"! {note}", markup=False)
    print_tables(out, _tables(comparison, tuned))
    out.print()
    for line in verdict_lines(comparison):
        out.print(line, markup=False)
    out.print(f"\n{methods(comparison)}", markup=False, style="dim")


def comparison_markdown(comparison: Comparison, tuned: Sequence[BestOf]) -> str:
    """The same as Markdown."""
    parts = ["\n".join(f"- **Note:** {note}" for note in notes(comparison))]
    parts += [
        markdown([heading.lstrip(">") for heading in headings], lines)
        for headings, lines in _tables(comparison, tuned)
        if lines
    ]
    parts += ["\n".join(f"- {line}" for line in verdict_lines(comparison)), methods(comparison)]
    return "\n\n".join(part for part in parts if part)


def verdict_lines(comparison: Comparison) -> list[str]:
    """The verdict on all arms, those on the pairs that are shown, and how many are not shown."""
    shown = shown_pairs(comparison)
    lines = [summary] if (summary := overall(comparison)) else []
    lines += [verdict(pair, comparison.metric, comparison.tests) for pair in shown]
    if len(shown) < len(comparison.pairs):
        more = formatting.count_of(len(comparison.pairs) - len(shown), "pair")
        lines.append(
            f"{more} without {comparison.sides[0].label} not shown: --format json has all; --against ARM compares with "
            "that arm only"
        )
    return lines + image_lines(comparison)


def methods(comparison: Comparison) -> str:
    """How the figures are computed, in a few sentences."""
    holm = f", with Holm's correction for {comparison.tests} comparisons" if comparison.tests > 1 else ""
    return (
        "± is the standard deviation in tables, and half of the 95 % t interval in verdicts. The intervals of arms are "
        "Student's t. A pair's difference is between jobs with the same seed; its intervals are the studentized "
        "bootstrap's and Student's t, p is that of the two-sided sign-flip permutation test of the mean difference"
        f"{holm}. Seeds are in parentheses. P(A better): on which share of the seeds A was better than B, a tie "
        "counting one half."
    )


def sides_table(comparison: Comparison) -> Cells:
    """One line per arm."""
    metric = comparison.metric
    return _filled(SIDE_HEADINGS, metric), [_side_cells(side, metric) for side in comparison.sides]


def pairs_table(comparison: Comparison) -> Cells:
    """One line per pair of arms."""
    metric = comparison.metric
    return _filled(PAIR_HEADINGS, metric), [_pair_cells(pair, metric) for pair in shown_pairs(comparison)]


def errors_table(comparison: Comparison) -> Cells:
    """One line per pair of arms for which the error over new test images is known."""
    metric = comparison.metric
    lines = [
        [f"{pair.a.label} − {pair.b.label}", metric.text(seeds), metric.text(pair.standard_error_images)]
        for pair in shown_pairs(comparison)
        if pair.standard_error_images is not None and (seeds := standard_error_seeds(pair)) is not None
    ]
    return _filled(ERROR_HEADINGS, metric), lines


def best_of_table(tuned: Sequence[BestOf]) -> Cells:
    """For each optimizer with several settings, one line per number of settings."""
    return BEST_OF_HEADINGS, [cells for each in tuned for cells in _best_of_cells(each)]


def shown_pairs(comparison: Comparison) -> list[Pair]:
    """All pairs; where that are too many and each arm is compared with each, those with the best mean."""
    if len(comparison.pairs) <= max(PAIRS_SHOWN, len(comparison.sides) - 1):
        return list(comparison.pairs)
    return [pair for pair in comparison.pairs if comparison.sides[0] in (pair.a, pair.b)]


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


def _tables(comparison: Comparison, tuned: Sequence[BestOf]) -> list[Cells]:
    return [sides_table(comparison), pairs_table(comparison), errors_table(comparison), best_of_table(tuned)]


def _filled(headings: Sequence[str], metric: Metric) -> tuple[str, ...]:
    return tuple(heading.format(heading=metric.heading, unit=metric.unit) for heading in headings)


def _side_cells(side: Side, metric: Metric) -> list[str]:
    """An arm: n, mean ± sd, interval, best and worst with their seeds, mean time of a job."""
    planned = len(side.values) + len(side.missing)
    n = f"{len(side.values)} of {planned}" if side.missing else str(planned)
    if side.summary is None:
        return [side.label, n, "", "", "", "", ""]
    ranked = sorted(side.values, key=lambda seed: side.values[seed], reverse=metric.higher_is_better)
    ends = [f"{metric.text(side.values[seed])} ({seed})" for seed in (ranked[0], ranked[-1])]
    spread = "" if side.summary.sd is None else f" ± {metric.text(side.summary.sd)}"
    return [
        side.label, n, f"{metric.text(side.summary.mean)}{spread}", _interval(side.interval, metric), *ends,
        formatting.seconds(side.arm.seconds),
    ]  # fmt: skip


def _pair_cells(pair: Pair, metric: Metric) -> list[str]:
    """Two arms: the paired difference with its intervals, the corrected p-value, P(A better)."""
    found = pair.paired
    label = f"{pair.a.label} − {pair.b.label}"
    if found is None:
        return [label, "0", *[""] * 5]
    return [
        label, str(found.n), metric.signed(found.difference), _interval(found.bootstrap_interval, metric),
        _interval(found.t_interval, metric), p_text(pair.p_adjusted), f"{_superiority(pair, metric):.2f}",
    ]  # fmt: skip


def _best_of_cells(each: BestOf) -> list[list[str]]:
    label = f"{each.optimizer} ({formatting.count_of(each.settings, 'setting')})"
    if not each.expected:
        return [[label, "", "no seed has a result of every setting", "0"]]
    most = len(each.expected)
    lines = []
    for k in (*(k for k in SETTINGS_SHOWN if k < most), most):
        summary = each.expected[k - 1]
        mean = formatting.mean_and_sd(summary.mean, summary.sd)
        lines.append([label, str(k), mean, str(summary.n)])
    return lines


def _superiority(pair: Pair, metric: Metric) -> float:
    """How often the first of a pair is the better one, from 0 to 1; a tie counts one half."""
    assert pair.paired is not None
    return pair.paired.better if metric.higher_is_better else 1 - pair.paired.better


def _side_document(side: Side) -> dict[str, Any]:
    summary = side.summary
    return {
        "arm": side.label,
        "optimizer": formatting.optimizer(side.spec),
        "n": len(side.values),
        "mean": summary and summary.mean,
        "sd": summary and summary.sd,
        "interval": _ends(side.interval),
        "values": side.values,
        "left_out": {seed: missing.reason for seed, missing in side.missing.items()},
        "settings_tried": len(side.selection.tried),
        "chosen_on_seeds": side.selection.seeds,
        "train_seconds": side.arm.seconds,
    }


def _pair_document(pair: Pair, metric: Metric) -> dict[str, Any]:
    found = pair.paired
    document: dict[str, Any] = {
        "a": pair.a.label, "b": pair.b.label, "seeds": list(pair.seeds),
        "standard_error_images": pair.standard_error_images,
    }  # fmt: skip
    if found is not None:
        document |= {
            "difference": found.difference, "sd": found.sd, "bootstrap_interval": _ends(found.bootstrap_interval),
            "t_interval": _ends(found.t_interval), "p": found.p_value, "exact": found.exact, "p_holm": pair.p_adjusted,
            "superiority": _superiority(pair, metric), "standard_error_seeds": standard_error_seeds(pair),
        }  # fmt: skip
    return document


def _interval(found: Interval | None, metric: Metric) -> str:
    return "" if found is None else f"{metric.text(found.low)} to {metric.text(found.high)}"


def _ends(found: Interval | None) -> tuple[float, float] | None:
    return None if found is None else (found.low, found.high)
