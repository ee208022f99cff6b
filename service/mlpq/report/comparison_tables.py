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
from mlpq.analysis.grouping import Selection
from mlpq.analysis.inference import Interval
from mlpq.analysis.labels import labels_among, shared
from mlpq.analysis.metrics import Metric
from mlpq.analysis.verdicts import FIXED_N, interval_text, overall, p_text, verdict
from mlpq.report.markup import Markup, document
from mlpq.report.tables import Cells, print_tables

PAIRS_SHOWN = 15  # of more, only those with the best arm are shown
SETTINGS_SHOWN = (1, 2, 3, 5, 10, 20, 50, 100)  # numbers of settings in the table of the best of k

SIDE_HEADINGS = ("arm", ">n", ">{heading}, mean ± sd", ">95 % interval", ">best", ">worst", ">time")
PAIR_HEADINGS = ("A − B, by seed", ">n", ">{unit}", ">{level} % interval", ">P(A better)")
TEST_HEADINGS = ("tests of A − B", ">p (Holm)", ">anytime p (Holm)", ">anytime {level} % interval")
ERROR_HEADINGS = ("standard error of A − B, {unit}", ">new seeds", ">new seeds and images")
BEST_OF_HEADINGS = ("expected test % of the best of k settings", ">k", ">mean ± sd", ">n")


def print_comparison(out: Console, comparison: Comparison, tuned: Sequence[BestOf]) -> None:
    """Print notes, the tables of arms, pairs, tests and the best of k, verdicts, and how the figures are computed."""
    for note in notes(comparison):
        out.print(f"! {note}", markup=False)
    print_tables(out, _tables(comparison, tuned))
    out.print()
    for line in verdict_lines(comparison):
        out.print(line, markup=False)
    out.print(f"\n{_shared(comparison)}", markup=False, style="dim")
    out.print(methods(comparison), markup=False, style="dim")


def comparison_markup(comparison: Comparison, tuned: Sequence[BestOf], markup: Markup) -> str:
    """The same as Markdown or LaTeX."""
    tables = [markup.table(headings, lines) for headings, lines in _tables(comparison, tuned) if lines]
    texts = [markup.text(text) for text in (_shared(comparison), methods(comparison))]
    return document([markup.notes(notes(comparison)), *tables, markup.items(verdict_lines(comparison)), *texts])


def verdict_lines(comparison: Comparison) -> list[str]:
    """The verdict on all arms, those on the pairs that are shown, and how many are not shown."""
    shown = shown_pairs(comparison)
    lines = [summary] if (summary := overall(comparison)) else []
    lines += [_verdict(pair, comparison) for pair in shown]
    if len(shown) < len(comparison.pairs):
        more = formatting.count_of(len(comparison.pairs) - len(shown), "pair")
        lines.append(
            f"{more} without {comparison.sides[0].label} not shown: --format json has all; --against ARM compares with "
            "that arm only"
        )
    return lines + image_lines(comparison)


def _verdict(pair: Pair, comparison: Comparison) -> str:
    return verdict(pair, comparison.metric, comparison.tests, comparison.is_running)


def _shared(comparison: Comparison) -> str:
    what = "Equal in all arms" if len(comparison.sides) > 1 else "Settings"
    return f"{what}: {shared([side.spec for side in comparison.sides])}."


def methods(comparison: Comparison) -> str:
    """How the figures are computed, in a few sentences."""
    level = level_text(comparison)
    several = comparison.tests > 1
    holm = f", with Holm's correction for {comparison.tests} comparisons" if several else ""
    together = f", so that all {comparison.tests} hold together with 95 %" if several else ""
    sources = "" if _has_split(comparison) else (
        " Without a validation split only the initial weights and the batch order vary with the seed: intervals and "
        "tests say nothing about other training images."
    )  # fmt: skip
    return (
        f"± is the standard deviation in tables, and half of the {level} % t interval in verdicts. The intervals of "
        "arms are Student's t, 95 % each. A pair's difference is between jobs with the same seed. Its interval, of "
        f"{level} %{together}, is the studentized bootstrap's from 10 pairs on, else Student's t. p is that of the "
        f"two-sided sign-flip permutation test of the mean difference{holm}, {FIXED_N}; the anytime p and interval, by "
        "betting on the signs, are valid however often one looks. Seeds are in parentheses. P(A better): on which "
        f"share of the seeds A was better than B, a tie counting one half, with the {level} % interval of Clopper and "
        f"Pearson.{sources}"
    )


def _has_split(comparison: Comparison) -> bool:
    return any(side.spec.validation for side in comparison.sides)


def level_text(comparison: Comparison) -> str:
    """ "95", "98.3" or "99.97": the confidence level of pairs in percent."""
    percent = 100 * comparison.confidence
    return f"{percent:.3g}" if percent < 99.9 else f"{percent:.4g}"


def sides_table(comparison: Comparison) -> Cells:
    """One line per arm."""
    metric = comparison.metric
    return _filled(SIDE_HEADINGS, comparison), [_side_cells(side, metric) for side in comparison.sides]


def pairs_table(comparison: Comparison) -> Cells:
    """One line per pair of arms: how large its difference is."""
    metric = comparison.metric
    return _filled(PAIR_HEADINGS, comparison), [_pair_cells(pair, metric) for pair in shown_pairs(comparison)]


def tests_table(comparison: Comparison) -> Cells:
    """One line per pair of arms: whether its difference may be chance."""
    metric = comparison.metric
    return _filled(TEST_HEADINGS, comparison), [_test_cells(pair, metric) for pair in shown_pairs(comparison)]


def errors_table(comparison: Comparison) -> Cells:
    """One line per pair of arms for which the error over new test images is known."""
    metric = comparison.metric
    lines = [
        [f"{pair.a.label} − {pair.b.label}", metric.text(seeds), metric.text(pair.standard_error_images)]
        for pair in shown_pairs(comparison)
        if pair.standard_error_images is not None and (seeds := standard_error_seeds(pair)) is not None
    ]
    return _filled(ERROR_HEADINGS, comparison), lines


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
            {**_pair_document(pair, comparison), "verdict": _verdict(pair, comparison)}
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
    found = sides_table(comparison), pairs_table(comparison), tests_table(comparison), errors_table(comparison)
    return [*found, best_of_table(tuned)]


def _filled(headings: Sequence[str], comparison: Comparison) -> tuple[str, ...]:
    metric = comparison.metric
    return tuple(
        heading.format(heading=metric.heading, unit=metric.unit, level=level_text(comparison)) for heading in headings
    )


def _side_cells(side: Side, metric: Metric) -> list[str]:
    """An arm: n, mean ± sd, interval, best and worst with their seeds, mean time of a job."""
    planned = len(side.values) + len(side.missing)
    n = f"{len(side.values)} of {planned}" if side.missing else str(planned)
    n += f", {len(side.diverged)} diverged" if side.diverged else ""
    n += f", {len(side.missed)} never" if side.missed else ""
    if side.median is None:
        return [side.label, n, "", "", "", "", ""]
    ranked = sorted(side.values, key=lambda seed: side.values[seed], reverse=metric.higher_is_better)
    ends = [f"{metric.text(side.values[seed])} ({seed})" for seed in (ranked[0], ranked[-1])]
    summary = side.summary
    mean = f"median {metric.text(side.median)}"
    if summary is not None:
        mean = metric.text(summary.mean) + ("" if summary.sd is None else f" ± {metric.text(summary.sd)}")
    return [
        side.label, n, mean, _interval(side.interval, metric), *ends,
        formatting.seconds(side.arm.seconds),
    ]  # fmt: skip


def _pair_cells(pair: Pair, metric: Metric) -> list[str]:
    """Two arms: the paired difference with its interval, and P(A better) with its interval."""
    found = pair.paired
    if found is None:
        return [_label(pair), "0", *[""] * 3]
    low, high = _superiority_interval(pair, metric)
    return [
        _label(pair), str(found.n), metric.signed(found.difference), _interval(found.simultaneous, metric),
        f"{_superiority(pair, metric):.2f} ({low:.2f} to {high:.2f})",
    ]  # fmt: skip


def _test_cells(pair: Pair, metric: Metric) -> list[str]:
    """Two arms: the corrected p-values, and the interval that may be looked at any time."""
    p = "" if pair.paired is None else p_text(pair.p_adjusted)
    if pair.anytime is None:
        return [_label(pair), p, "", ""]
    interval = _interval(pair.anytime.interval, metric) or "no bound yet"
    return [_label(pair), p, p_text(pair.anytime.p_adjusted), interval]


def _label(pair: Pair) -> str:
    return f"{pair.a.label} − {pair.b.label}"


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


def _superiority_interval(pair: Pair, metric: Metric) -> tuple[float, float]:
    assert pair.paired is not None
    low, high = pair.paired.better_interval.low, pair.paired.better_interval.high
    return (low, high) if metric.higher_is_better else (1 - high, 1 - low)


def _side_document(side: Side) -> dict[str, Any]:
    """Infinite figures are those of targets that were never reached."""
    summary = side.summary
    return {
        "arm": side.label,
        "optimizer": formatting.optimizer(side.spec),
        "n": len(side.values),
        "mean": summary and summary.mean,
        "sd": summary and summary.sd,
        "interval": _ends(side.interval),
        "values": dict(side.values),
        "diverged": len(side.diverged),
        "missed_target": len(side.missed),
        "left_out": {seed: missing.reason for seed, missing in side.missing.items()},
        "settings_tried": len(side.selection.tried),
        "chosen_on_seeds": side.selection.seeds,
        "choice": _choice_document(side.selection),
        "train_seconds": side.arm.seconds,
    }


def _choice_document(selection: Selection) -> dict[str, Any] | None:
    """How certain the choice of the setting is; None where there was none between several."""
    choice = selection.choice
    if choice is None:
        return None
    labels = labels_among(selection.ranked, selection.tried)
    return {
        "chosen": labels[choice.best], "runner_up": labels[choice.runner_up], "margin": choice.margin,
        "shares": dict(zip(labels, choice.shares, strict=True)), "pending_seeds": selection.pending,
    }  # fmt: skip


def _pair_document(pair: Pair, comparison: Comparison) -> dict[str, Any]:
    """`t_interval` and `bootstrap_interval` are of 95 % each, the `simultaneous` ones of `confidence`."""
    found, metric = pair.paired, comparison.metric
    anytime = pair.anytime
    document: dict[str, Any] = {
        "a": pair.a.label, "b": pair.b.label, "seeds": list(pair.seeds),
        "p_anytime": anytime and anytime.p, "p_anytime_holm": anytime and anytime.p_adjusted,
        "interval_anytime": _ends(anytime.interval) if anytime else None, "n_anytime": anytime and anytime.n,
        "standard_error_images": pair.standard_error_images,
    }  # fmt: skip
    if found is not None:
        document |= {
            "difference": found.difference, "sd": found.sd,
            "bootstrap_interval": _ends(found.bootstrap_interval), "t_interval": _ends(found.t_interval),
            "simultaneous_interval": _ends(found.simultaneous), "confidence": comparison.confidence,
            "test": "signs" if found.by_signs else "mean", "p": found.p_value, "exact": found.exact,
            "p_holm": pair.p_adjusted, "superiority": _superiority(pair, metric),
            "superiority_interval": _superiority_interval(pair, metric), "skewness": found.skewness,
            "standard_error_seeds": standard_error_seeds(pair),
        }  # fmt: skip
    return document


def _interval(found: Interval | None, metric: Metric) -> str:
    return "" if found is None else interval_text(found, metric)


def _ends(found: Interval | None) -> tuple[float, float] | None:
    return None if found is None else (found.low, found.high)
