"""A registered question and its race: a line for each arm, verdicts in words, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from mlpq import formatting
from mlpq.analysis.fairness import choice_notes
from mlpq.analysis.inference import Interval
from mlpq.analysis.metrics import Metric
from mlpq.analysis.question_terms import options
from mlpq.analysis.questions import QuestionState
from mlpq.analysis.race import Race, RacePair
from mlpq.analysis.verdicts import interval_text, on_data, p_phrase
from mlpq.question_records import Question, Verdict
from mlpq.report.comparison_tables import PAIRS_SHOWN
from mlpq.report.markup import Markup, document
from mlpq.report.tables import Cells, PlainTable, plain_table

RACE_HEADINGS = ("arm", "state", ">seeds", ">{unit} behind {leader}", ">anytime {level} interval", ">evidence")
RACE_HEADINGS_WITH_MARGIN = (*RACE_HEADINGS, ">evidence within {margin}")


def registration_line(question: Question) -> str:
    """When and with what the question was registered."""
    caps = "" if question.caps is None else f"; at most {_caps_text(question.caps)}"
    return (
        f"{question.experiment}: registered {question.registered_at:%Y-%m-%d %H:%M} UTC, before the first look: "
        f"{options(question.terms)}, significance level {100 * question.terms.alpha:g} %{caps}"
    )


def race_table(state: QuestionState) -> PlainTable:
    """One line for each arm."""
    headings, lines = race_cells(state)
    table = plain_table(*headings)
    for line in lines:
        table.add_row(*line)
    return table


def race_cells(state: QuestionState) -> Cells:
    """For each arm how far it is behind the leading one, or behind the one that all are compared with.

    `evidence` is what the bets against a difference of 0 have, of what they need to decide; with a margin, that against
    a larger difference than it follows.
    """
    race, metric = state.race, state.metric
    if race is None:
        return ("arm", "state", ">seeds"), [
            [label, "waits for its first look", str(done)] for label, done in _labels_and_seeds(state)
        ]
    leader = leader_of(state, race)
    margin = state.question.terms.margin
    names = {
        "unit": metric.unit,
        "leader": label_of(state, leader),
        "level": level_of(state),
        "margin": f"{margin:g}" if margin else "",
    }
    headings = tuple(heading.format(**names) for heading in (RACE_HEADINGS_WITH_MARGIN if margin else RACE_HEADINGS))
    order = sorted(range(len(state.settings)), key=lambda arm: (arm != leader, _behind(race, leader, arm)))
    return headings, [_arm_cells(state, race, arm, leader) for arm in order]


@dataclass(frozen=True, slots=True)
class QuestionText:
    """A registered question as pages show it; `verdicts` are empty before its first look."""

    registered: str
    state: str
    verdicts: Sequence[str]
    notes: Sequence[str]
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    is_over: bool


def question_text(state: QuestionState) -> QuestionText:
    """All of a question as text."""
    headings, lines = race_cells(state)
    return QuestionText(
        registered=registration_line(state.question),
        state=state_line(state),
        verdicts=verdict_lines(state),
        notes=choice_lines(state),
        headings=headings,
        lines=lines,
        is_over=state.is_over,
    )


def print_question(out: Console, state: QuestionState) -> None:
    """Print how settings were chosen, the arms, the verdicts, and what was registered."""
    for line in choice_lines(state):
        out.print(f"! {line}", markup=False)
    out.print(race_table(state))
    out.print()
    for line in verdict_lines(state) or [state_line(state)]:
        out.print(line, markup=False)
    out.print(f"\n{registration_line(state.question)}", markup=False, style="dim")


def question_markup(state: QuestionState, markup: Markup) -> str:
    """The same as Markdown or LaTeX."""
    text = question_text(state)
    table, verdicts = markup.table(text.headings, text.lines), markup.items(text.verdicts or [text.state])
    return document([markup.notes(text.notes), table, verdicts, markup.text(text.registered)])


def race_lines(state: QuestionState) -> list[str]:
    """One line for each arm, where a table has no room: "sgd: in the race; seeds 9; points behind adam 0.41; …"."""
    headings, lines = race_cells(state)
    names = [heading.lstrip(">") for heading in headings[2:]]
    return [
        f"{arm}: " + "; ".join([status, *(f"{name} {cell}" for name, cell in zip(names, cells, strict=True) if cell)])
        for arm, status, *cells in lines
    ]


def state_line(state: QuestionState) -> str:
    """How far the question is, in one sentence."""
    terms = state.question.terms
    if any(setting is None for setting in state.settings):
        return f"settings are being chosen on seeds {formatting.seeds(terms.choose_seeds)}"
    if state.race is None:
        return f"the first {formatting.count_of(terms.pilot, 'pair')} determine how many seeds are needed at most"
    return f"{state.race.n} of at most {_cap(state, state.race)} pairs looked at"


def verdict_lines(state: QuestionState) -> list[str]:
    """The verdict on all arms first, then those on the pairs where there are several; empty before the first look."""
    race = state.race
    if race is None:
        return []
    lines = [_overall(state, race)] if len(race.pairs) > 1 else []
    leader = leader_of(state, race)
    shown = sorted(race.pairs, key=lambda pair: leader not in (pair.a, pair.b))
    if len(shown) > PAIRS_SHOWN:
        shown = [pair for pair in shown if leader in (pair.a, pair.b)]
        more = formatting.count_of(len(race.pairs) - len(shown), "pair")
        lines.append(f"{more} without {label_of(state, leader)} not shown: --format json has all")
    return [*lines, *(pair_verdict(state, pair) for pair in shown)]


def pair_verdict(state: QuestionState, pair: RacePair) -> str:
    """The verdict on a pair of arms, with its data and its metric."""
    a, b, metric = label_of(state, pair.a), label_of(state, pair.b), state.metric
    on = f"{_data(state)} (n = {pair.n} of {formatting.count_of(pair.cap, 'pair')}, {_certainty(state, pair)})"
    amount = metric.amount(metric.text(abs(pair.mean)))
    if pair.verdict is Verdict.BETTER:
        return f"{a} is {metric.comparative} than {b} by {amount} {on}"
    if pair.verdict is Verdict.EQUIVALENT:
        within = metric.amount(metric.text(state.question.terms.margin or 0))
        return f"{a} and {b} are equivalent within {within} {on}"
    if pair.looked_at_cap:
        return f"no detectable difference between {a} and {b}: {amount} {on}"
    if beaten := [label_of(state, arm) for arm in (pair.a, pair.b) if arm in _eliminated(state)]:
        reason = f"{formatting.listed(beaten)} {'are' if len(beaten) > 1 else 'is'} worse than another arm"
        return f"left open between {a} and {b}, since {reason}: {amount} {on}"
    return f"not decided between {a} and {b}: {amount} {on}"


def choice_lines(state: QuestionState) -> list[str]:
    """Which setting each arm with several is compared with, and how certain that choice is."""
    return [note for selection in state.selections for note in choice_notes(selection)]


def question_document(state: QuestionState) -> dict[str, Any]:
    """A question, its verdict and its figures as JSON; differences of accuracies are fractions, from −1 to 1."""
    question, race = state.question, state.race
    terms = question.terms
    document: dict[str, Any] = {
        "experiment": question.experiment,
        "by": [name for name in terms.by.split(",") if name],
        "metric": terms.metric,
        "against": terms.against or None,
        "difference": terms.difference,
        "margin": terms.margin,
        "alpha": terms.alpha,
        "choose_seeds": list(terms.choose_seeds),
        "arms": [side.label for side in terms.sides],
        "is_over": state.is_over,
    }
    if race is None:
        document |= {"verdict": Verdict.UNDECIDED, "best": None, "n": 0, "cap": None, "p_anytime": 1.0}
        document |= {"interval": None, "registered_at": question.registered_at}
        return document | ({"pairs": []} if len(terms.pairs) > 1 else {})
    best = None if race.best is None else label_of(state, race.best)
    document |= {**_pair_document(state, race.lead), "verdict": race.verdict, "best": best}
    if len(race.pairs) > 1:
        document["pairs"] = [_pair_document(state, pair) for pair in race.pairs]
    return document


def _pair_document(state: QuestionState, pair: RacePair) -> dict[str, Any]:
    interval = _raw(pair.interval, state.metric)
    return {
        "a": label_of(state, pair.a),
        "b": label_of(state, pair.b),
        "verdict": pair.verdict,
        "best": label_of(state, pair.a) if pair.verdict is Verdict.BETTER else None,
        "n": pair.n,
        "cap": pair.cap,
        "p_anytime": pair.p,
        "interval": _fractions(interval, state.metric),
        "evidence": pair.evidence,
        "evidence_needed": pair.bound,
        "looked_at_cap": pair.looked_at_cap,
        "registered_at": state.question.registered_at,
    }


def _fractions(interval: Interval, metric: Metric) -> list[float]:
    """Both ends; those of accuracies as fractions, within what accuracies can differ by."""
    ends = [interval.low, interval.high]
    return [min(1.0, max(-1.0, end / 100)) for end in ends] if metric.unit == "points" else ends


def _raw(interval: Interval, metric: Metric) -> Interval:
    """The interval of a − b in the metric: scores have the sign by which more is better."""
    return interval if metric.higher_is_better else interval.negated


def level_of(state: QuestionState) -> str:
    """The confidence level of each interval, so that all hold together."""
    terms = state.question.terms
    percent = 100 * (1 - terms.alpha / len(terms.pairs))
    return f"{percent:.3g} %" if percent < 99.9 else f"{percent:.4g} %"


def _overall(state: QuestionState, race: Race) -> str:
    caps = f"after {formatting.count_of(race.n, 'pair')}"
    on = f"{state.metric.phrase} {_data(state)}"
    if race.best is not None:
        return f"{label_of(state, race.best)} has the best {on} of {len(state.settings)} arms, decided {caps}"
    left = [arm for arm in range(len(state.settings)) if arm not in race.beaten]
    labels = formatting.listed([label_of(state, arm) for arm in left])
    if race.verdict is Verdict.EQUIVALENT:
        return f"{labels} are equivalent in {on} and no other arm is better, decided {caps}"
    if state.question.terms.against:
        return f"each arm compared with {state.question.terms.against} in {on}, {caps}"
    if race.is_over:
        return f"undecided at the cap {caps}: {labels} may each have the best {on}"
    return f"not decided {caps}: {labels} may each have the best {on}"


def _certainty(state: QuestionState, pair: RacePair) -> str:
    """The interval and p at every look; after a decision at the cap, that it was the exact look there."""
    interval = f"anytime {level_of(state)} interval {_interval_text(pair.interval, state.metric)}"
    if pair.looked_at_cap and pair.verdict is Verdict.BETTER:
        return f"significant in the one exact look at the cap, {interval}"
    return f"anytime {p_phrase(pair.p, 'p (Holm)' if len(state.question.terms.pairs) > 1 else 'p')}, {interval}"


def _interval_text(interval: Interval, metric: Metric) -> str:
    return interval_text(interval, metric) if interval.is_bounded else "still unbounded"


def _arm_cells(state: QuestionState, race: Race, arm: int, leader: int) -> list[str]:
    pair = pair_of(race, arm, leader)
    seeds = str(max(each.n for each in race.pairs if arm in (each.a, each.b)))
    evidences = 2 if state.question.terms.margin else 1
    if pair is None:
        status = "is compared with" if state.question.terms.against else "leads"
        return [label_of(state, arm), status, seeds, "", "", *([""] * evidences)]
    sign = 1 if pair.a == leader else -1
    interval = pair.interval if sign > 0 else pair.interval.negated
    evidence = [f"{_evidence_text(pair.evidence)} of {pair.bound:.0f}"]
    if pair.equivalence is not None:
        evidence.append(f"{_evidence_text(pair.equivalence)} of {pair.equivalence_bound:.0f}")
    return [
        label_of(state, arm),
        _arm_state(pair, arm, _eliminated(state)),
        seeds,
        state.metric.text(sign * pair.mean),
        _interval_text(interval, state.metric),
        *evidence,
    ]


def _evidence_text(evidence: float) -> str:
    if not math.isfinite(evidence):
        return "> 1e+308"
    return f"{evidence:.1f}" if evidence < 100 else f"{evidence:.0f}" if evidence < 1000 else f"{evidence:.0e}"


def _arm_state(pair: RacePair, arm: int, eliminated: frozenset[int]) -> str:
    if pair.verdict is Verdict.BETTER:
        return "better" if pair.a == arm else "worse"
    if pair.verdict is Verdict.EQUIVALENT:
        return "equivalent"
    if arm in eliminated:
        return "worse than another arm"
    return "undecided at the cap" if pair.looked_at_cap else "in the race"


def leader_of(state: QuestionState, race: Race) -> int:
    """The arm that all are compared with, else the one that is ahead of most others."""
    terms = state.question.terms
    if terms.against:
        return [side.label for side in terms.sides].index(terms.against)
    left = [arm for arm in range(len(state.settings)) if arm not in race.beaten]
    return max(left, key=lambda arm: sum(pair.a == arm for pair in race.pairs))


def pair_of(race: Race, arm: int, other: int) -> RacePair | None:
    return next((pair for pair in race.pairs if {pair.a, pair.b} == {arm, other}), None) if arm != other else None


def _behind(race: Race, leader: int, arm: int) -> float:
    pair = pair_of(race, arm, leader)
    return 0.0 if pair is None else pair.mean if pair.a == leader else -pair.mean


def _eliminated(state: QuestionState) -> frozenset[int]:
    """The arms that get no more seeds although a pair of theirs is undecided."""
    return frozenset() if state.race is None or state.question.terms.against else state.race.beaten


def label_of(state: QuestionState, arm: int) -> str:
    return state.question.terms.sides[arm].label


def _labels_and_seeds(state: QuestionState) -> list[tuple[str, int]]:
    """For each arm how many seeds are finished, of its setting with the fewest where none is chosen yet."""
    return [
        (side.label, 0 if setting is None else sum(job.status.is_finished for job in setting.jobs.values()))
        for side, setting in zip(state.question.terms.sides, state.settings, strict=True)
    ]


def _data(state: QuestionState) -> str:
    return on_data([setting.arm.spec for setting in state.settings if setting is not None])


def _cap(state: QuestionState, race: Race) -> int:
    """The largest cap of the pairs that still race; of all pairs after the end."""
    racing = [pair.cap for pair in race.pairs if pair.verdict is Verdict.UNDECIDED and {pair.a, pair.b} <= race.active]
    return max(racing or state.question.caps or ())


def _caps_text(caps: Sequence[int]) -> str:
    least, most = min(caps), max(caps)
    return formatting.count_of(most, "pair") if least == most else f"{least} to {most} pairs"
