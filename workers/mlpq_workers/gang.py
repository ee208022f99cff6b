"""The gang engine: jobs of one shape trained as one stacked model, each with the bits that it would have alone.

Jobs of a gang may differ in all but their gang key (see mlpq.spec). Each keeps its own seed, batch order, dropout,
optimizer, curve and end.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mlpq.spec import JobSpec
from mlpq_workers.cuda_graph import CudaGraph
from mlpq_workers.data import Data, epoch_order, split
from mlpq_workers.engine import Diverged, Epoch, Start, Stopped, Trained
from mlpq_workers.model import build, weights_sha256
from mlpq_workers.optim import StackOptimizer, is_capturable, is_plain_descent, settings_key
from mlpq_workers.stack import Evaluation, Masks, Parameters, Shape, Step


@dataclass(frozen=True)
class Member:
    """A job of a gang, and where it goes on from."""

    spec: JobSpec
    start: Start | None = None


class Observer:
    """Hears of a gang's members, by their names, from one or several threads; this one hears nothing."""

    def epoch(self, member: str, epoch: Epoch) -> None:
        """An epoch was trained and evaluated."""

    def ended(self, member: str, ending: Trained | Exception) -> None:
        """A member is trained, or Diverged, Stopped, or an error was raised. Each member ends once."""

    def to_stop(self) -> Collection[str]:
        """The members that shall end before the next batch; asked often."""
        return ()


def train_gang(members: Mapping[str, Member], data: Data, device: str, observer: Observer, threads: int = 1) -> None:
    """Train jobs with equal gang keys together, on as many stacks as there are threads.

    On the CPU torch itself must be set to one thread: then no bit depends on the gang or on `threads`.
    """
    data = data.to(device)
    # Made in one thread, because initial weights are drawn by way of torch's global generator.
    models = sorted((_Model(name, member) for name, member in members.items()), key=lambda model: model.spec.seed)
    shares = [models[i * len(models) // threads : (i + 1) * len(models) // threads] for i in range(threads)]
    gangs = [Gang(share, data, device, observer) for share in shares if share]
    others = [threading.Thread(target=gang.train) for gang in gangs[1:]]
    for thread in others:
        thread.start()
    gangs[0].train()
    for thread in others:
        thread.join()


class _Model:
    """One member: its generators, what it has reached, and whether it has ended."""

    def __init__(self, name: str, member: Member) -> None:
        self.name, self.spec = name, member.spec
        self.weights, self.dropout = build_start(member)
        self.stream = _Stream.key(member)
        self.start = member.start
        self.seconds = 0.0
        self.best: Epoch | None = None
        self.kept: Start | None = None
        self.has_ended = False


def build_start(member: Member) -> tuple[dict[str, Tensor], torch.Generator]:
    """The weights and the dropout generator that a member begins with."""
    model, dropout = build(member.spec)
    if member.start:
        model.load_state_dict(member.start.weights)
        dropout.set_state(member.start.dropout_state)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}, dropout


class _Stream:
    """The images in the order in which jobs of one seed see them; jobs that share it share what is gathered."""

    def __init__(self, model: _Model, n: int) -> None:
        spec = model.spec
        self.shuffle = torch.Generator().manual_seed(spec.seed)
        if model.start:
            self.shuffle.set_state(model.start.shuffle_state)
        self.rows, self.held_out = torch.arange(n), torch.empty(0, dtype=torch.int64)
        if spec.validation:
            self.rows, self.held_out = split(n, spec.validation_size, spec.seed)

    @staticmethod
    def key(member: Member) -> tuple[int, bytes]:
        """Equal for members that see the same images in the same order."""
        state = member.start.shuffle_state.numpy().tobytes() if member.start else b""
        return member.spec.seed, state

    def next_epoch(self) -> Tensor:
        return self.rows[epoch_order(len(self.rows), self.shuffle)]


class Gang:
    """One stack of models in one thread."""

    def __init__(self, models: Sequence[_Model], data: Data, device: str, observer: Observer) -> None:
        self._models = list(models)
        self._data, self._observer = data, observer
        self._like = torch.empty(0, dtype=data.dtype, device=device)
        self._streams: dict[tuple[int, bytes], _Stream] = {}
        self._shape = Shape.of(models[0].spec)

    def train(self) -> None:
        """Train until every model has ended; raises nothing, because another gang must go on."""
        try:
            with torch.inference_mode():
                self._run()
        except Exception as error:
            for model in self._models:
                self._end(model, error)

    def _run(self) -> None:
        for model in self._models:
            if model.stream not in self._streams:
                self._streams[model.stream] = _Stream(model, len(self._data.train_y))
        numbers = {key: i for i, key in enumerate(self._streams)}
        self._models.sort(key=lambda m: (not is_plain_descent(m.spec), settings_key(m.spec), numbers[m.stream]))
        parameters = Parameters(self._shape, len(self._models), self._like)
        for i, model in enumerate(self._models):
            parameters.put(i, model.weights)
        self._stack = _Stack(self._models, self._streams, parameters, self._data)
        number = 0
        while self._models:
            number += 1
            began = time.perf_counter()
            losses = self._train_epoch()
            self._evaluate(number, losses, began)
            self._leave()

    def _train_epoch(self) -> list[float]:
        """One pass over every stream; the mean cross-entropy of each model, over all its images."""
        stack, step = self._stack, self._stack.train
        for batch in stack.batches():
            if asked := self._observer.to_stop():
                for model in self._models:
                    if model.name in asked:
                        self._end(model, Stopped())
                if all(model.has_ended for model in self._models):
                    break
            step(*batch)
        return stack.train_losses()

    def _evaluate(self, number: int, train_losses: Sequence[float], began: float) -> None:
        if all(model.has_ended for model in self._models):
            return
        test, validation = self._stack.evaluate()
        seconds = (time.perf_counter() - began) / len(self._models)
        for i, model in enumerate(self._models):
            if model.has_ended:
                continue
            validation_loss, validation_correct = (validation[0][i], validation[1][i]) if validation else (None, None)
            epoch = Epoch(
                epoch=number,
                train_loss=train_losses[i],
                validation_loss=validation_loss,
                validation_correct=validation_correct,
                validation_total=model.spec.validation_size if validation else None,
                test_loss=test[0][i],
                test_correct=test[1][i],
                test_total=len(self._data.test_y),
                seconds=seconds,
            )
            self._judge(i, model, epoch)

    def _judge(self, i: int, model: _Model, epoch: Epoch) -> None:
        """Report an epoch, keep its weights where they count, and end the model where it has come to its end."""
        losses = (epoch.train_loss, epoch.validation_loss, epoch.test_loss)
        for loss in losses:
            if loss is not None and not math.isfinite(loss):
                self._end(model, Diverged(epoch.epoch, loss))
                return
        model.seconds += epoch.seconds
        self._observer.epoch(model.name, epoch)
        patience, best = model.spec.patience, model.best
        is_last = epoch.epoch == model.spec.epochs
        if best is None or patience is None or _lower(epoch, best):
            model.best = epoch
            if patience is not None or is_last:
                shuffle = self._streams[model.stream].shuffle.get_state()
                model.kept = Start(self._stack.parameters.take(i), shuffle, model.dropout.get_state())
        elif epoch.epoch - best.epoch >= patience:
            is_last = True
        if is_last:
            self._end(model, trained(model, epoch.epoch))

    def _end(self, model: _Model, ending: Trained | Exception) -> None:
        if not model.has_ended:
            model.has_ended = True
            self._observer.ended(model.name, ending)

    def _leave(self) -> None:
        """Make the stack smaller where models have ended."""
        kept = [i for i, model in enumerate(self._models) if not model.has_ended]
        if len(kept) < len(self._models):
            self._models = [self._models[i] for i in kept]
            if kept:
                self._streams = {m.stream: self._streams[m.stream] for m in self._models}
                self._stack = self._stack.smaller(kept, self._models, self._streams)


def _lower(epoch: Epoch, best: Epoch) -> bool:
    assert epoch.validation_loss is not None  # patience needs a split
    assert best.validation_loss is not None
    return epoch.validation_loss < best.validation_loss


def trained(model: _Model, epochs_run: int) -> Trained:
    """The result of a model: the figures and weights of its best epoch."""
    best, kept = model.best, model.kept
    assert best is not None
    assert kept is not None
    return Trained(
        weights=kept.weights,
        shuffle_state=kept.shuffle_state,
        dropout_state=kept.dropout_state,
        weights_sha256=weights_sha256(kept.weights),
        best_epoch=best.epoch,
        epochs_run=epochs_run,
        validation_loss=best.validation_loss,
        validation_correct=best.validation_correct,
        validation_total=best.validation_total,
        test_loss=best.test_loss,
        test_correct=best.test_correct,
        test_total=best.test_total,
        train_seconds=model.seconds,
    )


class _Stack:
    """The tensors of a gang as long as its members stay the same."""

    def __init__(
        self, models: Sequence[_Model], streams: dict[tuple[int, bytes], _Stream], parameters: Parameters, data: Data
    ) -> None:
        self.parameters, self._data, self._models = parameters, data, models
        self._streams = list(streams.values())
        numbers = {key: i for i, key in enumerate(streams)}
        self._reads = [numbers[model.stream] for model in models]
        like = parameters.rows
        self._n = len(self._streams[0].rows)
        self._batch = models[0].spec.batch_size
        self._gradients = Parameters(parameters.shape, len(models), like)
        self._descending = sum(is_plain_descent(model.spec) for model in models)
        rest = slice(self._descending, len(models))
        specs = [model.spec for model in models[rest]]
        self._optimizer = StackOptimizer(specs, parameters.rows[rest], self._gradients.rows[rest])
        self._steps: dict[int, Step] = {}
        self._graphs: dict[Step, CudaGraph] = {}
        self._losses = like.new_empty(len(models), self._n)
        n = len(data.test_y)
        test_rows = torch.arange(n, device=like.device)[None]
        self._test = Evaluation(parameters, [0] * len(models), test_rows, data.test_y[None])
        self._validation = None
        if models[0].spec.validation:
            held_out = torch.stack([stream.held_out for stream in self._streams]).to(like.device)
            self._validation = Evaluation(parameters, self._reads, held_out, data.train_y[held_out])

    def batches(self) -> Iterator[tuple[Step, Tensor, Tensor, Tensor]]:
        """Draw the order of the next epoch and yield its batches, as arguments for `train`."""
        orders = torch.stack([stream.next_epoch() for stream in self._streams]).to(self.parameters.rows.device)
        labels = self._data.train_y[orders][self._reads]
        whole = self._n // self._batch * self._batch
        for first, end, batch in ((0, whole, self._batch), (whole, self._n, self._n - whole)):
            if first == end:
                continue
            step = self._step(batch)
            count = (end - first) // batch
            rows = orders[:, first:end].unflatten(1, (count, batch)).transpose(0, 1).flatten(1)
            parts = [t[:, first:end].unflatten(1, (count, 1, batch)).unbind(1) for t in (labels, self._losses)]
            for some_rows, some_labels, some_losses in zip(rows.unbind(0), *parts, strict=True):
                yield step, some_rows, some_labels, some_losses

    def train(self, step: Step, rows: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Train on one batch of each stream; on a GPU the whole of it is launched at once."""
        graph = self._graphs.get(step)
        if graph:
            graph.run(rows, labels, losses)
        else:
            self._train(step, rows, labels, losses)

    def _train(self, step: Step, rows: Tensor, labels: Tensor, losses: Tensor) -> None:
        step.forward.load(self._data.train_x, self._data.scale, rows)
        step.run(labels, losses)
        self._optimizer.step()

    def train_losses(self) -> list[float]:
        means: list[float] = (self._losses.double().sum(1) / -self._n).tolist()
        return means

    def evaluate(self) -> tuple[tuple[list[float], list[int]], tuple[list[float], list[int]] | None]:
        """Losses and counts on the test set, and on the validation split where there is one."""
        data = self._data
        validation = self._validation.run(data.train_x, data.scale) if self._validation else None
        return self._test.run(data.test_x, data.scale), validation

    def smaller(
        self, kept: Sequence[int], models: Sequence[_Model], streams: dict[tuple[int, bytes], _Stream]
    ) -> _Stack:
        """The stack of the models `kept`, going on where this one stands."""
        parameters = Parameters(self.parameters.shape, len(kept), self.parameters.rows)
        parameters.rows.copy_(self.parameters.rows[list(kept)])
        stack = _Stack(models, streams, parameters, self._data)
        stack._optimizer.take_over(self._optimizer, [i - self._descending for i in kept if i >= self._descending])
        return stack

    def _step(self, batch: int) -> Step:
        if batch not in self._steps:
            scale = [-m.spec.lr / batch if is_plain_descent(m.spec) else 1 / batch for m in self._models]
            step = Step(
                self.parameters,
                self._gradients,
                self._reads,
                self._descending,
                self.parameters.rows.new_tensor(scale),
                batch,
            )
            if any(model.spec.dropout for model in self._models):
                rates = [model.spec.dropout for model in self._models]
                step.masks = Masks(step.forward, rates, [model.dropout for model in self._models])
            self._steps[batch] = step
            if self.parameters.rows.is_cuda and all(is_capturable(m.spec) and not m.spec.dropout for m in self._models):
                self._graphs[step] = CudaGraph(partial(self._train, step))
        return self._steps[batch]
