"""The state of a registered question, from the jobs of its experiment: what is decided, and which seeds it still needs.

Import it late: numpy and scipy take half a second to load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlpq.analysis.arms import Arm, arms, has_diverged
from mlpq.analysis.choice import choose
from mlpq.analysis.grouping import Selection
from mlpq.analysis.inference import differences_so_far
from mlpq.analysis.metrics import Curve, Metric
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.race import Race, RaceRules, run_race
from mlpq.analysis.sequential import cap_for, fewest_bets
from mlpq.errors import NotFoundError
from mlpq.question_records import MOST_SEEDS, Question, QuestionSide, QuestionTerms
from mlpq.records import JobRecord


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of an arm: `jobs` has for each seed the one that counts, `diverged` are the seeds of those that did."""

    arm: Arm
    jobs: Mapping[int, JobRecord]
    diverged: frozenset[int]

    def is_done(self, seed: int) -> bool:
        """Whether the seed has a figure: a run that diverged has that of chance, since its failure is a finding."""
        return seed in self.diverged or (seed in self.jobs and self.jobs[seed].result is not None)

    def figure(self, seed: int, by: Metric, curves: Mapping[str, Curve]) -> float | None:
        """The figure of a seed that is done."""
        job = self.jobs[seed]
        if seed in self.diverged:
            return by.diverged(job.spec)
        assert job.result is not None, "a seed that is done has a result"
        return by.value(job.result, curves.get(job.id, ()))

    def validation_accuracy(self, seed: int) -> float:
        """The validation accuracy of a seed that is done, from 0 to 1."""
        result = self.jobs[seed].result
        accuracy = None if result is None else result.validation_accuracy
        return 1 / self.arm.spec.data.classes if accuracy is None else accuracy


@dataclass(frozen=True, slots=True)
class QuestionState:
    """A question and how far it is.

    `settings` has for each arm the one that it is compared with, None until it is chosen; `selections` those choices.
    `caps` are registered, or else what the finished pilot determines; None before that. `race` is None until caps are
    registered: nothing is looked at before. `missing` are the seeds to submit next, with a job that represents the
    setting; `waiting` the jobs that the next look needs and that are not finished, `failed` those that brought no
    result.
    """

    question: Question
    settings: tuple[Setting | None, ...]
    selections: tuple[Selection, ...]
    caps: tuple[int, ...] | None
    race: Race | None
    missing: tuple[tuple[JobRecord, Sequence[int]], ...]
    waiting: tuple[JobRecord, ...]
    failed: tuple[JobRecord, ...]

    @property
    def is_over(self) -> bool:
        """Whether all is decided, or at its cap."""
        return self.race is not None and self.race.is_over

    @property
    def metric(self) -> Metric:
        return metric_of(self.question.terms)


def metric_of(terms: QuestionTerms) -> Metric:
    """The metric of a question; raises SpecError where this version has none of that name or target."""
    return ComparisonParams(metric=terms.metric, target=terms.target).parsed_metric()


def fewest_pairs_to_decide(terms: QuestionTerms) -> int:
    """With fewer pairs the bets can't reach their bound."""
    return fewest_bets(terms.alpha / len(terms.pairs))


def question_state(
    question: Question,
    records: Sequence[JobRecord],
    ancestors: Sequence[JobRecord],
    curves: Mapping[str, Curve],
) -> QuestionState:
    """How far a question is, from all jobs of its experiment; `curves` are by job id, for metrics that need them.

    The decision depends only on the results, in the order of the question's seeds, not on when this is called. Raises
    NotFoundError where a job that represents a setting was deleted.
    """
    terms = question.terms
    found = _settings(records, ancestors)
    tried = [[_found(found, spec_hash, question) for spec_hash in side.settings] for side in terms.sides]
    demand = _Demand(question)
    for settings in tried:
        if len(settings) > 1:
            demand.add(settings, terms.choose_seeds)
    if not demand.is_met:
        return demand.state([settings[0] if len(settings) == 1 else None for settings in tried])
    chosen = [_chosen(side, settings, terms) for side, settings in zip(terms.sides, tried, strict=True)]
    ready = [setting for setting, _ in chosen]
    selections = [selection for _, selection in chosen if selection is not None]
    if question.caps is None:
        demand.add(ready, [terms.seed(index) for index in range(terms.pilot)])
        pilot = [_scores(terms, setting, curves, terms.pilot) for setting in ready]
        return demand.state(ready, selections, _caps(terms, pilot) if demand.is_met else None)
    scores = [_scores(terms, setting, curves, max(question.caps)) for setting in ready]
    rules = RaceRules(terms.pairs, question.caps, terms.margin, terms.alpha, eliminates=not terms.against)
    race = run_race(scores, rules)
    _add_round(demand, question, ready, race)
    return demand.state(ready, selections, question.caps, race)


class _Demand:
    """The jobs that the next look needs and that have no result yet."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._missing: list[tuple[JobRecord, Sequence[int]]] = []
        self._waiting: list[JobRecord] = []
        self._failed: list[JobRecord] = []

    @property
    def is_met(self) -> bool:
        return not (self._missing or self._waiting or self._failed)

    def add(self, settings: Iterable[Setting], seeds: Sequence[int]) -> None:
        """Require these seeds of these settings."""
        for setting in settings:
            jobs = [setting.jobs[seed] for seed in seeds if seed in setting.jobs and not setting.is_done(seed)]
            self._waiting += [job for job in jobs if not job.status.is_finished]
            self._failed += [job for job in jobs if job.status.is_finished]
            if absent := [seed for seed in seeds if seed not in setting.jobs]:
                self._missing.append((setting.arm.first, absent))

    def state(
        self,
        settings: Sequence[Setting | None],
        selections: Sequence[Selection] = (),
        caps: Sequence[int] | None = None,
        race: Race | None = None,
    ) -> QuestionState:
        # No more jobs are submitted where one has failed: the look that they are for can't be taken.
        missing = () if self._failed else tuple(self._missing)
        return QuestionState(
            question=self._question,
            settings=tuple(settings),
            selections=tuple(selections),
            caps=None if caps is None else tuple(caps),
            race=race,
            missing=missing,
            waiting=tuple(self._waiting),
            failed=tuple(self._failed),
        )


def _add_round(demand: _Demand, question: Question, settings: Sequence[Setting], race: Race) -> None:
    """Require the seeds up to the next look of the arms that still race.

    The first round has as many as a decision takes, each further one adds a quarter to the seeds looked at. Where jobs
    of a round are not finished, it ends with the last of them: an interrupted submission is completed, and no new round
    begins.
    """
    terms = question.terms
    assert question.caps is not None
    ends = dict.fromkeys(race.active, 0)
    for pair, cap in zip(terms.pairs, question.caps, strict=True):
        for arm in race.active.intersection(pair):
            ends[arm] = max(ends[arm], cap)
    fewest = fewest_pairs_to_decide(terms)
    target = max(fewest, race.n + max(2, race.n // 4))
    unfinished = [
        index
        for arm in race.active
        for index in range(race.n, min(target, ends[arm]))
        if (job := settings[arm].jobs.get(terms.seed(index))) is not None and not job.status.is_finished
    ]
    end = max(fewest, *(index + 1 for index in unfinished)) if unfinished else target
    for arm in sorted(race.active):
        demand.add([settings[arm]], [terms.seed(index) for index in range(min(end, ends[arm]))])


def _settings(records: Sequence[JobRecord], ancestors: Sequence[JobRecord]) -> dict[str, Setting]:
    """The setting to which each spec hash belongs.

    A spec that ran several times counts once, with its first result, so that a further run changes no decision.
    """
    by_id = {job.id: job for job in (*ancestors, *records)}
    counting: dict[str, JobRecord] = {}
    for job in records:
        before = counting.get(job.spec_hash)
        if before is None or (before.result is None and not has_diverged(before, by_id)):
            counting[job.spec_hash] = job
    found = {}
    for arm in arms(records, ancestors):
        hashes = [job.spec_hash for job in arm.records]
        jobs = {counting[each].spec.seed: counting[each] for each in hashes}
        diverged = frozenset(seed for seed, job in jobs.items() if has_diverged(job, by_id))
        found.update(dict.fromkeys(hashes, Setting(arm, jobs, diverged)))
    return found


def _found(settings: Mapping[str, Setting], spec_hash: str, question: Question) -> Setting:
    if spec_hash not in settings:
        raise NotFoundError(
            f"the jobs of an arm of the question of {question.registered_at:%Y-%m-%d %H:%M} are no longer in "
            f"{question.experiment}: submit them again"
        )
    return settings[spec_hash]


def _chosen(side: QuestionSide, settings: Sequence[Setting], terms: QuestionTerms) -> tuple[Setting, Selection | None]:
    """The best setting by mean validation accuracy, and how it was chosen; without the latter where there is one."""
    if len(settings) == 1:
        return settings[0], None
    scores = [{seed: setting.validation_accuracy(seed) for seed in terms.choose_seeds} for setting in settings]
    choice = choose(scores, terms.choose_seeds)
    tried = tuple(setting.arm for setting in settings)
    best = settings[choice.best]
    return best, Selection(side.label, best.arm, tried, tried, choice, tuple(terms.choose_seeds))


def _scores(terms: QuestionTerms, setting: Setting, curves: Mapping[str, Curve], most: int) -> list[float]:
    """The figures of the first seeds, up to `most`, that all have one, with the sign by which more is better."""
    by = metric_of(terms)
    found: list[float] = []
    for index in range(most):
        seed = terms.seed(index)
        figure = setting.figure(seed, by, curves) if setting.is_done(seed) else None
        if figure is None:
            break
        found.append(figure if by.higher_is_better else -figure)
    return found


def _caps(terms: QuestionTerms, scores: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """The caps that the finished pilot determines: from the magnitudes of differences only."""
    caps = []
    for a, b in terms.pairs:
        pilot = differences_so_far(scores[a], scores[b])
        cap = cap_for(terms.difference, pilot, terms.alpha / len(terms.pairs))
        caps.append(min(cap or MOST_SEEDS, MOST_SEEDS))
    return tuple(caps)
