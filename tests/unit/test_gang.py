"""Jobs of a gang: each has the bits that it has alone, and its own curve and ending, whatever happens to others."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpq.records import EpochMetrics
from mlpq.spec.job import INITIALISATIONS, JobSpec
from mlpq_workers.engine import gang as gang_engine
from mlpq_workers.engine.data import split
from mlpq_workers.engine.gang import STACK_PARAMETERS, how_many_stacks
from mlpq_workers.engine.gang_members import GangMember
from mlpq_workers.engine.training_state import Diverged, EngineJob, Observer, Snapshot, Stopped, Trained
from mlpq_workers.trainer.checkpoints import load_start, save
from tests.support.float_pixels import in_floats
from tests.support.gang_training import (
    LEFT,
    OPTIMIZERS_AND_OPTIONS,
    VALIDATION,
    Record,
    assert_same,
    digits,
    few,
    job,
    train_plain,
    train_together,
    without_seconds,
)
from tests.support.training_options import options

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A job and its parent, as canonical JSON."""

    spec: str
    parent: str | None

    def engine_job(self) -> EngineJob:
        return EngineJob(JobSpec.model_validate_json(self.spec), self.start())

    def start(self) -> Snapshot | None:
        return alone(Drawn(self.parent, None)).trained("0").final if self.parent else None


@functools.cache
def alone(drawn: Drawn) -> Record:
    return train_together(drawn.engine_job(), data=few())


# How many parameters a stack may have: each job in its own stack, some together, all in one stack.
STACKS = [1, 2000, STACK_PARAMETERS]
SHAPES = st.fixed_dictionaries(
    {
        "hidden": st.lists(st.sampled_from([1, 2, 7, 16, 20, 33]), max_size=3),
        "activation": st.sampled_from(["sigmoid", "relu", "tanh"]),
        "bias": st.booleans(),
        "batch_size": st.sampled_from([3, 17, 32, 64, 100, LEFT, 2000, 1]),
        "validation": st.sampled_from([0.0, VALIDATION]),
    }
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A random gang, and the calls of `to_stop` after which some of its jobs, by their numbers, are stopped."""

    jobs: tuple[Drawn, ...]
    stops: tuple[tuple[int, int], ...]
    threads: int
    stack_parameters: int


@st.composite
def gangs(draw: st.DrawFn, size: int) -> Case:
    shape: dict[str, Any] = draw(SHAPES)
    shape["hidden"] = ",".join(map(str, shape["hidden"])) or "none"
    optimizers = st.one_of(
        st.sampled_from(["sgd", "sgd:momentum=0.9", "adam"]), st.sampled_from(OPTIMIZERS_AND_OPTIONS)
    )
    jobs = []
    for _ in range(size):
        optimizer = draw(optimizers)
        keys: dict[str, Any] = {
            "optimizer": optimizer,
            "l1": draw(st.sampled_from([0.0, 0.0, 0.001])),
            "epochs": draw(st.integers(1, 3)),
            "seeds": draw(st.sampled_from([1, 2, 42, 43])),
            "dropout": draw(st.sampled_from([0.0, 0.0, 0.2, 0.5])) if shape["hidden"] != "none" else 0.0,
            "initialisation": draw(st.sampled_from(INITIALISATIONS)),
            **shape,
            **options(draw(st.integers(0, 59)), optimizer),
        }
        lr = draw(st.sampled_from([None, 0.001, 0.1, 1.0, 1e30]))
        parent = job(**{**keys, "epochs": 1, "optimizer": "sgd"}) if draw(st.integers(0, 5)) == 5 else None
        if shape["validation"]:
            keys["patience"] = draw(st.sampled_from([None, 1, 2]))
        spec = job(parent, **keys, **({"lr": lr} if lr else {}))
        jobs.append(Drawn(spec.canonical(), parent.canonical() if parent else None))
    stops = draw(st.dictionaries(st.integers(0, size - 1), st.integers(1, 12), max_size=size // 4))
    return Case(tuple(jobs), tuple(stops.items()), draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from(STACKS)))


def epochs_of(record: Record, name: str) -> list[EpochMetrics]:
    return [without_seconds(metrics) for metrics in record.epochs.get(name, [])]


def check_same_bits(case: Case) -> None:
    stops = {str(i): moment for i, moment in case.stops}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gang_engine, "STACK_PARAMETERS", case.stack_parameters)
        together = train_together(
            *(drawn.engine_job() for drawn in case.jobs), data=few(), threads=case.threads, observer=Record(stops)
        )
    for i, drawn in enumerate(case.jobs):
        name = str(i)
        ending, epochs = together.endings[name], epochs_of(together, name)
        lone = alone(drawn)
        lone_ending, lone_epochs = lone.endings["0"], epochs_of(lone, "0")
        if isinstance(ending, Stopped):
            assert name in stops
            assert epochs == lone_epochs[: len(epochs)]
            continue
        assert epochs == lone_epochs
        assert type(ending) is type(lone_ending), (ending, lone_ending)
        if isinstance(ending, Trained):
            assert isinstance(lone_ending, Trained)
            assert_same(ending, lone_ending)
        else:
            assert isinstance(ending, Diverged), ending
            assert str(ending) == str(lone_ending)


@pytest.mark.parametrize(("size", "examples"), [(2, 12), (7, 8), (32, 5)])
def test_every_job_has_the_bits_that_it_has_alone(size: int, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(gangs(size))
    def for_all(case: Case) -> None:
        check_same_bits(case)

    for_all()


EARLY = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 30, "validation": 0.3, "patience": 2}
DIVERGES = {"activation": "relu", "optimizer": "sgd:lr=1e30"}


def test_jobs_of_different_initialisations_have_the_bits_that_they_have_alone() -> None:
    specs = [job(initialisation=name, seeds=seed, dropout=0.2) for seed in (1, 2) for name in INITIALISATIONS]
    gang = train_together(*specs, data=few())
    for i, spec in enumerate(specs):
        assert_same(gang.trained(str(i)), train_together(spec, data=few()).trained("0"))
    assert len({gang.trained(str(i)).weights_sha256 for i in range(4)}) == 4


def test_gang_does_not_change_the_global_generator() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        train_together(job(dropout=0.5, validation=0.1), job(seeds=7, validation=0.1), data=few())
        assert torch.equal(torch.get_rng_state(), before)


def test_epochs_are_reported_once_and_in_order_with_counts_over_whole_sets() -> None:
    lengths = [3, 1, 4]
    gang = train_together(*(job(epochs=n, validation=0.1) for n in lengths), data=digits())
    for i, n in enumerate(lengths):
        epochs, outcome = gang.epochs[str(i)], gang.trained(str(i))
        assert [epoch.epoch for epoch in epochs] == list(range(1, n + 1))
        assert {(epoch.validation_total, epoch.test_total) for epoch in epochs} == {(130, 500)}
        assert (outcome.best.epoch, outcome.epochs_run) == (n, n)
        assert outcome.train_seconds == pytest.approx(sum(epoch.seconds for epoch in epochs))


def test_seconds_of_the_jobs_add_up_to_those_of_the_gang() -> None:
    began = time.perf_counter()
    gang = train_together(*(job(seeds=seed) for seed in range(5)), data=few())
    took = time.perf_counter() - began
    assert 0 < sum(gang.trained(str(i)).train_seconds for i in range(5)) <= took


def test_without_split_validation_figures_are_none() -> None:
    gang = train_together(job(), data=few())
    for figures in (gang.trained("0").best, *gang.epochs["0"]):
        assert (figures.validation_loss, figures.validation_correct, figures.validation_total) == (None, None, None)


def test_early_stopping_keeps_each_jobs_epoch_of_lowest_validation_loss() -> None:
    rates = (0.05, 0.02, 0.1)
    gang = train_together(*(job(**{**EARLY, "optimizer": f"adam:lr={lr}"}, dropout=0.2) for lr in rates), data=digits())
    best_epochs = set()
    for i, lr in enumerate(rates):
        outcome, epochs = gang.trained(str(i)), gang.epochs[str(i)]
        best = min(epochs, key=lambda epoch: epoch.validation_loss or 0.0)
        assert outcome.epochs_run == len(epochs) == best.epoch + 2 < 30
        for name in ("validation_loss", "validation_correct", "test_loss", "test_correct"):
            assert getattr(outcome.best, name) == getattr(best, name)

        keys = {**EARLY, "optimizer": f"adam:lr={lr}", "epochs": best.epoch, "patience": None}
        ended_there = train_together(job(**keys, dropout=0.2), data=digits()).trained("0")
        assert_same(dataclasses.replace(outcome, epochs_run=best.epoch), ended_there)
        best_epochs.add(best.epoch)
    assert len(best_epochs) > 1  # otherwise the jobs would have ended together


def test_early_stopping_ends_at_the_same_epoch_as_in_the_plain_engine() -> None:
    spec = job(**EARLY)
    mine, plain = train_together(spec, data=digits()).trained("0"), train_plain(spec, digits())
    assert (mine.best.epoch, mine.epochs_run) == (plain.best.epoch, plain.epochs_run)


def test_diverging_job_ends_as_in_the_plain_engine_and_others_continue() -> None:
    calm = job(activation="relu", epochs=3)
    gang = train_together(calm, job(**DIVERGES), job(activation="relu", optimizer="adam"), data=few())
    with pytest.raises(Diverged) as plain:
        train_plain(job(**DIVERGES), few())
    ending = gang.endings["1"]
    assert isinstance(ending, Diverged)
    assert (str(ending), ending.epoch) == (str(plain.value), plain.value.epoch)
    assert str(ending).startswith("the loss became ")
    assert "1" not in gang.epochs
    assert_same(gang.trained("0"), train_together(calm, data=few()).trained("0"))
    assert gang.trained("2").epochs_run == 2


def test_job_that_diverges_later_keeps_its_earlier_epochs() -> None:
    # Each step multiplies the weights by nearly lr * weight_decay, so they overflow float32 in a later epoch.
    spec = job(optimizer="sgd:lr=1,weight_decay=200", batch_size=32, epochs=9, activation="relu", hidden="none")
    plain = Record()
    with pytest.raises(Diverged) as error:
        train_plain(spec, few(), observer=plain)
    gang = train_together(job(hidden="none"), spec, data=few())
    assert error.value.epoch > 1
    assert str(gang.endings["1"]) == str(error.value)
    assert [epoch.epoch for epoch in gang.epochs["1"]] == [epoch.epoch for epoch in plain.epochs["0"]]


def test_nan_validation_loss_ends_as_diverged() -> None:
    spec, data = job(validation=0.1), in_floats(digits())
    x = data.train_x.clone()
    x[split(1297, 130, spec.seed)[1]] = math.nan
    gang = train_together(spec, data=dataclasses.replace(data, train_x=x))
    assert str(gang.endings["0"]) == "the loss became nan in epoch 1"


def test_stopped_job_ends_before_the_next_batch_and_others_continue() -> None:
    batches = 1297 // 32 + 1
    gang = train_together(job(epochs=3), job(epochs=3, seeds=7), data=digits(), observer=Record({"0": batches + 5}))
    assert isinstance(gang.endings["0"], Stopped)
    assert [epoch.epoch for epoch in gang.epochs["0"]] == [1]
    assert gang.calls == 3 * batches
    assert_same(gang.trained("1"), train_together(job(epochs=3, seeds=7), data=digits()).trained("0"))


def test_training_ends_once_all_jobs_are_stopped() -> None:
    gang = train_together(job(epochs=50), job(epochs=50, seeds=7), data=digits(), observer=Record({"0": 3, "1": 50}))
    assert [type(gang.endings[name]) for name in "01"] == [Stopped, Stopped]
    assert gang.calls == 50
    assert {name: len(epochs) for name, epochs in gang.epochs.items()} == {"1": 1}


def test_jobs_stopped_before_they_start_report_no_epoch() -> None:
    gang = train_together(job(), job(seeds=7), data=few(), observer=Record({"0": 1, "1": 1}), threads=2)
    assert [type(gang.endings[name]) for name in "01"] == [Stopped, Stopped]
    assert gang.epochs == {}


def test_job_whose_stack_waits_is_stopped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gang_engine, "STACK_PARAMETERS", 1)
    gang = train_together(job(seeds=1), job(seeds=2), job(seeds=3), data=few(), observer=Record({"1": 3}))
    assert list(gang.endings) == ["1", "0", "2"]
    assert isinstance(gang.endings["1"], Stopped)
    assert list(gang.epochs) == ["0", "2"]


@pytest.mark.parametrize(
    ("hidden", "size", "threads", "stacks"),
    [
        ("16", 1, 4, 1),
        ("16", 2, 4, 2),
        ("16", 64, 2, 2),
        ("1000", 3, 1, 1),  # 75,000 parameters each
        ("1000", 4, 1, 2),
        ("1000", 7, 2, 4),
        ("10000", 3, 2, 3),
    ],
)
def test_stacks_fit_the_cache_and_are_the_same_number_for_every_thread(
    hidden: str, size: int, threads: int, stacks: int
) -> None:
    members = [GangMember(str(i), EngineJob(job(hidden=hidden, seeds=i)), Observer()) for i in range(size)]
    assert STACK_PARAMETERS == 2**18
    assert how_many_stacks(members, "cpu", threads) == stacks


class FailingRecord(Record):
    """Raises an error at the second epoch of one job."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._failing = name

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        super().epoch(name, metrics)
        if (name, metrics.epoch) == (self._failing, 2):
            raise OSError("the pipe is broken")


@pytest.mark.parametrize("failing", ["0", "1", "2", "3"])
def test_error_ends_the_jobs_of_its_stack_and_another_stack_continues(failing: str) -> None:
    specs = [job(seeds=1), job(seeds=1, optimizer="adam"), job(seeds=2), job(seeds=2, optimizer="adam")]
    gang = train_together(*specs, data=few(), threads=2, observer=FailingRecord(failing))
    beside = {"0": "1", "1": "0", "2": "3", "3": "2"}[failing]
    assert str(gang.endings[failing]) == "the pipe is broken"
    # It has a result if its second epoch was just reported; otherwise it ends by the same error.
    if isinstance(gang.endings[beside], Trained):
        assert len(gang.epochs[beside]) == 2
    else:
        assert str(gang.endings[beside]) == "the pipe is broken"
    for name in {"0", "1", "2", "3"} - {failing, beside}:
        assert gang.trained(name).epochs_run == 2


def test_error_before_the_first_batch_ends_every_job_of_the_stack() -> None:
    data = dataclasses.replace(few(), test_x=few().test_x[:, :-1])
    gang = train_together(job(), job(seeds=7), data=data)
    for name in "01":
        assert isinstance(gang.endings[name], RuntimeError), gang.endings[name]


@pytest.mark.parametrize("threads", [1, 2])
def test_jobs_with_a_parent_train_beside_jobs_without(threads: int) -> None:
    parent = job(dropout=0.3)
    start = train_together(parent, data=few()).trained("0").final
    before = {name: weight.copy() for name, weight in start.weights.items()}
    jobs = [
        EngineJob(job(dropout=0.3)),
        EngineJob(job(parent, dropout=0.3, optimizer="adam"), start),
        EngineJob(job(dropout=0.3, seeds=1)),
        EngineJob(job(parent, dropout=0.3), start),
    ]
    gang = train_together(*jobs, data=few(), threads=threads)
    for i, each in enumerate(jobs):
        assert_same(gang.trained(str(i)), train_together(each, data=few()).trained("0"))
    assert gang.trained("0").weights_sha256 != gang.trained("3").weights_sha256
    assert all(np.array_equal(before[name], weight) for name, weight in start.weights.items())


def test_child_of_stateless_optimizer_equals_one_longer_run() -> None:
    parent = job(dropout=0.3, epochs=2)
    first = train_together(parent, data=few()).trained("0")
    second = train_together(EngineJob(job(parent, dropout=0.3, epochs=3), first.final), data=few()).trained("0")
    whole = train_together(job(dropout=0.3, epochs=5), data=few()).trained("0")
    assert (second.weights_sha256, second.best.test_loss) == (whole.weights_sha256, whole.best.test_loss)
    assert np.array_equal(second.final.shuffle_state, whole.final.shuffle_state)
    assert np.array_equal(second.final.dropout_state, whole.final.dropout_state)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_result_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    specs = [job(seeds=seed, optimizer=name) for seed in (1, 2) for name in ("sgd", "adam")]
    one, several = (train_together(*specs, data=few(), threads=n) for n in (1, threads))
    for name in one.endings:
        assert_same(several.trained(name), one.trained(name))


def test_either_engine_continues_from_a_saved_result_of_a_gang(tmp_path: Path) -> None:
    parent = job(dropout=0.3)
    outcome = train_together(parent, data=few()).trained("0")
    path = tmp_path / "weights.safetensors"
    save(outcome, parent.hash, path)
    start = load_start(path, outcome.weights_sha256, path.parent)
    child = job(parent, optimizer="adam", dropout=0.3)
    gang = train_together(EngineJob(child, start), data=few()).trained("0")
    assert_same(gang, train_together(EngineJob(child, outcome.final), data=few()).trained("0"))
    plain = train_plain(child, few(), start)
    assert plain.best.test_loss == pytest.approx(gang.best.test_loss, rel=1e-4)


def test_float_pixels_train_like_bytes() -> None:
    bytes_, numbers = (train_together(job(), data=data).trained("0") for data in (few(), in_floats(few())))
    assert_same(bytes_, numbers)
