"""The plain engine has the bits of a plain PyTorch script, also where it stops early or continues from a parent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq_workers.engine.data import Data, split
from mlpq_workers.engine.network import build
from mlpq_workers.engine.plain import evaluate
from mlpq_workers.engine.tensors import to_tensors
from mlpq_workers.engine.training_state import Diverged, Stopped, Trained, weights_sha256
from tests.support.float_pixels import in_floats
from tests.support.gang_training import Record, job, train_plain
from tests.support.kernel_training import images

OVERFITS = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 30, "validation": 0.3, "patience": 2}


@pytest.fixture(autouse=True)
def one_thread_and_restored_random_state() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> Data:
    return Data.of(images())


@pytest.fixture(scope="module")
def floats(digits: Data) -> Data:
    return in_floats(digits)


class Script:
    """What a user writes in a notebook: a global seed, nn.Sequential, and a DataLoader with its own generator."""

    def __init__(self, spec: JobSpec, data: Data) -> None:
        torch.manual_seed(spec.seed)
        layers: list[nn.Module] = []
        for i, width in enumerate(spec.hidden):
            layers.append(nn.Linear(spec.widths[i], width, bias=spec.bias))
            layers.append({"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}[spec.activation]())
            if spec.dropout:
                layers.append(nn.Dropout(spec.dropout))
        layers.append(nn.Linear(spec.widths[-2], spec.widths[-1], bias=spec.bias))
        self.network = nn.Sequential(*layers)
        if spec.initialisation == "truncated-normal":
            for layer in self.network:
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.03, a=-0.06, b=0.06)
                    nn.init.zeros_(layer.bias)
        self.generator = torch.Generator().manual_seed(spec.seed)
        self.data: Dataset[tuple[Tensor, ...]] = TensorDataset(in_floats(data).train_x, data.train_y)
        if spec.validation:
            sizes = [spec.data.train - spec.validation_size, spec.validation_size]
            self.data = random_split(self.data, sizes, generator=torch.Generator().manual_seed(spec.seed))[0]

    def run(self, spec: JobSpec) -> Script:
        loader = DataLoader(self.data, batch_size=spec.batch_size, shuffle=True, generator=self.generator)
        make = getattr(torch.optim, OPTIMIZERS[spec.optimizer].torch_name)
        optimizer = make(self.network.parameters(), lr=spec.lr, **spec.optimizer_settings)
        criterion = nn.CrossEntropyLoss(label_smoothing=spec.label_smoothing)
        scheduler = self.scheduler(spec, optimizer)
        self.network.train()
        for _ in range(spec.epochs):
            for x, y in loader:
                loss = criterion(self.network(x), y)
                if spec.l1:
                    loss = loss + spec.l1 * sum(p.abs().sum() for p in self.network.parameters())
                optimizer.zero_grad()
                loss.backward()
                if spec.clip_norm is not None:
                    nn.utils.clip_grad_norm_(self.network.parameters(), spec.clip_norm)
                optimizer.step()
            scheduler.step()
        return self

    @staticmethod
    def scheduler(spec: JobSpec, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        assert spec.schedule in ("constant", "step")
        options: dict[str, Any] = {"size": 1, "gamma": 1, **spec.schedule_settings}
        return torch.optim.lr_scheduler.StepLR(optimizer, int(options["size"]), options["gamma"])

    def weights(self) -> list[Tensor]:
        return [p.detach() for p in self.network.parameters()]


def same_bits(outcome: Trained, script: Script) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(outcome.final.weights.values(), script.weights(), strict=True))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"hidden": "none"},
        {"hidden": "16,8", "activation": "tanh", "optimizer": "adam"},
        {"activation": "relu", "bias": False, "optimizer": "rmsprop"},
        {"hidden": "16,8", "activation": "relu", "dropout": 0.3, "optimizer": "sgd:lr=0.1,momentum=0.9"},
        {"dropout": 0.5, "l1": 0.001, "weight_decay": 0.01, "optimizer": "adamw"},
        {"l1": 0.001, "optimizer": "adagrad", "batch_size": 100},
        {"optimizer": "nadam", "validation": 0.2, "dropout": 0.2, "seeds": 5},
        {"optimizer": "adam", "batch_size": 2000, "weight_decay": 0.1, "bias": False},
        {"hidden": "16,8", "activation": "relu", "initialisation": "truncated-normal", "dropout": 0.2},
        {"optimizer": "adam", "schedule": "step:size=1,gamma=0.3", "clip_norm": 0.5, "epochs": 3},
        {"optimizer": "sgd:lr=0.5", "label_smoothing": 0.1, "clip_norm": 0.2, "l1": 0.001, "weight_decay": 0.01},
    ],
    ids=str,
)
def test_weights_have_the_bits_of_a_plain_script(keys: dict[str, object], digits: Data) -> None:
    spec = job(**keys)
    assert same_bits(train_plain(spec, digits), Script(spec, digits).run(spec))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_child_continues_the_parents_network_with_a_new_optimizer(dropout: float, digits: Data) -> None:
    parent = job(optimizer="sgd:lr=0.1,momentum=0.9", dropout=dropout)
    child = job(parent, optimizer="adam", dropout=dropout, epochs=3)
    outcome = train_plain(child, digits, start=train_plain(parent, digits).final)
    assert same_bits(outcome, Script(parent, digits).run(parent).run(child))


def test_job_with_dropout_continues_from_job_without(digits: Data) -> None:
    parent = job()
    child = job(parent, dropout=0.5)
    start = train_plain(parent, digits).final
    assert train_plain(child, digits, start=start).weights_sha256 != train_plain(parent, digits).weights_sha256


def test_training_does_not_change_the_state_it_starts_from(digits: Data) -> None:
    parent = job(dropout=0.5)
    outcome = train_plain(parent, digits)
    states = outcome.final.shuffle_state.copy(), outcome.final.dropout_state.copy()
    train_plain(job(parent, dropout=0.5), digits, start=outcome.final)
    assert weights_sha256(outcome.final.weights) == outcome.weights_sha256
    assert np.array_equal(outcome.final.shuffle_state, states[0])
    assert np.array_equal(outcome.final.dropout_state, states[1])


def test_training_does_not_change_the_global_generator(digits: Data) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train_plain(job(dropout=0.5, validation=0.1), digits)
    assert torch.equal(torch.get_rng_state(), before)


def test_result_does_not_depend_on_the_previous_job(digits: Data) -> None:
    spec = job(dropout=0.5)
    alone = train_plain(spec, digits).weights_sha256
    train_plain(job(seeds=7, dropout=0.1), digits)
    assert train_plain(spec, digits).weights_sha256 == alone


def test_every_epoch_is_reported_with_counts_over_whole_sets(digits: Data) -> None:
    record = Record()
    outcome = train_plain(job(epochs=3, validation=0.1, batch_size=100), digits, observer=record)
    assert [e.epoch for e in record.epochs["0"]] == [1, 2, 3]
    assert {(e.validation_total, e.test_total) for e in record.epochs["0"]} == {(130, 500)}
    assert (outcome.best.epoch, outcome.epochs_run) == (3, 3)
    assert outcome.train_seconds == pytest.approx(sum(e.seconds for e in record.epochs["0"]))


def test_counts_and_losses_are_those_of_the_final_weights(digits: Data, floats: Data) -> None:
    spec = job(validation=0.1, dropout=0.5, optimizer="adam")
    outcome = train_plain(spec, digits)
    network, _ = build(spec)
    network.load_state_dict(to_tensors(outcome.final.weights))
    network.eval()
    held_out = split(1297, 130, spec.seed)[1]
    for x, y, loss, correct, total in (
        (floats.test_x, floats.test_y, outcome.best.test_loss, outcome.best.test_correct, outcome.best.test_total),
        (
            floats.train_x[held_out],
            floats.train_y[held_out],
            outcome.best.validation_loss,
            outcome.best.validation_correct,
            outcome.best.validation_total,
        ),
    ):
        logits = network(x)
        assert (int((logits.argmax(1) == y).sum()), len(y)) == (correct, total)
        assert loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-6)


def test_without_split_validation_figures_are_none(digits: Data) -> None:
    outcome = train_plain(job(), digits)
    assert (outcome.best.validation_loss, outcome.best.validation_correct, outcome.best.validation_total) == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize("keys", [{}, {"l1": 0.1}], ids=["plain", "with a penalty"])
def test_train_loss_weighs_the_short_last_batch_by_its_rows(keys: dict[str, float], floats: Data) -> None:
    spec = job(optimizer="sgd:lr=1e-30", batch_size=1000, epochs=1, **keys)
    record = Record()
    train_plain(spec, floats, observer=record)
    whole = cross_entropy(build(spec)[0](floats.train_x), floats.train_y).item()
    assert record.epochs["0"][0].train_loss == pytest.approx(whole, rel=1e-6)


def test_bytes_are_evaluated_like_the_floats_they_represent(digits: Data, floats: Data) -> None:
    network, _ = build(job())
    assert evaluate(network, digits.test_x, digits.test_y, digits.scale) == evaluate(
        network, floats.test_x, floats.test_y
    )


def test_bytes_train_like_the_floats_they_represent(digits: Data, floats: Data) -> None:
    spec = job(validation=0.1)
    assert train_plain(spec, digits).weights_sha256 == train_plain(spec, floats).weights_sha256


def test_float64_pixels_train_float64_weights(digits: Data) -> None:
    outcome = train_plain(job(), in_floats(digits, torch.float64))
    assert {weight.dtype for weight in outcome.final.weights.values()} == {np.dtype(np.float64)}


def test_large_sets_are_evaluated_in_chunks_with_the_same_figures() -> None:
    rows, classes = 40, 2**19
    generator = torch.Generator().manual_seed(1)
    network = nn.Sequential(nn.Linear(1, classes))
    x, y = torch.rand(rows, 1, generator=generator), torch.randint(classes, (rows,), generator=generator)
    with torch.no_grad():
        logits = network(x)
    loss, correct = evaluate(network, x, y)
    assert correct == int((logits.argmax(1) == y).sum())
    assert loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-6)


def test_early_stopping_keeps_the_epoch_of_lowest_validation_loss(digits: Data) -> None:
    spec = job(**OVERFITS, dropout=0.2)
    record = Record()
    outcome = train_plain(spec, digits, observer=record)
    epochs = record.epochs["0"]
    losses = [e.validation_loss for e in epochs if e.validation_loss is not None]
    best = epochs[losses.index(min(losses))]

    assert outcome.epochs_run == len(epochs) == best.epoch + 2 < 30
    assert outcome.best.epoch == best.epoch
    for name in ("validation_loss", "validation_correct", "test_loss", "test_correct"):
        assert getattr(outcome.best, name) == getattr(best, name)

    ended_there = train_plain(job(**{**OVERFITS, "epochs": best.epoch, "patience": None}, dropout=0.2), digits)
    assert outcome.weights_sha256 == ended_there.weights_sha256
    assert np.array_equal(outcome.final.shuffle_state, ended_there.final.shuffle_state)
    assert np.array_equal(outcome.final.dropout_state, ended_there.final.dropout_state)


def test_without_patience_the_last_epoch_is_the_result(digits: Data) -> None:
    record = Record()
    outcome = train_plain(job(**{**OVERFITS, "patience": None}), digits, observer=record)
    assert outcome.best.epoch == outcome.epochs_run == 30
    assert outcome.best.test_loss == record.epochs["0"][-1].test_loss


def test_early_stopping_does_not_depend_on_the_test_set(digits: Data) -> None:
    other = dataclasses.replace(digits, test_y=9 - digits.test_y, test_x=digits.test_x.flip(0))
    one, two = (train_plain(job(**OVERFITS), data) for data in (digits, other))
    assert one.best.test_correct != two.best.test_correct
    assert (one.best.epoch, one.weights_sha256) == (two.best.epoch, two.weights_sha256)


def test_non_finite_loss_raises_diverged(digits: Data) -> None:
    record = Record()
    spec = job(activation="relu", optimizer="sgd:lr=1e30")
    with pytest.raises(Diverged, match=r"^the loss became (nan|inf) in epoch 1$") as error:
        train_plain(spec, digits, observer=record)
    assert (error.value.epoch, math.isfinite(error.value.loss), record.epochs) == (1, False, {})


def test_infinite_train_loss_raises_diverged_even_with_finite_weights(floats: Data) -> None:
    spec = job(hidden="none", optimizer="sgd:lr=1e-40", batch_size=2000)
    weight = next(build(spec)[0].parameters()).detach()
    right, wrong = int(floats.train_y[0]), (int(floats.train_y[0]) + 1) % 10
    x = floats.train_x.clone()
    x[0] = 1e38 * torch.sign(weight[wrong] - weight[right])  # finite scores, too far apart for float32
    with pytest.raises(Diverged, match="the loss became inf in epoch 1"):
        train_plain(spec, dataclasses.replace(floats, train_x=x))


def test_nan_validation_loss_raises_diverged(floats: Data) -> None:
    spec = job(validation=0.1)
    x = floats.train_x.clone()
    x[split(1297, 130, spec.seed)[1]] = math.nan
    with pytest.raises(Diverged, match="the loss became nan in epoch 1"):
        train_plain(spec, dataclasses.replace(floats, train_x=x))


def test_last_step_that_overflows_the_weights_raises_diverged(digits: Data) -> None:
    spec = job(optimizer="sgd:lr=1e38", l1=1e30, batch_size=2000)
    with pytest.raises(Diverged, match="in epoch 1"):
        train_plain(spec, digits)


def test_training_stops_before_the_next_batch(digits: Data) -> None:
    record = Record({"0": 51})
    with pytest.raises(Stopped):
        train_plain(job(batch_size=32), digits, observer=record)
    assert len(record.epochs["0"]) == 1  # an epoch has 41 batches
    assert record.calls == 51
