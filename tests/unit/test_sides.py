"""Sides of a comparison: groups of settings, the one that represents them, figures by seed, and pairs."""

from __future__ import annotations

import math

import pytest

from mlpq.analysis.arms import arms
from mlpq.analysis.comparison import MissingFigure, compare
from mlpq.analysis.fairness import notes
from mlpq.analysis.grouping import by_label, find_label, group_settings, parse_by
from mlpq.analysis.inference import holm
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.sequential import anytime_interval
from mlpq.errors import SpecError
from mlpq.jobs import Status
from mlpq.records import JobRecord
from tests.support.compared_arms import arm, compared, counts
from tests.support.result_rows import curve, failed_job, job_record, specs, with_figures

SEEDS = 8


def setting(first: int, validated: int, **keys: object) -> list[JobRecord]:
    return arm(first, counts(*[430] * SEEDS), validated=validated, **keys)


def cancelled(jobs: list[JobRecord], seed: int, status: Status = Status.CANCELLED) -> list[JobRecord]:
    """The jobs, of which the one with that seed was cancelled."""
    return [job_record(job.spec, 800 + seed, status=status) if job.spec.seed == seed else job for job in jobs]


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED])
def test_settings_with_cancelled_or_failed_jobs_are_not_ranked_beside_sound_ones(status: Status) -> None:
    """Otherwise a lucky seed that survived could decide."""
    best, sound = setting(0, 95, optimizer="sgd:lr=0.1"), setting(100, 80, optimizer="sgd:lr=0.2")
    (side,) = compared(cancelled(best, 6, status), sound, by="optimizer").sides
    assert (side.spec.lr, len(side.selection.ranked), len(side.selection.tried)) == (0.2, 1, 2)
    (whole,) = compared(best, sound, by="optimizer").sides
    assert (whole.spec.lr, len(whole.selection.ranked)) == (0.1, 2)


def test_settings_are_ranked_where_all_have_lost_jobs() -> None:
    best, other = setting(0, 95, optimizer="sgd:lr=0.1"), setting(100, 80, optimizer="sgd:lr=0.2")
    (side,) = compared(cancelled(best, 6), cancelled(other, 7), by="optimizer").sides
    assert (side.spec.lr, len(side.selection.ranked)) == (0.1, 2)


@pytest.mark.parametrize(("name", "values"), [("dataset", ("digits", "mnist")), ("validation", ("0.1", "0.2"))])
def test_settings_on_other_data_or_splits_are_sides_of_their_own(name: str, values: tuple[str, str]) -> None:
    jobs = [
        with_figures(job_record(spec, 100 * i + spec.seed, 430), validation_correct=90 - i, validation_total=100)
        for i, value in enumerate(values)
        for lr in ("0.1", "0.2")
        for spec in specs(**{"validation": "0.1", name: value, "lr": lr, "seeds": "0..7"})
    ]
    found = compared(jobs, by="optimizer").sides
    labels = [f"sgd, {value}" if name == "dataset" else f"sgd, validation={value}" for value in values]
    assert sorted(side.label for side in found) == sorted(labels)
    assert [len(side.selection.tried) for side in found] == [2, 2]


def test_groups_without_a_validation_split_choose_nothing_even_beside_others() -> None:
    """None of its figures may choose: its settings are sides of their own."""
    plain = [arm(100 * i, counts(*[430] * SEEDS), optimizer=f"sgd:lr=0.{i}") for i in (1, 2)]
    found = compared(
        *plain, setting(500, 80, optimizer="adam"), setting(600, 90, optimizer="adam:lr=0.1"), by="optimizer"
    )
    assert sorted((side.label, len(side.selection.tried)) for side in found.sides) == [
        ("adam, validation=0.1", 2),
        ("sgd lr=0.1, validation=0", 1),
        ("sgd lr=0.2, validation=0", 1),
    ]
    assert found.has_unselected
    assert any(note.startswith("no setting was chosen, since there are no validation figures") for note in notes(found))


def test_jobs_that_are_not_finished_are_pending_until_then() -> None:
    jobs = arm(0, counts(430, 430, 430, 430), optimizer="sgd")
    ends = [
        job_record(jobs[0].spec, 0, status=Status.RUNNING),
        failed_job(jobs[1].spec, 1),
        job_record(jobs[2].spec, 2, status=Status.CANCELLED),
        jobs[3],
    ]
    (side,) = compared(ends).sides
    assert side.missing == {
        0: MissingFigure("running", is_lost=False, is_pending=True),
        1: MissingFigure("failed", is_lost=True, is_pending=False),
        2: MissingFigure("cancelled", is_lost=True, is_pending=False),
    }
    no_figure = compared(jobs[:1], metric="validation").sides[0]
    assert no_figure.missing == {0: MissingFigure("no validation figure")}


def test_comparison_is_running_while_a_job_of_any_setting_is_unfinished() -> None:
    one, two = setting(0, 90, optimizer="sgd:lr=0.1"), setting(100, 80, optimizer="sgd:lr=0.2")
    assert not compared(one, two, by="optimizer").is_running
    unfinished = [*two[:7], job_record(two[7].spec, 107)]
    assert compared(one, unfinished, by="optimizer").is_running
    assert not compared(one, cancelled(two, 7), by="optimizer").is_running


def test_sides_are_in_the_order_of_their_means_and_those_without_a_figure_last() -> None:
    jobs = {name: arm(100 * i, counts(400 + i), optimizer=name) for i, name in enumerate(("sgd", "adam", "adamw"))}
    queued = [job_record(specs(optimizer="adagrad")[0], 900)]
    found = compared(queued, *jobs.values())
    assert [side.spec.optimizer for side in found.sides] == ["adamw", "adam", "sgd", "adagrad"]
    losses = [with_figures(job, test_loss=0.1 * (i + 1)) for i, (job,) in enumerate(jobs.values())]
    low = compared(queued, losses, metric="loss")
    assert [side.spec.optimizer for side in low.sides] == ["sgd", "adam", "adamw", "adagrad"]
    same = compared(*[arm(100 * i, counts(400), optimizer=name) for i, name in enumerate(("sgd", "adam"))])
    assert [side.spec.optimizer for side in same.sides] == ["adam", "sgd"]


def test_sides_are_in_the_order_of_their_medians_where_a_target_was_never_reached() -> None:
    """The mean of adam, 4 epochs, is above the median of sgd."""
    one, two = (arm(100 * i, counts(400, 400, 400), optimizer=name) for i, name in enumerate(("sgd", "adam")))
    reached = [[10, 90], [10, 90], [10]], [[90], [90], [*[10] * 9, 90]]
    curves = {
        job.id: curve(each)
        for jobs, own in zip((one, two), reached, strict=True)
        for job, each in zip(jobs, own, strict=True)
    }
    found = compared(one, two, metric="epochs", target="85", curves=curves)
    assert [(side.spec.optimizer, side.median, side.missed) for side in found.sides] == [
        ("adam", 1, ()),
        ("sgd", 2, (2,)),
    ]
    assert [side.summary is None for side in found.sides] == [False, True]
    assert [side.interval is None for side in found.sides] == [False, True]


@pytest.mark.parametrize(("most", "is_refused"), [(2, True), (3, False), (None, False)])
def test_pairs_have_a_limit(most: int | None, is_refused: bool) -> None:
    jobs = [job for i in (1, 2, 3) for job in arm(100 * i, counts(400), optimizer=f"sgd:lr=0.{i}")]
    if is_refused:
        with pytest.raises(SpecError, match="3 arms make 3 pairs, more than the 2 that can be compared here"):
            compare(jobs, [], {}, ComparisonParams(), most)
    else:
        assert len(compare(jobs, [], {}, ComparisonParams(), most).pairs) == 3


def test_intervals_are_simultaneous_over_the_tests() -> None:
    sides = [arm(100 * i, counts(400 + i, 402 + 2 * i), optimizer=f"sgd:lr=0.{i}") for i in (1, 2, 3)]
    assert compared(*sides).confidence == pytest.approx(1 - 0.05 / 3)
    far = arm(900, {9: 400}, optimizer="adam")
    found = compared(sides[0], sides[1], far)
    assert (len(found.pairs), found.tests, found.confidence) == (3, 1, 0.95)
    assert compared(sides[0]).confidence == 0.95
    (pair,) = [pair for pair in found.pairs if pair.paired]
    assert pair.paired is not None
    assert pair.paired.t_simultaneous == pair.paired.t_interval


def test_pairs_without_a_common_seed_have_no_evidence() -> None:
    (pair,) = compared(arm(0, {0: 400}, optimizer="sgd"), arm(9, {1: 410}, optimizer="adam")).pairs
    assert (pair.paired, pair.anytime, pair.p_adjusted, pair.differences) == (None, None, 1.0, [])


def test_anytime_interval_is_shown_once_it_is_bounded() -> None:
    for n, is_bounded in ((6, False), (7, True)):
        (pair,) = compared(
            arm(0, counts(*[400] * n), optimizer="sgd"), arm(50, counts(*[402] * n), optimizer="adam")
        ).pairs
        assert pair.anytime is not None
        assert (pair.anytime.interval is not None) == is_bounded
        assert pair.anytime.n == n


def test_settings_of_one_side_share_the_fields_compared() -> None:
    found = arms(
        [
            *setting(0, 90, optimizer="sgd:lr=0.1"),
            *setting(100, 80, optimizer="adam"),
            *setting(200, 80, optimizer="sgd:lr=0.3"),
        ]
    )
    assert {label: len(own) for label, own in group_settings(found, ("optimizer",)).items()} == {"sgd": 2, "adam": 1}
    assert {label: len(own) for label, own in group_settings(found, ()).items()} == {
        "sgd lr=0.1": 1, "adam lr=0.001": 1, "sgd lr=0.3": 1,
    }  # fmt: skip


def test_sides_are_labeled_by_what_they_have() -> None:
    (sgd,), (adam,) = specs(optimizer="sgd:lr=0.1,momentum=0.9"), specs(optimizer="adam")
    assert by_label(sgd, ("momentum",)) == "momentum=0.9"
    assert by_label(adam, ("momentum",)) == "without momentum"
    assert by_label(adam, ("momentum", "nesterov")) == "without momentum, nesterov"
    assert by_label(sgd, ("optimizer", "momentum", "nesterov")) == "sgd momentum=0.9"
    assert by_label(sgd, ("momentum", "nesterov")) == "momentum=0.9 nesterov=false"


def test_sides_without_a_choice_need_no_common_seed() -> None:
    sgd, adam = arm(0, {0: 400}, optimizer="sgd:lr=0.1"), arm(9, {1: 400}, optimizer="adam")
    assert compared(sgd, adam, by="optimizer").choosing == ()
    assert compared(sgd, arm(20, {1: 400}, optimizer="sgd:lr=0.2"), by="optimizer").choosing == ()


def test_formulas_of_one_name_are_sides_of_their_own_where_optimizers_are_compared() -> None:
    texts = "mine: p = p - lr*k*g", "mine: p = p - lr*k*sign(g)"
    jobs = [setting(100 * i, 90 - i, optimizer="mine:k=1", formula=text, lr=0.1) for i, text in enumerate(texts)]
    labels = sorted(side.label for side in compared(*jobs, setting(900, 80, optimizer="sgd"), by="optimizer").sides)
    assert [label.partition("=")[0] for label in labels] == ["mine, formula", "mine, formula", "sgd"]
    assert labels[0] != labels[1]
    alone = compared(jobs[0], setting(900, 80, optimizer="sgd"), by="optimizer").sides
    assert [side.label for side in alone] == ["mine", "sgd"]
    (side,) = compared(*jobs, by="lr").sides
    assert (side.label, len(side.selection.tried)) == ("lr=0.1", 2)
    (constant,) = compared(*jobs, by="k").sides
    assert constant.label == "k=1"


def test_typed_label_is_a_whole_one_or_the_beginning_of_a_single_one() -> None:
    labels = ["adam", "adamw", "sgd lr=0.1"]
    assert [find_label(typed, labels) for typed in ("adam", "adamw", "s")] == ["adam", "adamw", "sgd lr=0.1"]
    for typed, message in (("ada", "several arms begin with 'ada'"), ("b", "no arm is called 'b'")):
        with pytest.raises(SpecError, match=f"{message}: type one of adam; adamw; sgd lr=0.1"):
            find_label(typed, labels)


def test_fields_to_compare_by_are_named_once_each() -> None:
    assert parse_by(" lr, optimizer,lr ") == ("lr", "optimizer")
    assert parse_by("") == parse_by(None) == ()
    with pytest.raises(SpecError, match="the spec has no field 'constant'"):
        compared(setting(0, 90), by="constant")
    assert math.isclose(compared(setting(0, 90), by="momentum").sides[0].values[7], 86.0)


# The seeds that choose


def chosen(*sides: list[JobRecord]) -> tuple[int, ...]:
    return compared(*sides, by="optimizer").choosing


def tuned(seeds: range, validated: int = 90, lr: float = 0.1) -> list[JobRecord]:
    return arm(round(1000 * lr), dict.fromkeys(seeds, 430), validated=validated, optimizer=f"sgd:lr={lr}")


def other(seeds: range) -> list[JobRecord]:
    return arm(900, dict.fromkeys(seeds, 420), validated=80, optimizer="adam")


def test_seeds_that_choose_are_of_those_that_all_arms_have() -> None:
    settings = [*tuned(range(10)), *tuned(range(10), 80, lr=0.2)]
    assert chosen(settings, other(range(10))) == (0, 1, 2, 3, 4)
    assert chosen(settings, other(range(4, 10))) == (4, 5, 6)
    assert chosen(settings, other(range(20, 30))) == (0, 1, 2, 3, 4)  # no arm can be compared with adam
    lost = cancelled(other(range(8)), 0)
    assert chosen(settings, lost) == (1, 2, 3)


def test_settings_that_are_not_ranked_have_no_say_in_the_seeds_that_choose() -> None:
    settings = [*tuned(range(12)), *tuned(range(12), 80, lr=0.2)]
    failed = [failed_job(job.spec, 500 + i) for i, job in enumerate(tuned(range(12), lr=0.3))]
    assert chosen(settings, failed, other(range(4, 12))) == (4, 5, 6, 7)


def test_settings_without_a_validation_split_have_no_say_in_the_seeds_that_choose() -> None:
    settings = [*tuned(range(10)), *tuned(range(10), 80, lr=0.2)]
    plain = [arm(700 + 20 * i, dict.fromkeys(range(20, 30), 400), optimizer=f"adam:lr=0.{i}") for i in (1, 2)]
    assert chosen(settings, *plain) == (0, 1, 2, 3, 4)


def test_choice_of_equal_settings_does_not_depend_on_their_order() -> None:
    one, two = tuned(range(8)), tuned(range(8), lr=0.2)
    assert [compared(*sides, by="optimizer").sides[0].spec.lr for sides in ((one, two), (two, one))] == [0.1, 0.1]


def test_choice_is_pending_only_while_jobs_of_its_seeds_are_unfinished() -> None:
    for seed, pending in ((1, (1,)), (9, ())):
        settings = [*tuned(range(10)), *cancelled(tuned(range(10), 80, lr=0.2), seed, Status.QUEUED)]
        (side,) = [side for side in compared(settings, other(range(10)), by="optimizer").sides if side.label == "sgd"]
        assert side.selection.pending == pending


@pytest.mark.parametrize("correct", [410, 430])
def test_pair_has_no_anytime_test_while_the_choice_of_either_side_may_change(correct: int) -> None:
    settings = [*tuned(range(10)), *cancelled(tuned(range(10), 80, lr=0.2), 1, Status.QUEUED)]
    adam = arm(900, counts(*[correct + 10] * 10), validated=80, optimizer="adam")
    (pair,) = compared(settings, adam, by="optimizer").pairs
    assert (pair.a.label, pair.anytime) == ("sgd" if correct == 410 else "adam", None)


# Means, pairs and their tests


@pytest.mark.parametrize("has_queued", [False, True])
def test_sides_are_in_the_order_of_their_means_and_not_of_their_medians(has_queued: bool) -> None:
    mean, median = (
        arm(100 * i, counts(*own), optimizer=name)
        for i, (name, own) in enumerate((("sgd", (400, 400, 500)), ("adam", (410, 410, 410))))
    )
    queued = [job_record(specs(optimizer="adagrad")[0], 900)] if has_queued else []
    assert [side.spec.optimizer for side in compared(mean, median, queued).sides][:2] == ["sgd", "adam"]


def test_p_values_of_both_tests_are_holms() -> None:
    sides = [
        arm(100 * i, counts(*own), optimizer=f"sgd:lr=0.{i}")
        for i, own in enumerate(([430] * 9, [431, 429, 431, 430, 431, 432, 431, 433, 431], [440] * 9), 1)
    ]
    pairs = compared(*sides).pairs
    anytime = [pair.anytime for pair in pairs if pair.anytime]
    assert [each.p_adjusted for each in anytime] == holm([each.p for each in anytime])
    assert [pair.p_adjusted for pair in pairs] == holm([pair.paired.p_value for pair in pairs if pair.paired])
    assert len(anytime) == 3
    for pair in pairs:
        assert pair.anytime is not None
        expected = anytime_interval(pair.differences, 0.05 / 3)
        assert pair.anytime.interval == (expected if expected.is_bounded else None)


@pytest.mark.parametrize("correct", [410, 430])
def test_unfinished_seed_of_either_side_holds_later_pairs_back(correct: int) -> None:
    adam = cancelled(arm(900, counts(*[correct] * 8), optimizer="adam"), 3, Status.RUNNING)
    (pair,) = compared(arm(0, counts(*[420] * 8), optimizer="sgd"), adam).pairs
    assert pair.anytime is not None
    assert (pair.anytime.n, len(pair.seeds)) == (3, 7)


def test_seed_that_was_not_submitted_in_one_side_holds_nothing_back() -> None:
    (pair,) = compared(
        arm(0, {0: 420, 2: 420}, optimizer="sgd"), arm(900, counts(410, 410, 410), optimizer="adam")
    ).pairs
    assert pair.anytime is not None
    assert pair.anytime.n == 2
