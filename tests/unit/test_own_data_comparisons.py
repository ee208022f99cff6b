"""Comparisons over own data sets: contents are never mixed, and are named where a name has several."""

from __future__ import annotations

from mlpq import formatting
from mlpq.analysis import fairness
from mlpq.analysis.arms import arms
from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import compare
from mlpq.analysis.grouping import group_settings, select_settings
from mlpq.analysis.labels import arm_labels, settings_labels
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.problems import split_problems
from mlpq.analysis.verdicts import on_data
from mlpq.records import JobRecord
from mlpq.spec.data_content import DataContent
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from tests.support.result_rows import job_record

FIRST = DataContent(sha256="1" * 64, features=4, classes=3, train=400, test=500)
SECOND = FIRST.model_copy(update={"sha256": "2" * 64})


def specs(content: DataContent | None, **keys: object) -> list[JobSpec]:
    name = "digits" if content is None else "wine"
    contents = {} if content is None else {name: content}
    return Sweep.parse({"dataset": name, "optimizer": ["sgd", "adam"], **keys}).jobs(contents=contents)


def records(*of: list[JobSpec]) -> list[JobRecord]:
    return [job_record(spec, i, 400 + i) for i, spec in enumerate(spec for each in of for spec in each)]


def test_contents_of_one_name_are_settings_of_different_groups() -> None:
    found = arms(records(specs(FIRST, lr=[0.1, 0.2]), specs(SECOND, lr=[0.1, 0.2])))
    groups = group_settings(found, ("optimizer",))
    assert list(groups) == ["sgd, wine@11111111", "adam, wine@11111111", "sgd, wine@22222222", "adam, wine@22222222"]
    assert all(len({arm.spec.content for arm in each}) == 1 for each in groups.values())
    assert len(select_settings(found, ("dataset",)).selections) == 8  # without validation figures nothing is chosen
    assert list(group_settings(found, ("dataset",))) == ["wine@11111111", "wine@22222222"]


def test_hash_is_shown_only_where_two_contents_share_the_name() -> None:
    alone = arms(records(specs(FIRST), specs(None)))
    assert arm_labels(alone) == ["sgd, wine", "adam, wine", "sgd, digits", "adam, digits"]
    assert list(group_settings(alone, ("dataset",))) == ["wine", "digits"]
    shared = arms(records(specs(FIRST, optimizer="sgd"), specs(SECOND, optimizer="sgd"), specs(None, optimizer="sgd")))
    assert arm_labels(shared) == ["wine@11111111", "wine@22222222", "digits"]
    assert settings_labels([arm.spec for arm in shared]) == arm_labels(shared)
    assert on_data([arm.spec for arm in shared]) == "on wine@11111111, wine@22222222 and digits"
    assert on_data([arm.spec for arm in shared[1:]]) == "on wine and digits"
    assert formatting.data_set(shared[0].spec) == "wine"


def test_contents_are_problems_of_their_own() -> None:
    split = split_problems("lab", records(specs(FIRST), specs(SECOND)), ("optimizer",))
    assert [name for name, _ in split] == ["lab: wine@11111111", "lab: wine@22222222"]
    assert [{job.spec.content for job in jobs} for _, jobs in split] == [{FIRST}, {SECOND}]


def test_settings_are_chosen_within_a_content() -> None:
    keys = {"lr": [0.1, 0.2], "validation": 0.1, "optimizer": "sgd"}
    found = best_of(records(specs(FIRST, **keys), specs(SECOND, **keys)))
    assert [each.optimizer for each in found] == ["sgd, wine@11111111", "sgd, wine@22222222"]
    assert [each.settings for each in found] == [2, 2]


def test_comparison_of_two_contents_says_that_the_data_differ() -> None:
    comparison = compare(
        records(specs(FIRST, optimizer="sgd"), specs(SECOND, optimizer="sgd")), (), {}, ComparisonParams()
    )
    notes = fairness.notes(comparison)
    assert "unequal dataset: wine@22222222 in wine@22222222; wine@11111111 in wine@11111111" in notes
    assert [side.label for side in comparison.sides] == ["wine@22222222", "wine@11111111"]
