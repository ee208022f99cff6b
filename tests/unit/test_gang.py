"""Jobs trained together: each has the bits that it has alone, and its own curve and end, whatever becomes of others."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpq.spec.job import INITIALISATIONS, JobSpec
from mlpq_workers.engine import gang as gang_engine
from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.data import split
from mlpq_workers.engine.gang import STACK_PARAMETERS, how_many_stacks
from mlpq_workers.engine.gang_members import Member, Model, Observer
from mlpq_workers.engine.training_state import Diverged, Epoch, Start, Stopped, Trained
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
    goes_on,
    job,
    train_together,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A job and what it goes on from, as canonical JSON."""

    spec: str
    parent: str | None

    def member(self) -> Member:
        return Member(JobSpec.model_validate_json(self.spec), self.start())

    def start(self) -> Start | None:
        return goes_on(alone(Drawn(self.parent, None)).trained("0")) if self.parent else None


@functools.cache
def alone(drawn: Drawn) -> Record:
    return train_together(drawn.member(), data=few())


STACKS = [
    1,
    2000,
    STACK_PARAMETERS,
]  # how many parameters a stack may have: all in stacks of their own, some, all in one
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
    """A drawn gang, and the moments at which some of its members, by their numbers, are stopped."""

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
        keys: dict[str, Any] = {
            "optimizer": draw(optimizers),
            "l1": draw(st.sampled_from([0.0, 0.0, 0.001])),
            "epochs": draw(st.integers(1, 3)),
            "seeds": draw(st.sampled_from([1, 2, 42, 43])),
            "dropout": draw(st.sampled_from([0.0, 0.0, 0.2, 0.5])) if shape["hidden"] != "none" else 0.0,
            "initialisation": draw(st.sampled_from(INITIALISATIONS)),
            **shape,
        }
        lr = draw(st.sampled_from([None, 0.001, 0.1, 1.0, 1e30]))
        parent = job(**{**keys, "epochs": 1, "optimizer": "sgd"}) if draw(st.integers(0, 5)) == 5 else None
        if shape["validation"]:
            keys["patience"] = draw(st.sampled_from([None, 1, 2]))
        spec = job(parent, **keys, **({"lr": lr} if lr else {}))
        jobs.append(Drawn(spec.canonical(), parent.canonical() if parent else None))
    stops = draw(st.dictionaries(st.integers(0, size - 1), st.integers(1, 12), max_size=size // 4))
    return Case(tuple(jobs), tuple(stops.items()), draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from(STACKS)))


def but_seconds(epochs: list[Epoch]) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in epochs]


def check_same_bits(case: Case) -> None:
    stops = {str(i): moment for i, moment in case.stops}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gang_engine, "STACK_PARAMETERS", case.stack_parameters)
        together = train_together(
            *(drawn.member() for drawn in case.jobs), data=few(), threads=case.threads, observer=Record(stops)
        )
    for i, drawn in enumerate(case.jobs):
        name = str(i)
        ending, epochs = together.endings[name], but_seconds(together.epochs.get(name, []))
        lone = alone(drawn)
        lone_ending, lone_epochs = lone.endings["0"], but_seconds(lone.epochs.get("0", []))
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
def test_every_member_has_the_bits_that_it_has_alone(size: int, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(gangs(size))
    def for_all(case: Case) -> None:
        check_same_bits(case)

    for_all()


EARLY = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 30, "validation": 0.3, "patience": 2}
DIVERGES = {"activation": "relu", "optimizer": "sgd:lr=1e30"}


def test_members_of_different_initialisations_have_the_bits_that_they_have_alone() -> None:
    members = [job(initialisation=name, seeds=seed, dropout=0.2) for seed in (1, 2) for name in INITIALISATIONS]
    gang = train_together(*members, data=few())
    for i, spec in enumerate(members):
        assert_same(gang.trained(str(i)), train_together(spec, data=few()).trained("0"))
    assert len({gang.trained(str(i)).weights_sha256 for i in range(4)}) == 4


def test_a_gang_leaves_the_global_generator_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        train_together(job(dropout=0.5, validation=0.1), job(seeds=7, validation=0.1), data=few())
        assert torch.equal(torch.get_rng_state(), before)


def test_every_members_epochs_are_reported_once_and_in_order_with_counts_over_whole_sets() -> None:
    lengths = [3, 1, 4]
    gang = train_together(*(job(epochs=n, validation=0.1) for n in lengths), data=digits())
    for i, n in enumerate(lengths):
        epochs, outcome = gang.epochs[str(i)], gang.trained(str(i))
        assert [epoch.epoch for epoch in epochs] == list(range(1, n + 1))
        assert {(epoch.validation_total, epoch.test_total) for epoch in epochs} == {(130, 500)}
        assert (outcome.best_epoch, outcome.epochs_run) == (n, n)
        assert outcome.train_seconds == pytest.approx(sum(epoch.seconds for epoch in epochs))


def test_the_seconds_of_members_add_up_to_those_that_the_gang_took() -> None:
    began = time.perf_counter()
    gang = train_together(*(job(seeds=seed) for seed in range(5)), data=few())
    took = time.perf_counter() - began
    assert 0 < sum(gang.trained(str(i)).train_seconds for i in range(5)) <= took


def test_without_a_split_there_are_no_validation_figures() -> None:
    gang = train_together(job(), data=few())
    reported: list[Trained | Epoch] = [gang.trained("0"), *gang.epochs["0"]]
    for figures in reported:
        assert (figures.validation_loss, figures.validation_correct, figures.validation_total) == (None, None, None)


def test_early_stopping_keeps_each_members_epoch_of_the_lowest_validation_loss() -> None:
    rates = (0.05, 0.02, 0.1)
    gang = train_together(*(job(**{**EARLY, "optimizer": f"adam:lr={lr}"}, dropout=0.2) for lr in rates), data=digits())
    best_epochs = set()
    for i, lr in enumerate(rates):
        outcome, epochs = gang.trained(str(i)), gang.epochs[str(i)]
        best = min(epochs, key=lambda epoch: epoch.validation_loss or 0.0)
        assert outcome.epochs_run == len(epochs) == best.epoch + 2 < 30
        for name in ("validation_loss", "validation_correct", "test_loss", "test_correct"):
            assert getattr(outcome, name) == getattr(best, name)

        keys = {**EARLY, "optimizer": f"adam:lr={lr}", "epochs": best.epoch, "patience": None}
        ended_there = train_together(job(**keys, dropout=0.2), data=digits()).trained("0")
        assert_same(dataclasses.replace(outcome, epochs_run=best.epoch), ended_there)
        best_epochs.add(best.epoch)
    assert len(best_epochs) > 1  # or they might as well have ended together


def test_early_stopping_ends_at_the_epoch_where_the_plain_engine_ends() -> None:
    spec = job(**EARLY)
    mine, plain = train_together(spec, data=digits()).trained("0"), plain_engine.train(spec, digits(), "cpu")
    assert (mine.best_epoch, mine.epochs_run) == (plain.best_epoch, plain.epochs_run)


def test_a_member_that_diverges_ends_as_in_the_plain_engine_and_the_others_go_on() -> None:
    calm = job(activation="relu", epochs=3)
    gang = train_together(calm, job(**DIVERGES), job(activation="relu", optimizer="adam"), data=few())
    with pytest.raises(Diverged) as plain:
        plain_engine.train(job(**DIVERGES), few(), "cpu")
    ending = gang.endings["1"]
    assert isinstance(ending, Diverged)
    assert (str(ending), ending.epoch) == (str(plain.value), plain.value.epoch)
    assert str(ending).startswith("the loss became ")
    assert "1" not in gang.epochs
    assert_same(gang.trained("0"), train_together(calm, data=few()).trained("0"))
    assert gang.trained("2").epochs_run == 2


def test_a_member_that_diverges_later_keeps_the_epochs_before() -> None:
    # The weights grow by a factor of nearly lr * weight_decay a step, so they leave float32's range in a later epoch.
    spec = job(optimizer="sgd:lr=1,weight_decay=200", batch_size=32, epochs=9, activation="relu", hidden="none")
    plain: list[Epoch] = []
    with pytest.raises(Diverged) as error:
        plain_engine.train(spec, few(), "cpu", on_epoch=plain.append)
    gang = train_together(job(hidden="none"), spec, data=few())
    assert error.value.epoch > 1
    assert str(gang.endings["1"]) == str(error.value)
    assert [epoch.epoch for epoch in gang.epochs["1"]] == [epoch.epoch for epoch in plain]


def test_a_validation_loss_that_is_no_number_ends_as_diverged() -> None:
    spec, data = job(validation=0.1), in_floats(digits())
    x = data.train_x.clone()
    x[split(1297, 130, spec.seed)[1]] = math.nan
    gang = train_together(spec, data=dataclasses.replace(data, train_x=x))
    assert str(gang.endings["0"]) == "the loss became nan in epoch 1"


def test_a_stopped_member_ends_before_the_next_batch_and_the_others_go_on() -> None:
    batches = 1297 // 32 + 1
    gang = train_together(job(epochs=3), job(epochs=3, seeds=7), data=digits(), observer=Record({"0": batches + 5}))
    assert isinstance(gang.endings["0"], Stopped)
    assert [epoch.epoch for epoch in gang.epochs["0"]] == [1]
    assert gang.asked == 3 * batches
    assert_same(gang.trained("1"), train_together(job(epochs=3, seeds=7), data=digits()).trained("0"))


def test_nothing_is_trained_any_more_once_all_are_stopped() -> None:
    gang = train_together(job(epochs=50), job(epochs=50, seeds=7), data=digits(), observer=Record({"0": 3, "1": 50}))
    assert [type(gang.endings[name]) for name in "01"] == [Stopped, Stopped]
    assert gang.asked == 50
    assert {name: len(epochs) for name, epochs in gang.epochs.items()} == {"1": 1}


def test_members_that_are_stopped_before_they_began_hear_of_no_epoch() -> None:
    gang = train_together(job(), job(seeds=7), data=few(), observer=Record({"0": 1, "1": 1}), threads=2)
    assert [type(gang.endings[name]) for name in "01"] == [Stopped, Stopped]
    assert gang.epochs == {}


def test_a_member_whose_stack_still_waits_is_stopped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_stack_fits_the_cache_and_every_thread_has_as_many(hidden: str, size: int, threads: int, stacks: int) -> None:
    models = [Model(str(i), Member(job(hidden=hidden, seeds=i)), Observer()) for i in range(size)]
    assert STACK_PARAMETERS == 2**18
    assert how_many_stacks(models, "cpu", threads) == stacks
    assert how_many_stacks(models, "cuda", threads) == 1


class Fails(Record):
    """Can't take the second epoch of one member."""

    def __init__(self, member: str) -> None:
        super().__init__()
        self._member = member

    def epoch(self, member: str, epoch: Epoch) -> None:
        super().epoch(member, epoch)
        if (member, epoch.epoch) == (self._member, 2):
            raise OSError("the pipe is broken")


@pytest.mark.parametrize("failing", ["0", "1", "2", "3"])
def test_an_error_ends_the_members_of_its_stack_and_the_stack_of_another_thread_goes_on(failing: str) -> None:
    specs = [job(seeds=1), job(seeds=1, optimizer="adam"), job(seeds=2), job(seeds=2, optimizer="adam")]
    gang = train_together(*specs, data=few(), threads=2, observer=Fails(failing))
    beside = {"0": "1", "1": "0", "2": "3", "3": "2"}[failing]
    assert str(gang.endings[failing]) == "the pipe is broken"
    # One that had its second epoch just before has its result; else the error is its ending as well.
    if isinstance(gang.endings[beside], Trained):
        assert len(gang.epochs[beside]) == 2
    else:
        assert str(gang.endings[beside]) == "the pipe is broken"
    for name in {"0", "1", "2", "3"} - {failing, beside}:
        assert gang.trained(name).epochs_run == 2


def test_an_error_before_the_first_batch_reaches_every_member_of_its_stack() -> None:
    data = dataclasses.replace(few(), test_x=few().test_x[:, :-1])
    gang = train_together(job(), job(seeds=7), data=data)
    for name in "01":
        assert isinstance(gang.endings[name], RuntimeError), gang.endings[name]


@pytest.mark.parametrize("threads", [1, 2])
def test_members_with_a_parent_train_beside_members_without(threads: int) -> None:
    parent = job(dropout=0.3)
    start = goes_on(train_together(parent, data=few()).trained("0"))
    before = {name: weight.clone() for name, weight in start.weights.items()}
    members = [
        Member(job(dropout=0.3)),
        Member(job(parent, dropout=0.3, optimizer="adam"), start),
        Member(job(dropout=0.3, seeds=1)),
        Member(job(parent, dropout=0.3), start),
    ]
    gang = train_together(*members, data=few(), threads=threads)
    for i, member in enumerate(members):
        assert_same(gang.trained(str(i)), train_together(member, data=few()).trained("0"))
    assert gang.trained("0").weights_sha256 != gang.trained("3").weights_sha256
    assert all(torch.equal(before[name], weight) for name, weight in start.weights.items())


def test_going_on_twice_is_training_on_for_an_optimizer_without_memory() -> None:
    parent = job(dropout=0.3, epochs=2)
    first = train_together(parent, data=few()).trained("0")
    second = train_together(Member(job(parent, dropout=0.3, epochs=3), goes_on(first)), data=few()).trained("0")
    whole = train_together(job(dropout=0.3, epochs=5), data=few()).trained("0")
    assert (second.weights_sha256, second.test_loss) == (whole.weights_sha256, whole.test_loss)
    assert torch.equal(second.shuffle_state, whole.shuffle_state)
    assert torch.equal(second.dropout_state, whole.dropout_state)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_are_not_told_by_a_result_even_where_there_are_more_than_members(threads: int) -> None:
    specs = [job(seeds=seed, optimizer=name) for seed in (1, 2) for name in ("sgd", "adam")]
    one, several = (train_together(*specs, data=few(), threads=n) for n in (1, threads))
    for name in one.endings:
        assert_same(several.trained(name), one.trained(name))


def test_what_a_gang_made_is_saved_and_gone_on_from_by_either_engine(tmp_path: Path) -> None:
    parent = job(dropout=0.3)
    outcome = train_together(parent, data=few()).trained("0")
    path = tmp_path / "weights.safetensors"
    save(outcome, parent.hash, path)
    start = load_start(path, outcome.weights_sha256)
    child = job(parent, optimizer="adam", dropout=0.3)
    gang = train_together(Member(child, start), data=few()).trained("0")
    assert_same(gang, train_together(Member(child, goes_on(outcome)), data=few()).trained("0"))
    plain = plain_engine.train(child, few(), "cpu", start)
    assert plain.test_loss == pytest.approx(gang.test_loss, rel=1e-4)


def test_the_data_may_be_numbers_instead_of_bytes() -> None:
    bytes_, numbers = (train_together(job(), data=data).trained("0") for data in (few(), in_floats(few())))
    assert_same(bytes_, numbers)
