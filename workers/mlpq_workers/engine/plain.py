"""The plain engine: one job by nn.Sequential, autograd and torch.optim. The reference for the gang engine.

It trains as the script of MMiDS 8.5 does: from the same seed come the same initial weights, batch order and dropout
masks, so on a CPU it gives the same bits. See mlpq_workers.engine.seeding for the generators.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mlpq.records import EpochMetrics
from mlpq_workers.engine.data import Data, epoch_order
from mlpq_workers.engine.network import Dropout
from mlpq_workers.engine.optimizers import (
    build_optimizer,
    l1_penalty,
    put_state,
    rate_factors,
    set_rate,
    take_state,
)
from mlpq_workers.engine.plugin_optimizer import seed_generators
from mlpq_workers.engine.rates import epoch_rates
from mlpq_workers.engine.seeding import shuffle_generator, starting_network, training_rows
from mlpq_workers.engine.tensors import gather_predictions, snapshot, to_arrays, to_tensors
from mlpq_workers.engine.training_state import (
    Checkpoint,
    Diverged,
    EngineJob,
    History,
    Observer,
    Snapshot,
    Stopped,
    Trained,
)
from mlpq_workers.engine.world import ALONE, World

# Float32 values in the widest layer's output during evaluation: 64 MB. Only wide networks get fewer rows at a time.
EVALUATION_FLOATS = 2**24


def train(
    job: EngineJob,
    data: Data,
    device: str,
    observer: Observer | None = None,
    name: str = "",
    world: World = ALONE,
) -> Trained:
    """Train the job on `device` ("cpu", "cuda", "mps"), and evaluate it after each epoch.

    Every epoch is reported to the observer, under `name`; its `ended` is not called. Raises Stopped where the observer
    says so, and Diverged at the end of an epoch whose loss is not finite, instead of reporting it. The ranks of a
    `world` each compute their part of every batch and of every evaluation.
    """
    return PlainTraining(job, data, device, observer or Observer(), name, world).run()


class PlainTraining:
    """The training of one job."""

    def __init__(self, job: EngineJob, data: Data, device: str, observer: Observer, name: str, world: World) -> None:
        self._spec, self._device, self._world = job.spec, device, world
        self._observer, self._name = observer, name
        self._network, self._dropout = starting_network(job)
        self._network.to(device, data.dtype)
        self._shuffle = shuffle_generator(job)
        self._module = world.wrap(self._network)
        if job.spec.plugin is not None:
            seed_generators(job.spec, self._dropout)
        self._optimizer = build_optimizer(job.spec, self._network.parameters())
        self._factors = rate_factors(self._optimizer, job.spec.lr) if job.spec.has_varying_lr else []
        self._history = History(job.spec, job.resume)
        if job.resume:
            put_state(job.spec, self._optimizer, to_tensors(job.resume.optimizer))
        self._data = data = data.to(device)
        self._logits: Tensor | None = None  # of this rank's part of the test images, by the last evaluation
        self._rows, held_out = training_rows(job.spec, len(data.train_y))
        self._validation = (data.train_x[held_out], data.train_y[held_out]) if len(held_out) else None

    def run(self) -> Trained:
        history = self._history
        for number in range(len(history.curve) + 1, self._spec.epochs + 1):
            began = time.perf_counter()
            order = self._rows[epoch_order(len(self._rows), self._shuffle)].to(self._device)
            train_loss = self._train_epoch(order, epoch_rates(self._spec, number, len(order)).tolist())
            metrics = self._evaluate(number, train_loss, began)
            self._observer.epoch(self._name, metrics)
            if history.add(metrics, self._snapshot_with_predictions):
                break
            if self._observer.between(self._name, self._checkpoint):
                raise Stopped
        return history.trained()

    def _train_epoch(self, order: Tensor, rates: Sequence[float]) -> float:
        """Train one pass over the rows in `order`, with a learning rate for each batch; the mean cross-entropy over
        them, in nats."""
        spec, data, network, world = self._spec, self._data, self._module, self._world
        optimizer, to_stop, name = self._optimizer, self._observer.to_stop, self._name
        network.train()
        parameters = list(network.parameters())
        batches = order.split(spec.batch_size)
        losses = []
        for batch, rate in zip(batches, rates, strict=True):
            if name in to_stop():
                raise Stopped
            own = batch if world.size == 1 else self._own_part(batch)
            x, y = data.train_x.index_select(0, own) / data.scale, data.train_y.index_select(0, own)
            loss = self._loss(network(x), y, len(batch))
            # Kept as tensors: reading each value would make a GPU wait after every batch.
            losses.append(loss.detach())
            if spec.l1 and world.rank == 0:  # on one rank only, since gradients are summed over the ranks
                loss = loss + l1_penalty(parameters, spec.l1)
            # optimizer.zero_grad() does the same, but its profiler hook takes 7 % of a step of the textbook's network.
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            if spec.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, spec.clip_norm)
            if spec.has_varying_lr:
                set_rate(optimizer, rate, self._factors)
            optimizer.step()
        sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
        total = torch.stack(losses).cpu().double() @ sizes
        world.sum([total])
        return float(total) / len(order)

    def _loss(self, logits: Tensor, labels: Tensor, batch: int) -> Tensor:
        """This rank's part of the mean cross-entropy over a batch; a scalar."""
        smoothing = self._spec.label_smoothing
        if self._world.size == 1:
            return cross_entropy(logits, labels, label_smoothing=smoothing)
        return cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing) / batch

    def _own_part(self, batch: Tensor) -> Tensor:
        """This rank's part of a batch, which the network's dropout must know too."""
        own = self._world.part(len(batch))
        for module in self._network.modules():
            if isinstance(module, Dropout):
                module.part = (len(batch), own)
        return batch[own]

    def _evaluate(self, number: int, train_loss: float, began: float) -> EpochMetrics:
        """The metrics of an epoch; raises Diverged."""
        data, validation = self._data, self._validation
        validation_loss, validation_correct = None, None
        _check_finite(number, train_loss)
        if validation:
            validation_loss, validation_correct = evaluate(self._network, *validation, data.scale, self._world)
            _check_finite(number, validation_loss)
        test_loss, test_correct, self._logits = evaluate_with_logits(
            self._network, data.test_x, data.test_y, data.scale, self._world
        )
        _check_finite(number, test_loss)
        return EpochMetrics(
            epoch=number,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_correct=validation_correct,
            validation_total=len(validation[1]) if validation else None,
            test_loss=test_loss,
            test_correct=test_correct,
            test_total=len(data.test_y),
            seconds=time.perf_counter() - began,
        )

    def _snapshot(self) -> Snapshot:
        weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._network.state_dict().items()}
        return snapshot(weights, self._shuffle, self._dropout)

    def _snapshot_with_predictions(self) -> Snapshot:
        assert self._logits is not None, "a snapshot is taken after an evaluation"
        log = self._logits.log_softmax(1).amax(1)
        n, among = len(self._data.test_y), self._logits.shape[1]
        found = gather_predictions(self._logits.argmax(1), log, n, among, self._world)
        return replace(self._snapshot(), predictions=found)

    def _checkpoint(self) -> Checkpoint:
        return self._history.checkpoint(self._snapshot(), to_arrays(take_state(self._spec, self._optimizer)))


def evaluate(network: nn.Module, x: Tensor, y: Tensor, scale: int = 1, world: World = ALONE) -> tuple[float, int]:
    """Mean cross-entropy, in nats, and correct count over all rows of x / scale; draws from no generator.

    `x` is [n, features], `y` holds class indices, [n].
    """
    loss, correct, _ = evaluate_with_logits(network, x, y, scale, world)
    return loss, correct


def evaluate_with_logits(
    network: nn.Module, x: Tensor, y: Tensor, scale: int = 1, world: World = ALONE
) -> tuple[float, int, Tensor]:
    """As `evaluate`, with the logits of this rank's part of the rows, [part, classes], on the device."""
    network.eval()
    n, own = len(y), world.part(len(y))
    x, y = x[own], y[own]
    widest = max(len(p) for p in network.parameters())
    chunk = max(1, EVALUATION_FLOATS // widest)
    loss, correct, kept = 0.0, 0, []
    with torch.inference_mode():
        for some_x, some_y in zip(x.split(chunk), y.split(chunk), strict=True):
            logits = network(some_x / scale)
            # Summed in double precision, so that the loss doesn't depend on the chunks; on the CPU, since MPS has none.
            loss += cross_entropy(logits, some_y, reduction="none").cpu().double().sum().item()
            correct += int((logits.argmax(1) == some_y).sum())
            kept.append(logits)
    if world.size > 1:
        losses, counts = torch.tensor(loss, dtype=torch.float64), torch.tensor(correct)
        world.sum([losses, counts])
        loss, correct = losses.item(), int(counts)
    return loss / n, correct, torch.cat(kept)


def _check_finite(epoch: int, loss: float) -> None:
    if diverged := Diverged.of(epoch, loss):
        raise diverged
