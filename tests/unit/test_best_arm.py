"""The best arm of an experiment: by validation where all arms have it, else by the test accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from mlpq.analysis.best_arm import best_arm
from mlpq.records import JobRecord
from tests.support.compared_arms import arm, counts, diverged


def found(*sides: Sequence[JobRecord]) -> tuple[str, bool, int] | None:
    best = best_arm([job for side in sides for job in side], [])
    return None if best is None else (best.label.partition(" ")[0], best.by_validation, best.of)


def test_best_arm_has_the_best_mean_test_accuracy_without_validation() -> None:
    worse, better = arm(1, counts(400, 420), optimizer="sgd"), arm(10, counts(430, 410), optimizer="adam")
    queued = arm(20, {0: None, 1: None}, optimizer="adagrad")
    assert found(worse, better, queued) == ("adam", False, 2)
    best = best_arm([*worse, *better], [])
    assert best is not None
    assert [job.id for job in best.arm.records] == [job.id for job in better]


def test_best_arm_is_chosen_by_validation_where_all_arms_have_it() -> None:
    validated = arm(1, counts(400), validated=90, optimizer="sgd"), arm(9, counts(450), validated=80, optimizer="adam")
    assert found(*validated) == ("sgd", True, 2)
    without = arm(20, counts(440), optimizer="adagrad", validation=0.1)
    assert found(*validated, without) == ("adam", False, 3)


def test_diverged_seeds_count_as_guessing() -> None:
    lost = diverged(arm(30, {1: 0}, validated=0, optimizer="sgd"))
    steady = arm(40, {0: 400, 1: 400}, validated=60, optimizer="adam")
    assert found([*arm(1, {0: 450}, validated=99, optimizer="sgd"), *lost], steady) == ("adam", True, 2)  # 54.5 %
    assert found([*arm(1, {0: 450}, validated=99, optimizer="sgd"), *lost], arm(40, {0: 9}, 54, optimizer="adam")) == (
        "sgd", True, 2,
    )  # fmt: skip


def test_single_arm_is_shown_with_its_test_accuracy_and_jobs_without_result_have_no_best_arm() -> None:
    assert found(arm(1, counts(400), validated=90, optimizer="sgd")) == ("sgd", False, 1)
    assert found(arm(1, {0: None}, optimizer="sgd")) is None
