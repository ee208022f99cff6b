"""The plain engine: one job, one process, nn.Sequential with autograd and torch.optim. The oracle of faster ones.

It trains as the source's script does (MMiDS 8.5): the same initial weights, batch order and dropout masks from the same
seed, so on a CPU it gives the same bits. All draws come from two generators on the CPU, whatever the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.data import Data, epoch_order, split
from mlpq_workers.engine.network import Dropout, build
from mlpq_workers.engine.optimizers import build_optimizer, l1_penalty, put_state, take_state
from mlpq_workers.engine.training_state import Checkpoint, Diverged, Epoch, History, Start, Stopped, Trained
from mlpq_workers.engine.world import ALONE, World

# Float32 values in the widest layer's output while evaluating: 64 MB. Fewer rows at a time for wide networks only.
EVALUATION_FLOATS = 2**24


def train(
    spec: JobSpec,
    data: Data,
    device: str,
    start: Start | None = None,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    between: Callable[[Callable[[], Checkpoint]], bool] = lambda take: False,
    should_stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> Trained:
    """Train the job of `spec` on `device` ("cpu", "cuda", "mps") and evaluate it after each epoch.

    With `start`, weights and generators go on from there, and the optimizer is new; with `resume` everything goes on as
    if it had never been interrupted. `on_epoch` hears of every epoch. `between` is called after each but the last with
    a function that takes a checkpoint, and `should_stop` before every batch: where they answer True, Stopped is raised.
    Raises Diverged at the end of an epoch whose loss is not finite, which `on_epoch` then does not hear of.
    The ranks of a `world` each compute their part of every batch and of every evaluation; what the functions answer
    must be the same on all.
    """
    model, dropout = build(spec)
    shuffle = torch.Generator().manual_seed(spec.seed)
    if begin := resume.last if resume else start:
        model.load_state_dict(begin.weights)
        shuffle.set_state(begin.shuffle_state)
        dropout.set_state(begin.dropout_state)
    model.to(device, data.dtype)
    module = world.wrap(model)
    optimizer = build_optimizer(spec, model.parameters())
    history = History(spec, resume)
    if resume:
        put_state(optimizer, resume.optimizer)

    data = data.to(device)
    n = len(data.train_y)
    rows, held_out = split(n, spec.validation_size, spec.seed) if spec.validation else (torch.arange(n), None)
    validation = None if held_out is None else (data.train_x[held_out], data.train_y[held_out])

    def stands() -> Start:
        return Start(_copied(model), shuffle.get_state(), dropout.get_state())

    for number in range(len(history.curve) + 1, spec.epochs + 1):
        began = time.perf_counter()
        order = rows[epoch_order(len(rows), shuffle)].to(device)
        train_loss = _train_epoch(spec, module, optimizer, data, order, should_stop, world)
        epoch = _evaluated(number, train_loss, model, validation, (data.test_x, data.test_y), data.scale, began, world)
        on_epoch(epoch)
        if history.add(epoch, stands):
            break
        if between(lambda: history.checkpoint(stands(), take_state(optimizer))):
            raise Stopped
    return history.trained()


def evaluate(model: nn.Module, x: Tensor, y: Tensor, scale: int = 1, world: World = ALONE) -> tuple[float, int]:
    """Mean cross-entropy and number of right answers over all rows of x / scale; draws from no generator."""
    model.eval()
    n, own = len(y), world.part(len(y))
    x, y = x[own], y[own]
    widest = max(len(p) for p in model.parameters())
    chunk = max(1, EVALUATION_FLOATS // widest)
    loss, correct = 0.0, 0
    with torch.inference_mode():
        for some_x, some_y in zip(x.split(chunk), y.split(chunk), strict=True):
            logits = model(some_x / scale)
            # Summed in double, on the CPU because MPS has none: the figure must not depend on the chunks.
            loss += cross_entropy(logits, some_y, reduction="none").cpu().double().sum().item()
            correct += int((logits.argmax(1) == some_y).sum())
    if world.size > 1:
        losses, counts = torch.tensor(loss, dtype=torch.float64), torch.tensor(correct)
        world.sum([losses, counts])
        loss, correct = losses.item(), int(counts)
    return loss / n, correct


def _train_epoch(
    spec: JobSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Data,
    order: Tensor,
    should_stop: Callable[[], bool],
    world: World,
) -> float:
    """One pass over the rows in `order`; returns the mean cross-entropy over them."""
    model.train()
    parameters = list(model.parameters())
    batches = order.split(spec.batch_size)
    losses = []
    for batch in batches:
        if should_stop():
            raise Stopped
        own = batch if world.size == 1 else _own_part(model, batch, world)
        x, y = data.train_x.index_select(0, own) / data.scale, data.train_y.index_select(0, own)
        if world.size == 1:
            loss = cross_entropy(model(x), y)
        else:  # the rank's part of the mean over the whole batch
            loss = cross_entropy(model(x), y, reduction="sum") / len(batch)
        # Kept as tensors: reading each one's value would make a GPU wait after every batch.
        losses.append(loss.detach())
        if spec.l1 and world.rank == 0:  # once, since gradients are added up over the ranks
            loss = loss + l1_penalty(parameters, spec.l1)
        # optimizer.zero_grad() does the same by way of the profiler, at 7 % of a step of the textbook's model.
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        optimizer.step()
    sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    total = torch.stack(losses).cpu().double() @ sizes
    world.sum([total])
    return float(total) / len(order)


def _own_part(model: nn.Module, batch: Tensor, world: World) -> Tensor:
    """The rank's part of a batch; the model's dropout is told which it is."""
    own = world.part(len(batch))
    for module in model.modules():
        if isinstance(module, Dropout):
            module.part = (len(batch), own)
    return batch[own]


def _evaluated(
    number: int,
    train_loss: float,
    model: nn.Module,
    validation: tuple[Tensor, Tensor] | None,
    test: tuple[Tensor, Tensor],
    scale: int,
    began: float,
    world: World,
) -> Epoch:
    """The figures after an epoch, the held-out ones taken on the weights as they now are; raises Diverged."""
    _check_finite(number, train_loss)
    validation_loss, validation_correct = evaluate(model, *validation, scale, world) if validation else (None, None)
    if validation_loss is not None:
        _check_finite(number, validation_loss)
    test_loss, test_correct = evaluate(model, *test, scale, world)
    _check_finite(number, test_loss)
    return Epoch(
        epoch=number,
        train_loss=train_loss,
        validation_loss=validation_loss,
        validation_correct=validation_correct,
        validation_total=len(validation[1]) if validation else None,
        test_loss=test_loss,
        test_correct=test_correct,
        test_total=len(test[1]),
        seconds=time.perf_counter() - began,
    )


def _check_finite(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(epoch, loss)


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
