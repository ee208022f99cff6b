"""The best arm in lists of experiments: by validation accuracy where all arms have it, else by the test's."""

from __future__ import annotations

import pytest

from mlpq.analysis.best_arm import BestArm, best_arm
from mlpq.records import JobRecord
from tests.support.compared_arms import arm, counts, diverged
from tests.support.result_rows import job_record, with_figures

# Of these the first has the better validation accuracy, the second the better test accuracy.
SGD = arm(0, counts(400, 400), validated=90, optimizer="sgd")
ADAM = arm(10, counts(450, 450), validated=80, optimizer="adam")


def best(*arms: list[JobRecord]) -> BestArm:
    found = best_arm([job for jobs in arms for job in jobs], [])
    assert found is not None
    return found


def test_validation_accuracy_chooses_where_all_arms_have_it() -> None:
    found = best(SGD, ADAM)
    assert (found.label, found.by_validation, found.of) == ("sgd", True, 2)


@pytest.mark.parametrize("without", [0, 1])
def test_test_accuracy_chooses_where_a_result_has_no_validation_accuracy(without: int) -> None:
    jobs = list(SGD)
    jobs[without] = with_figures(jobs[without], validation_correct=None, validation_total=None)
    found = best(jobs, ADAM)
    assert (found.label, found.by_validation, found.of) == ("adam", False, 2)


def test_arms_without_a_result_are_not_counted() -> None:
    queued = [job_record(job.spec, 50 + i) for i, job in enumerate(ADAM)]
    found = best(SGD, queued)
    assert (found.label, found.by_validation, found.of) == ("sgd", False, 1)
    assert best_arm(queued, []) is None
    assert best_arm([], []) is None


def test_diverged_runs_count_with_the_accuracy_of_chance() -> None:
    found = best([SGD[0], *diverged(SGD[1:])], ADAM)
    assert (found.label, found.by_validation) == ("adam", True)  # (90 + 10) / 2 is below 80
    wild = best(diverged(SGD), ADAM)
    assert (wild.label, wild.by_validation, wild.of) == ("adam", False, 2)
    close = [with_figures(job, validation_correct=49) for job in ADAM]
    assert best([SGD[0], *diverged(SGD[1:])], close).label == "sgd"


def test_first_of_equal_arms_is_the_best() -> None:
    same = arm(20, counts(400, 400), validated=90, optimizer="adamw")
    assert [best(*arms).arm.spec.optimizer for arms in ((SGD, same), (same, SGD))] == ["sgd", "adamw"]


def test_single_arm_is_shown_with_its_test_accuracy() -> None:
    found = best(SGD)
    assert (found.label, found.by_validation, found.of) == ("sgd lr=0.001", False, 1)
    assert [job.id for job in found.arm.records] == [job.id for job in SGD]
