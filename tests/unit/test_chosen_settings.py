"""The setting that represents a side: chosen by validation accuracy, on other seeds than it is compared on."""

from __future__ import annotations

import pytest

from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.fairness import notes
from mlpq.analysis.verdicts import verdict
from mlpq.errors import SpecError
from mlpq.records import JobRecord
from tests.support.compared_arms import arm, compared, counts, diverged
from tests.support.result_rows import failed_job, job_record, with_figures

SGD = arm(0, counts(440, 441, 439, 442, 440, 438, 441, 440, 439, 442), optimizer="sgd:lr=0.1")
ADAM = arm(50, counts(442, 444, 441, 443, 442, 440, 444, 442, 441, 443), optimizer="adam")


def test_settings_are_chosen_by_validation_and_never_by_the_test_set() -> None:
    good = arm(0, counts(400, 400), validated=90, optimizer="sgd:lr=0.1")
    lucky = arm(20, counts(450, 450), validated=80, optimizer="sgd:lr=0.5")
    adam = arm(40, counts(420, 420), validated=85, optimizer="adam")
    found = compared(good, lucky, adam, by="optimizer")
    sides = {side.label: side.spec.lr for side in found.sides}
    assert sides == {"adam": 0.001, "sgd": 0.1}
    choice = (
        "sgd is represented by lr=0.1, chosen from 2 settings by mean validation accuracy on seeds 0,1; runner-up lr="
    )
    assert any(note.startswith(f"{choice}0.5") for note in notes(found))
    assert any(
        note.startswith("unequal tuning budgets: adam with 1 setting, sgd with 2 settings") for note in notes(found)
    )


def test_without_validation_no_setting_is_chosen() -> None:
    found = compared(SGD, arm(20, counts(450, 450), optimizer="sgd:lr=0.5"), ADAM, by="optimizer")
    assert [side.label for side in found.sides] == ["sgd lr=0.5", "adam", "sgd lr=0.1"]
    assert any(note.startswith("no setting was chosen, since there are no validation figures") for note in notes(found))


def test_a_lucky_seed_of_a_setting_that_diverged_on_the_others_is_not_chosen() -> None:
    steady = arm(0, counts(*[440] * 10), validated=88, optimizer="sgd:lr=0.1")
    wild = arm(20, counts(*[450] * 10), validated=89, optimizer="sgd:lr=1")
    found = compared(steady, [*wild[:1], *diverged(wild[1:])], by="optimizer")
    assert [side.spec.lr for side in found.sides] == [0.1]
    (choice,) = [note for note in notes(found) if note.startswith("sgd is represented by lr=0.1, chosen from 2")]
    assert "runner-up lr=1, 62.20 points below" in choice  # four of the five that choose count as chance, 10 %


def test_settings_are_chosen_on_the_seeds_that_all_of_them_have() -> None:
    few = arm(0, counts(440, 440), validated=88, optimizer="sgd:lr=0.1")
    many = arm(20, counts(440, 440), validated=87, optimizer="sgd:lr=1")
    many += arm(30, dict.fromkeys(range(2, 9), 440), validated=95, optimizer="sgd:lr=1")
    (side,) = compared(few, many, by="optimizer").sides
    assert (side.spec.lr, side.selection.seeds) == (0.1, (0, 1))


def test_settings_are_not_chosen_across_data_sets() -> None:
    records = [
        *arm(0, counts(400, 400), validated=80, optimizer="adam"),
        *arm(20, counts(490, 490), validated=98, optimizer="adam", dataset="mnist"),
    ]
    found = compared(records, arm(60, counts(410, 410), validated=80, optimizer="sgd"), by="optimizer")
    assert [side.label for side in found.sides] == ["adam, mnist", "sgd, digits", "adam, digits"]
    assert best_of(records) == []


def test_settings_of_any_field_count_in_the_tuning_budget() -> None:
    batches = [
        arm(20 * i, counts(430, 430 + i), validated=80 + i, optimizer="adam", batch_size=2**i) for i in (4, 5, 6)
    ]
    found = notes(compared(*batches, arm(0, counts(400, 400), validated=70, optimizer="sgd"), by="optimizer"))
    assert any(note.startswith("unequal tuning budgets: adam with 3 settings, sgd with 1 setting") for note in found)
    assert any(note.startswith("adam is represented by batch size=64, chosen from 3 settings") for note in found)
    assert any(note.startswith("unequal batch size: 64 in adam; 32 in sgd") for note in found)


@pytest.mark.parametrize("validated", [90, None])
def test_tuning_budgets_are_those_of_what_is_compared(validated: int | None) -> None:
    cosine = [
        arm(20 * i, counts(430, 431), validated, optimizer=name, schedule="cosine")
        for i, name in enumerate(("adam:lr=0.1", "adam:lr=0.3", "sgd:lr=1"))
    ]
    constant = arm(100, counts(430, 431), validated, optimizer="sgd:lr=1")
    (note,) = budgets(compared(*cosine, constant, by="schedule"))
    assert sorted(note.removeprefix("unequal tuning budgets: ").partition(";")[0].split(", ")) == [
        "schedule=constant with 1 setting", "schedule=cosine with 3 settings",
    ]  # fmt: skip
    (by_optimizer,) = budgets(compared(*cosine, constant, by="optimizer,schedule"))
    assert "adam schedule=cosine with 2 settings" in by_optimizer


def test_equal_tuning_budgets_have_no_note() -> None:
    sides = [
        arm(20 * i, counts(430, 431), 90, optimizer=name, schedule=schedule)
        for i, (name, schedule) in enumerate(
            [("adam", "cosine"), ("sgd:lr=1", "cosine"), ("sgd:lr=1", "constant"), ("sgd:lr=2", "constant")]
        )
    ]
    assert budgets(compared(*sides, by="schedule")) == []
    assert budgets(compared(sides[1], sides[2], by="schedule")) == []


def test_tuning_budgets_of_optimizers_are_named_where_each_setting_is_a_side() -> None:
    settings = tuned(0.1, 0, [90] * 3), tuned(0.3, 100, [90] * 3), other(3)
    for by in ("", "optimizer,lr"):
        (note,) = budgets(compared(*settings, by=by))
        assert "sgd with 2 settings" in note


def budgets(found: Comparison) -> list[str]:
    return [note for note in notes(found) if note.startswith("unequal tuning budgets: ")]


def tuned(lr: float, first: int, validated: list[int], correct: int = 430) -> list[JobRecord]:
    """An arm of SGD with these validation accuracies in percent, by seed, and always the same count on the test set."""
    jobs = arm(first, counts(*[correct] * len(validated)), validated=1, optimizer=f"sgd:lr={lr}")
    return [with_figures(job, validation_correct=own) for job, own in zip(jobs, validated, strict=True)]


def other(seeds: int) -> list[JobRecord]:
    return arm(900, counts(*[425] * seeds), validated=80, optimizer="adam")


def test_the_first_half_of_the_seeds_chooses_and_the_others_compare() -> None:
    """On all seeds the second setting is better: only those that choose may count."""
    found = compared(tuned(0.1, 0, [90] * 5 + [50] * 6), tuned(1, 100, [80] * 11), other(11), by="optimizer")
    (sgd,) = [side for side in found.sides if side.label == "sgd"]
    assert (sgd.spec.lr, sgd.selection.seeds, found.choosing) == (0.1, (0, 1, 2, 3, 4), (0, 1, 2, 3, 4))
    assert [list(side.values) for side in found.sides] == [[5, 6, 7, 8, 9, 10]] * 2
    assert [side.missing for side in found.sides] == [{}, {}]
    assert found.pairs[0].seeds == (5, 6, 7, 8, 9, 10)
    assert "the seeds that chose, 0..4, are left out of the comparison" in notes(found)


def test_choose_seeds_names_the_seeds_that_choose() -> None:
    sides = tuned(0.1, 0, [90] * 5 + [50] * 6), tuned(1, 100, [80] * 11), other(11)
    found = compared(*sides, by="optimizer", choose_seeds="6..10")
    (sgd,) = [side for side in found.sides if side.label == "sgd"]
    assert (sgd.spec.lr, sgd.selection.seeds, found.pairs[0].seeds) == (1, (6, 7, 8, 9, 10), (0, 1, 2, 3, 4, 5))
    for seeds, by, words in (
        ("0..10", "optimizer", "--choose-seeds 0..10 leaves no seed to compare on"),
        ("0..4", "lr,optimizer", "no side has several settings to choose from: leave --choose-seeds out"),
        ("0..4", "", "--choose-seeds chooses between the settings of a side: add --by optimizer"),
        ("4..0", "optimizer", "--choose-seeds: the seed range '4..0' is empty"),
    ):
        with pytest.raises(SpecError, match=words):
            compared(*sides, by=by, choose_seeds=seeds)


def test_too_few_seeds_to_choose_and_compare_are_reported_with_what_is_enough() -> None:
    few = compared(tuned(0.1, 0, [90] * 7), tuned(1, 100, [80] * 7), other(7), by="optimizer")
    assert (few.choosing, few.pairs[0].seeds) == ((0, 1, 2), (3, 4, 5, 6))
    assert any("the choice leaves 4 pairs, and significance needs 6: submit 11 seeds" in note for note in notes(few))
    both = compared(tuned(0.1, 0, [90] * 3), tuned(1, 100, [80] * 3), other(3), by="optimizer")
    assert (both.is_shared, both.pairs[0].seeds) == (True, (0, 1, 2))
    assert any(note.startswith("3 seeds can't both choose settings and compare them") for note in notes(both))
    assert any("11 seeds in every arm would be enough" in note for note in notes(both))


def test_a_choice_that_is_a_coin_toss_is_shown_as_one() -> None:
    one, two = tuned(0.1, 0, [80, 82] * 5), tuned(0.3, 100, [82, 80] * 5)
    (note, *_) = [note for note in notes(compared(one, two, other(10), by="optimizer")) if note.startswith("sgd is")]
    assert "runner-up lr=0.1, 0.40 points below; resampled seeds choose these two in " in note
    # lr=0.3 is better on three of the five seeds, so a resample chooses it with a probability of 68.3 %.
    assert note.endswith("resampled seeds choose these two in 69 : 31 %")


@pytest.mark.parametrize(
    ("chosen", "edge"), [(0.1, "lr=0.1 is the smallest of 3 tried"), (0.3, ""), (1, "lr=1 is the largest of 3 tried")]
)
def test_a_choice_at_the_edge_of_the_grid_is_noted(chosen: float, edge: str) -> None:
    settings = [tuned(lr, 100 * i, [90 if lr == chosen else 80] * 8) for i, lr in enumerate((0.1, 0.3, 1))]
    found = [note for note in notes(compared(*settings, by="optimizer")) if "edge" in note]
    assert found == ([f"sgd was chosen at the edge of its grid: {edge}; widen the grid"] if edge else [])


def test_a_choice_is_not_final_while_jobs_that_choose_are_unfinished() -> None:
    one, two = tuned(0.1, 0, [90] * 12), tuned(0.3, 100, [80] * 12)
    two[2] = job_record(two[2].spec, 102)
    found = compared(one, two, other(12), by="optimizer")
    (sgd,) = [side for side in found.sides if side.label == "sgd"]
    assert (sgd.selection.seeds, sgd.selection.pending) == ((0, 1, 3, 4, 5), (2,))
    assert "the choice for sgd may change: seeds 2 are not finished" in notes(found)
    (pair,) = found.pairs
    assert pair.anytime is None
    assert verdict(pair, found.metric, 1, is_running=True).startswith("not decided yet between sgd and adam: ")


def test_a_setting_that_failed_for_other_reasons_does_not_shrink_the_common_seeds() -> None:
    lost = [failed_job(job.spec, 200 + i) for i, job in enumerate(tuned(1, 0, [90] * 12))]
    found = compared(tuned(0.1, 0, [90] * 12), tuned(0.3, 100, [80] * 12), lost, other(12), by="optimizer")
    assert found.choosing == (0, 1, 2, 3, 4, 5)
    assert any("chosen from 2 of 3 settings (the others have failed seeds" in note for note in notes(found))
