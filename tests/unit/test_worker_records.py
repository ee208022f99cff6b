"""What a worker can run, and by which engine; and what its messages and the records of data sets say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from markupsafe import Markup

from mlpq.data_records import DataSetRecord
from mlpq.jobs import Engine, Status
from mlpq.records import UnreadableJob
from mlpq.results_view import COLUMNS, flat
from mlpq.spec.data_content import DataContent
from mlpq.text import bounded, printable_value, reason_line
from mlpq.worker_records import TrainingSetup, WorkerCapabilities, WorkerRecord
from mlpq_workers.protocol import Ready
from tests.support.compared_arms import diverged
from tests.support.result_rows import curve, job_record, specs

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
BOTH = WorkerCapabilities("cpu", kernel=True, torch=True, plugins=frozenset({"mine==1"}))
KERNEL_ONLY = replace(BOTH, torch=False)
TORCH_ONLY = replace(BOTH, kernel=False)


@pytest.mark.parametrize(
    ("worker", "world_size", "engine", "package", "uses_kernel"),
    [
        (BOTH, 1, None, None, True),
        (BOTH, 1, Engine.KERNEL, None, True),
        (BOTH, 1, Engine.PLAIN, None, False),
        (BOTH, 1, Engine.GANG, None, False),
        (BOTH, 2, None, None, False),
        (BOTH, 1, None, "mine==1", False),
        (KERNEL_ONLY, 1, Engine.PLAIN, None, True),  # it has no other
        (KERNEL_ONLY, 1, None, "mine==1", False),
        (TORCH_ONLY, 1, None, None, False),
    ],
)
def test_jobs_of_one_process_run_by_the_kernel_unless_they_need_torch(
    worker: WorkerCapabilities, world_size: int, engine: Engine | None, package: str | None, uses_kernel: bool
) -> None:
    assert worker.uses_kernel(world_size, engine, package) is uses_kernel


def test_engine_can_be_chosen_by_who_has_both_for_one_process() -> None:
    assert [each.can_choose(1) for each in (BOTH, KERNEL_ONLY, TORCH_ONLY)] == [True, False, False]
    assert not BOTH.can_choose(2)
    assert BOTH.packages == {"mine==1", "torch"}
    assert KERNEL_ONLY.packages == frozenset()
    assert BOTH.usual_setup == TrainingSetup(1, True)
    assert replace(BOTH, world_size=2).usual_setup == TrainingSetup(2, False)


WORKER = WorkerRecord(
    "w",
    "cuda",
    "H100",
    most_ranks=2,
    world_size=1,
    jobs_done=0,
    jobs_running=0,
    started_at=NOW,
    beat_at=NOW,
    now=NOW,
)


@pytest.mark.parametrize(
    ("request_", "can_run"),
    [
        (("auto", None), True),
        (("cuda", 2), True),
        (("cpu", 1), False),
        (("cuda", 3), False),
    ],
)
def test_worker_runs_jobs_for_its_device_and_processes(request_: tuple[Any, ...], can_run: bool) -> None:
    assert WORKER.can_run(*request_) is can_run


def test_worker_without_processes_to_spare_runs_jobs_that_request_none() -> None:
    assert replace(WORKER, most_ranks=1).can_run("auto", None)


def test_training_process_says_what_it_is() -> None:
    ready = Ready("cpu", "x86", 1, {"world_size": 2, "kernel": None})
    assert (ready.world_size, ready.uses_kernel, ready.plugin) == (2, False, None)
    other = replace(ready, facts={"world_size": 1, "kernel": "k", "plugin": "mine==1"})
    assert (other.uses_kernel, other.plugin) == (True, "mine==1")


def test_accuracies_are_shares_of_the_images() -> None:
    (epoch,) = curve([80], validation=[30])
    assert (epoch.test_accuracy, epoch.validation_accuracy) == (0.8, 0.3)
    assert curve([80])[0].validation_accuracy is None
    assert replace(epoch, validation_total=0).validation_accuracy is None


def test_unreadable_job_has_only_what_is_known() -> None:
    found = flat(UnreadableJob("x", "lab", Status.FAILED, "lr must be a number", None))
    assert list(found) == list(COLUMNS)
    known = {key: value for key, value in found.items() if value is not None}
    assert known == {"id": "x", "experiment": "lab", "status": "failed", "error": "unreadable: lr must be a number"}


def test_job_is_flat_with_and_without_a_result() -> None:
    (spec,) = specs(optimizer="sgd", weight_decay=0.1)
    found = flat(job_record(spec, 1, 450))
    assert (found["weight_decay"], found["test_correct"], found["test_accuracy"]) == (0.1, 450, 0.9)
    assert found["arithmetic"] is found["data_sha256"] is None
    (lost,) = diverged([job_record(spec, 1, 450)])
    assert (flat(lost)["outcome"], flat(lost)["test_correct"]) == ("diverged", None)


CONTENT = DataContent(sha256="ab" * 32, features=4, classes=2, train=10, test=5)


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ({"classes": ["a", "b"]}, ("a", "b")),
        ({"classes": [0, 1]}, ("0", "1")),
        ({"classes": ["a"]}, ()),
        ({"classes": "ab"}, ()),
        ({}, ()),
    ],
)
def test_classes_have_names_where_all_of_them_do(about: dict[str, Any], names: tuple[str, ...]) -> None:
    record = DataSetRecord(1, "wine", CONTENT, 100, about, NOW)
    assert record.dataset.class_names == names
    assert record.reference == "wine@abababab"


def test_text_of_others_is_shown_without_controls_and_cut_in_its_middle() -> None:
    assert printable_value("a\x1bb") == "ab"
    assert printable_value(3) == 3
    markup = Markup("<b>\x1b</b>")
    assert printable_value(markup) is markup
    assert reason_line(ValueError("two\nlines\x1b")) == "ValueError: two lines"
    whole = "a" * 2000 + "b" * 2000
    assert bounded(whole) == whole
    cut = bounded(f"{whole}c")
    assert cut == f"{'a' * 1950} … (101 characters left out) … {'b' * 1949}c"
    assert bounded("nul\0") == "nul\\0"
