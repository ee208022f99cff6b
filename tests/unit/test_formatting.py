"""How specs, figures and states read as text."""

from __future__ import annotations

from typing import Any

import pytest

from mlpq import formatting
from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import WaitingJobs
from mlpq.spec.job import JobSpec
from mlpq.verification_records import Grade
from tests.support.result_rows import failed_job, job_record, job_result, specs


def one(**keys: Any) -> JobSpec:
    (spec,) = specs(**keys)
    return spec


@pytest.mark.parametrize(
    ("keys", "model"),
    [
        ({"hidden": "100,50", "activation": "relu"}, "MLP 100,50 relu"),
        ({"hidden": "none"}, "logistic"),
        (
            {
                "hidden": "8",
                "activation": "tanh",
                "bias": "false",
                "initialisation": "truncated-normal",
                "dropout": 0.5,
                "l1": 1e-5,
            },
            "MLP 8 tanh, no bias, truncated-normal, dropout 0.5, l1 1e-05",
        ),
        ({"hidden": "8", "activation": "relu", "label_smoothing": 0.1}, "MLP 8 relu, label smoothing 0.1"),
    ],
)
def test_model_names_what_is_not_at_its_default(keys: dict[str, Any], model: str) -> None:
    assert formatting.model(one(**keys)) == model


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"optimizer": "sgd", "lr": 0.1}, "sgd lr=0.1"),
        ({"optimizer": "sgd:momentum=0.9,nesterov=true", "lr": 0.1}, "sgd lr=0.1 momentum=0.9 nesterov=true"),
        (
            {"optimizer": "adam", "schedule": "step:size=3,gamma=0.1", "warmup": 0.1, "clip_norm": 2},
            "adam lr=0.001 schedule=step:size=3 warmup=0.1 clip_norm=2",
        ),
        (
            {"optimizer": "adam", "schedule": "one-cycle:three_phase=true"},
            "adam lr=0.001 schedule=one-cycle:three_phase=true",
        ),
        ({"formula": "half: p = p - g/2", "optimizer": "half"}, "half"),
        ({"formula": "mine: p = p - lr*a*g", "optimizer": "mine:a=2", "lr": 0.1}, "mine lr=0.1 a=2"),
    ],
)
def test_optimizer_names_its_rate_and_what_is_not_at_its_default(keys: dict[str, Any], text: str) -> None:
    assert formatting.optimizer(one(**keys)) == text
    assert formatting.optimizer_without_rate(one(**keys)) == " ".join(
        part for part in text.split() if not part.startswith("lr=")
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("optimizer", "adam", "adam"),
        ("dataset", "wine@1a2b3c", "wine"),
        ("content", "wine@1a2b3c", "wine@1a2b3c"),
        ("activation", "relu", "relu"),
        ("batch_size", 32, "batch size=32"),
        ("formula", "p = p - g", "formula=29fd0b"),
        ("bias", False, "bias=false"),
        ("hidden", (100, 50), "hidden=100,50"),
        ("hidden", (), "hidden=none"),
        ("betas", (0.9, 0.999), "betas=0.9/0.999"),
        ("clip_norm", None, "clip norm=none"),
    ],
)
def test_field_reads_as_it_is_typed(name: str, value: object, text: str) -> None:
    assert formatting.field(name, value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1, "0.1"), (1e-5, "1e-05"), (0.1234567, "0.1234567"), (10_000_000, "10000000"), (2.0, "2")]
)
def test_number_is_short_and_exact(value: float, text: str) -> None:
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (0.0404, "40 ms"), (0.0996, "100 ms"), (0.1, "0.1 s"), (9.94, "9.9 s"), (10, "10 s"),
        (59.4, "59 s"), (60, "1:00"), (185.4, "3:05"), (3599, "59:59"), (3600, "1:00:00"), (3723, "1:02:03"),
    ],
)  # fmt: skip
def test_seconds_are_as_precise_as_they_are_short(value: float | None, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h"), (172_799, "48 h"),
        (172_800, "2 d"), (1_036_800, "12 d"),
    ],
)  # fmt: skip
def test_age_is_in_one_unit(value: float, text: str) -> None:
    assert formatting.age(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((), ""), ((3,), "3"), ((0, 1), "0,1"), ((4, 5, 6), "4..6"), ((1, 2, 5), "1,2,5"), ((2, 1, 0), "2,1,0"),
        (tuple(range(0, 16, 2)), "0,2,4,6,8,10,12,14"), (tuple(range(0, 18, 2)), "0,2,4,6,8,10,12,14,…"),
    ],
)  # fmt: skip
def test_consecutive_seeds_are_a_range_and_long_lists_end_after_eight(values: tuple[int, ...], text: str) -> None:
    assert formatting.seeds(values) == text


def test_names_and_counts_are_listed_as_in_a_sentence() -> None:
    assert [formatting.listed(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert [formatting.count_of(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


def test_figures_have_their_counts() -> None:
    result = job_result(one(), 450)
    assert formatting.figures(result) == "450 of 500 (90.00 %)"
    assert (formatting.percent(0.8705), formatting.percent(None), formatting.count(None, None)) == ("87.05 %", "", "")
    assert formatting.mean_and_sd(85.911, 0.234) == "85.91 ± 0.23"
    assert formatting.mean_and_sd(85.911, None) == "85.91"
    assert formatting.short_id("0123456789ab") == "01234567"


def test_what_trained_a_job_is_named() -> None:
    spec = one()
    assert formatting.ran_on(job_result(spec, 1)) == "cpu"
    assert formatting.ran_on(job_result(spec, 1, device="cuda", world_size=2)) == "cuda with 2 processes"
    kernel = job_result(spec, 1, engine=Engine.KERNEL, arithmetic=2)
    assert (formatting.engine(kernel), formatting.arithmetic(kernel)) == ("the kernel (arithmetic 2)", "arithmetic 2")
    assert formatting.engine(job_result(spec, 1, engine=Engine.GANG)) == "torch's stacked engine"
    assert formatting.engine(job_result(spec, 1)) == "torch's plain engine"
    assert formatting.arithmetic(job_result(spec, 1)) == "torch"


def test_status_says_that_a_job_diverged_or_was_cancelled() -> None:
    assert formatting.status(failed_job(one(), 1, Outcome.DIVERGED)) == "diverged"
    assert formatting.status(failed_job(one(), 1)) == "failed"
    assert formatting.status(job_record(one(), 1)) == "queued"
    assert formatting.status_phrase(Status.CANCELLED) == "was cancelled"
    assert formatting.status_phrase(Status.FAILED) == "failed"
    assert formatting.grade_text(Grade.SAME_BITS) == "same bits"


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (WaitingJobs("auto", None, 1), "1 job waiting for a worker; none is alive: mlpq worker"),
        (WaitingJobs("cuda", 1, 4), "4 jobs waiting for a cuda worker; none is alive: mlpq worker --device cuda"),
        (WaitingJobs("cpu", 2, 2), "2 jobs waiting for a cpu worker that can run 2 processes; none is alive"),
        (WaitingJobs("auto", None, 2, "ab" * 32, "wine"), "a worker that has the data set wine; none alive has"),
        (
            WaitingJobs("auto", None, 2, package="mine"),
            "the package mine; none alive has: pip install 'mine' where one",
        ),
        (WaitingJobs("auto", None, 2, package="torch"), "pip install 'mlpq[worker]' where one runs, and restart it"),
    ],
)
def test_waiting_jobs_say_which_worker_they_need(waiting: WaitingJobs, text: str) -> None:
    assert text in formatting.jobs_without_worker(waiting)
