"""The engine is a plain PyTorch script to the bit; what it adds, stopping early and going on, keeps that true."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from mlpq.errors import DataError
from mlpq.spec.job import JobSpec, Sweep
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq_workers.engine.data import Data, split
from mlpq_workers.engine.network import build, weights_sha256
from mlpq_workers.engine.plain import evaluate, train
from mlpq_workers.engine.training_state import Diverged, Epoch, Start, Stopped, Trained
from mlpq_workers.trainer.checkpoints import load_start, save
from mlpq_workers.trainer.data import load
from tests.support.float_pixels import in_floats

OVERFITS = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 30, "validation": 0.3, "patience": 2}


@pytest.fixture(autouse=True)
def one_thread_and_own_random_state() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", Path("nowhere"))


@pytest.fixture(scope="module")
def floats(digits: Data) -> Data:
    return in_floats(digits)


def job(parent: JobSpec | None = None, /, **keys: Any) -> JobSpec:
    return Sweep.parse({"dataset": "digits", "hidden": "16", "epochs": 2, **keys}).jobs(parent)[0]


def goes_on(outcome: Trained) -> Start:
    return Start(outcome.weights, outcome.shuffle_state, outcome.dropout_state)


class Script:
    """What a person writes in a notebook: global seed, nn.Sequential, a DataLoader with a generator of its own."""

    def __init__(self, spec: JobSpec, data: Data) -> None:
        torch.manual_seed(spec.seed)
        layers: list[nn.Module] = []
        for i, width in enumerate(spec.hidden):
            layers.append(nn.Linear(spec.widths[i], width, bias=spec.bias))
            layers.append({"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}[spec.activation]())
            if spec.dropout:
                layers.append(nn.Dropout(spec.dropout))
        layers.append(nn.Linear(spec.widths[-2], spec.widths[-1], bias=spec.bias))
        self.model = nn.Sequential(*layers)
        if spec.initialisation == "truncated-normal":
            for layer in self.model:
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
        optimizer = make(self.model.parameters(), lr=spec.lr, **spec.optimizer_settings)
        criterion = nn.CrossEntropyLoss()
        self.model.train()
        for _ in range(spec.epochs):
            for x, y in loader:
                loss = criterion(self.model(x), y)
                if spec.l1:
                    loss = loss + spec.l1 * sum(p.abs().sum() for p in self.model.parameters())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self

    def weights(self) -> list[Tensor]:
        return [p.detach() for p in self.model.parameters()]


def same_bits(outcome: Trained, script: Script) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outcome.weights.values(), script.weights(), strict=True))


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
    ],
    ids=str,
)
def test_the_weights_are_those_of_a_plain_script_to_the_bit(keys: dict[str, object], digits: Data) -> None:
    spec = job(**keys)
    assert same_bits(train(spec, digits, "cpu"), Script(spec, digits).run(spec))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_going_on_is_training_the_same_model_on_with_a_new_optimizer(dropout: float, digits: Data) -> None:
    parent = job(optimizer="sgd:lr=0.1,momentum=0.9", dropout=dropout)
    child = job(parent, optimizer="adam", dropout=dropout, epochs=3)
    outcome = train(child, digits, "cpu", start=goes_on(train(parent, digits, "cpu")))
    assert same_bits(outcome, Script(parent, digits).run(parent).run(child))


def test_a_job_with_dropout_goes_on_from_one_without(digits: Data) -> None:
    parent = job()
    child = job(parent, dropout=0.5)
    start = goes_on(train(parent, digits, "cpu"))
    assert train(child, digits, "cpu", start=start).weights_sha256 != train(parent, digits, "cpu").weights_sha256


def test_what_a_job_goes_on_from_is_left_as_it_was(digits: Data) -> None:
    parent = job(dropout=0.5)
    outcome = train(parent, digits, "cpu")
    states = outcome.shuffle_state.clone(), outcome.dropout_state.clone()
    train(job(parent, dropout=0.5), digits, "cpu", start=goes_on(outcome))
    assert weights_sha256(outcome.weights) == outcome.weights_sha256
    assert torch.equal(outcome.shuffle_state, states[0])
    assert torch.equal(outcome.dropout_state, states[1])


def test_training_leaves_the_global_generator_alone(digits: Data) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(job(dropout=0.5, validation=0.1), digits, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_does_not_depend_on_the_one_before(digits: Data) -> None:
    spec = job(dropout=0.5)
    alone = train(spec, digits, "cpu").weights_sha256
    train(job(seeds=7, dropout=0.1), digits, "cpu")
    assert train(spec, digits, "cpu").weights_sha256 == alone


def test_every_epoch_is_reported_with_counts_over_whole_sets(digits: Data) -> None:
    epochs: list[Epoch] = []
    outcome = train(job(epochs=3, validation=0.1, batch_size=100), digits, "cpu", on_epoch=epochs.append)
    assert [e.epoch for e in epochs] == [1, 2, 3]
    assert {(e.validation_total, e.test_total) for e in epochs} == {(130, 500)}
    assert (outcome.best_epoch, outcome.epochs_run) == (3, 3)
    assert outcome.train_seconds == pytest.approx(sum(e.seconds for e in epochs))


def test_the_counts_and_losses_are_those_of_the_final_weights(digits: Data, floats: Data) -> None:
    spec = job(validation=0.1, dropout=0.5, optimizer="adam")
    outcome = train(spec, digits, "cpu")
    model, _ = build(spec)
    model.load_state_dict(outcome.weights)
    model.eval()
    held_out = split(1297, 130, spec.seed)[1]
    for x, y, loss, correct, total in (
        (floats.test_x, floats.test_y, outcome.test_loss, outcome.test_correct, outcome.test_total),
        (
            floats.train_x[held_out],
            floats.train_y[held_out],
            outcome.validation_loss,
            outcome.validation_correct,
            outcome.validation_total,
        ),
    ):
        logits = model(x)
        assert (int((logits.argmax(1) == y).sum()), len(y)) == (correct, total)
        assert loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-6)


def test_without_a_split_there_are_no_validation_figures(digits: Data) -> None:
    outcome = train(job(), digits, "cpu")
    assert (outcome.validation_loss, outcome.validation_correct, outcome.validation_total) == (None, None, None)


@pytest.mark.parametrize("keys", [{}, {"l1": 0.1}], ids=["plain", "with a penalty"])
def test_the_train_loss_weighs_the_short_last_batch_by_its_rows(keys: dict[str, float], floats: Data) -> None:
    spec = job(optimizer="sgd:lr=1e-30", batch_size=1000, epochs=1, **keys)
    epochs: list[Epoch] = []
    train(spec, floats, "cpu", on_epoch=epochs.append)
    whole = cross_entropy(build(spec)[0](floats.train_x), floats.train_y).item()
    assert epochs[0].train_loss == pytest.approx(whole, rel=1e-6)


def test_bytes_and_their_scale_are_evaluated_as_the_numbers_they_stand_for(digits: Data, floats: Data) -> None:
    model, _ = build(job())
    assert evaluate(model, digits.test_x, digits.test_y, digits.scale) == evaluate(model, floats.test_x, floats.test_y)


def test_bytes_and_their_scale_train_as_the_numbers_they_stand_for(digits: Data, floats: Data) -> None:
    spec = job(validation=0.1)
    assert train(spec, digits, "cpu").weights_sha256 == train(spec, floats, "cpu").weights_sha256


def test_numbers_of_double_precision_are_trained_on_in_double_precision(digits: Data) -> None:
    outcome = train(job(), in_floats(digits, torch.float64), "cpu")
    assert {weight.dtype for weight in outcome.weights.values()} == {torch.float64}


def test_large_sets_are_evaluated_in_parts_with_the_same_figures() -> None:
    rows, classes = 40, 2**19
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(1, classes))
    x, y = torch.rand(rows, 1, generator=generator), torch.randint(classes, (rows,), generator=generator)
    with torch.no_grad():
        logits = model(x)
    loss, correct = evaluate(model, x, y)
    assert correct == int((logits.argmax(1) == y).sum())
    assert loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-6)


def test_early_stopping_keeps_the_epoch_of_the_lowest_validation_loss(digits: Data) -> None:
    spec = job(**OVERFITS, dropout=0.2)
    epochs: list[Epoch] = []
    outcome = train(spec, digits, "cpu", on_epoch=epochs.append)
    losses = [e.validation_loss for e in epochs if e.validation_loss is not None]
    best = epochs[losses.index(min(losses))]

    assert outcome.epochs_run == len(epochs) == best.epoch + 2 < 30
    assert outcome.best_epoch == best.epoch
    for name in ("validation_loss", "validation_correct", "test_loss", "test_correct"):
        assert getattr(outcome, name) == getattr(best, name)

    ended_there = train(job(**{**OVERFITS, "epochs": best.epoch, "patience": None}, dropout=0.2), digits, "cpu")
    assert outcome.weights_sha256 == ended_there.weights_sha256
    assert torch.equal(outcome.shuffle_state, ended_there.shuffle_state)
    assert torch.equal(outcome.dropout_state, ended_there.dropout_state)


def test_without_patience_the_last_epoch_is_the_result(digits: Data) -> None:
    epochs: list[Epoch] = []
    outcome = train(job(**{**OVERFITS, "patience": None}), digits, "cpu", on_epoch=epochs.append)
    assert outcome.best_epoch == outcome.epochs_run == 30
    assert outcome.test_loss == epochs[-1].test_loss


def test_early_stopping_never_looks_at_the_test_set(digits: Data) -> None:
    other = dataclasses.replace(digits, test_y=9 - digits.test_y, test_x=digits.test_x.flip(0))
    one, two = (train(job(**OVERFITS), data, "cpu") for data in (digits, other))
    assert one.test_correct != two.test_correct
    assert (one.best_epoch, one.weights_sha256) == (two.best_epoch, two.weights_sha256)


def test_a_loss_that_is_no_number_ends_as_diverged(digits: Data) -> None:
    epochs: list[Epoch] = []
    spec = job(activation="relu", optimizer="sgd:lr=1e30")
    with pytest.raises(Diverged, match=r"^the loss became (nan|inf) in epoch 1$") as error:
        train(spec, digits, "cpu", on_epoch=epochs.append)
    assert (error.value.epoch, math.isfinite(error.value.loss), epochs) == (1, False, [])


def test_an_infinite_train_loss_ends_as_diverged_though_the_weights_are_still_sound(floats: Data) -> None:
    spec = job(hidden="none", optimizer="sgd:lr=1e-40", batch_size=2000)
    weight = next(build(spec)[0].parameters()).detach()
    right, wrong = int(floats.train_y[0]), (int(floats.train_y[0]) + 1) % 10
    x = floats.train_x.clone()
    x[0] = 1e38 * torch.sign(weight[wrong] - weight[right])  # finite scores, too far apart for float32
    with pytest.raises(Diverged, match="the loss became inf in epoch 1"):
        train(spec, dataclasses.replace(floats, train_x=x), "cpu")


def test_a_validation_loss_that_is_no_number_ends_as_diverged(floats: Data) -> None:
    spec = job(validation=0.1)
    x = floats.train_x.clone()
    x[split(1297, 130, spec.seed)[1]] = math.nan
    with pytest.raises(Diverged, match="the loss became nan in epoch 1"):
        train(spec, dataclasses.replace(floats, train_x=x), "cpu")


def test_a_last_step_that_breaks_the_weights_ends_as_diverged(digits: Data) -> None:
    spec = job(optimizer="sgd:lr=1e38", l1=1e30, batch_size=2000)
    with pytest.raises(Diverged, match="in epoch 1"):
        train(spec, digits, "cpu")


def test_it_stops_before_the_next_batch_when_told(digits: Data) -> None:
    answers = iter([False] * 50 + [True])
    epochs: list[Epoch] = []
    with pytest.raises(Stopped):
        train(job(batch_size=32), digits, "cpu", on_epoch=epochs.append, should_stop=lambda: next(answers))
    assert len(epochs) == 1  # 41 batches an epoch
    assert next(answers, None) is None


@pytest.fixture
def saved(digits: Data, tmp_path: Path) -> tuple[Trained, Path]:
    spec = job(dropout=0.5)
    outcome = train(spec, digits, "cpu")
    path = tmp_path / "artifacts" / "weights.safetensors"
    save(outcome, spec.hash, path)
    return outcome, path


def test_what_was_saved_is_loaded_to_the_bit(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    start = load_start(path, outcome.weights_sha256)
    assert weights_sha256(start.weights) == outcome.weights_sha256
    assert torch.equal(start.shuffle_state, outcome.shuffle_state)
    assert torch.equal(start.dropout_state, outcome.dropout_state)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_going_on_from_the_file_is_going_on_from_memory(saved: tuple[Trained, Path], digits: Data) -> None:
    outcome, path = saved
    spec = job(job(dropout=0.5), optimizer="adam", dropout=0.5)
    from_file = train(spec, digits, "cpu", start=load_start(path, outcome.weights_sha256))
    assert from_file.weights_sha256 == train(spec, digits, "cpu", start=goes_on(outcome)).weights_sha256


def refusal(path: Path, sha256: str) -> str:
    with pytest.raises(DataError) as error:
        load_start(path, sha256)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "is missing" in refusal(tmp_path / "none.safetensors", "0" * 64)


def test_other_weights_than_recorded_are_refused(saved: tuple[Trained, Path]) -> None:
    assert "does not hold the weights" in refusal(saved[1], "0" * 64)


def test_a_changed_weight_is_refused(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "does not hold the weights" in refusal(path, outcome.weights_sha256)


def test_changed_generator_states_are_refused(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    content = path.read_bytes()
    at = content.index(b'"shuffle_state":"') + 1000
    path.write_bytes(content[:at] + (b"B" if content[at : at + 1] == b"A" else b"A") + content[at + 1 :])
    assert "generator states" in refusal(path, outcome.weights_sha256)


@pytest.mark.parametrize("keep", [0, 4, 5000, -1])
def test_a_file_cut_short_is_refused(keep: int, saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in refusal(path, outcome.weights_sha256)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_text("hello")
    assert "damaged" in refusal(path, "0" * 64)


def test_a_failed_save_leaves_nothing_behind(saved: tuple[Trained, Path], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        save(saved[0], "0" * 64, taken)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["artifacts", "taken"]
