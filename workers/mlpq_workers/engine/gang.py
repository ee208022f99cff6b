"""The gang engine: jobs of one shape trained as one stacked model, each with the bits that it would have alone.

Jobs of a gang may differ in all but their gang key (see mlpq.spec.job). Each keeps its own seed, batch order, dropout,
optimizer, curve and end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from mlpq_workers.engine.cuda_graph import CudaGraph
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.ddp import Together
from mlpq_workers.engine.gang_members import Member, Model, Observer, Stream
from mlpq_workers.engine.optimizers import StackOptimizer, is_capturable, is_plain_descent
from mlpq_workers.engine.stack import Evaluation, Masks, Parameters, Shape, Step
from mlpq_workers.engine.training_state import Checkpoint, Diverged, Epoch, Start, Stopped
from mlpq_workers.engine.world import ALONE, World

# Measured: a stack whose weights leave the cache of a core is slower for each of its models than one alone.
STACK_PARAMETERS = 2**18
# Pixels gathered at once, for several batches: the call itself takes as long as the pixels of one.
GATHERED = 2**20


def train_gang(
    members: Mapping[str, Member],
    data: Data,
    device: str,
    observer: Observer,
    threads: int = 1,
    world: World = ALONE,
) -> None:
    """Train jobs with equal gang keys, in stacks, as many at a time as there are threads.

    Torch itself gets one thread: so no bit depends on the gang or on `threads`. The ranks of a `world` compute their
    parts of every batch in one thread each; what the observer answers must be the same on all.
    """
    assert threads == 1 or world.size == 1, "the ranks of a world must meet in the same order"
    assert len({member.spec.gang_key for member in members.values()}) == 1, "jobs of one gang have one gang key"
    data = data.to(device)
    # Made in one thread, because initial weights are drawn by way of torch's global generator. Sorted, so that those
    # which see the same images come into one stack.
    models = [Model(name, member, observer) for name, member in members.items()]
    models.sort(key=lambda model: model.spec.seed)
    stacks = how_many_stacks(models, device, threads)
    shares = [models[i * len(models) // stacks : (i + 1) * len(models) // stacks] for i in range(stacks)]

    def train(share: Sequence[Model]) -> None:
        StackTraining(share, models, data, device, observer, world).train()

    # Set in each thread: torch would do it only at the first operation that asks, and MKL may come before.
    with ThreadPoolExecutor(threads, "stack", torch.set_num_threads, (1,)) as pool:
        for stack in [pool.submit(train, share) for share in shares]:
            stack.result()


def how_many_stacks(models: Sequence[Model], device: str, threads: int) -> int:
    """On a GPU one; on a CPU so many that each stack fits the cache of its core, and every thread has as many."""
    if device != "cpu":
        return 1
    fitting = max(1, STACK_PARAMETERS // models[0].spec.parameters)
    rounds = math.ceil(len(models) / (fitting * threads))
    return min(len(models), rounds * threads)


class StackTraining:
    """One stack of models in one thread; `together` are those of all stacks."""

    def __init__(
        self,
        models: Sequence[Model],
        together: Sequence[Model],
        data: Data,
        device: str,
        observer: Observer,
        world: World,
    ) -> None:
        self._models, self._together, self._obeyed = list(models), together, 0
        self._data, self._observer, self._world = data, observer, world
        self._like = torch.empty(0, dtype=data.dtype, device=device)
        self._streams: dict[tuple[int, bytes], Stream] = {}
        self._shape = Shape.of(models[0].spec)

    def train(self) -> None:
        """Train until every model has ended; raises only what the observer raises, because another gang must go on."""
        try:
            with torch.inference_mode() if self._world.size == 1 else torch.no_grad():
                self.begin()
                self._run()
        except Exception as error:
            for model in self._models:
                model.end(error)

    def begin(self) -> None:
        """Make the stack, of those that were not stopped before it was their turn."""
        for model in self._models:
            model.waits = False
            if self._observer.is_leaving():
                model.end(Stopped())
        self._models = [model for model in self._models if not model.has_ended]
        for model in self._models:
            if model.stream not in self._streams:
                self._streams[model.stream] = Stream(model, len(self._data.train_y))
        numbers = {key: i for i, key in enumerate(self._streams)}
        self._models.sort(key=lambda m: (not is_plain_descent(m.spec), m.key, numbers[m.stream]))
        if not self._models:
            return
        parameters = Parameters(self._shape, len(self._models), self._like)
        for i, model in enumerate(self._models):
            parameters.put(i, model.weights)
            model.weights = {}
        self.stack = Stack(self._models, self._streams, parameters, self._data, self._world)
        self.stack.put_state([model.optimizer for model in self._models])
        for model in self._models:
            model.optimizer = None

    def _run(self) -> None:
        while self._models:
            began = time.perf_counter()
            losses = self._train_epoch()
            self._evaluate(losses, began)
            self._leave()

    def _train_epoch(self) -> list[float]:
        """One pass over every stream; the mean cross-entropy of each model, over all its images."""
        stack, step = self.stack, self.stack.train
        for batch in stack.batches():
            if (asked := self._observer.to_stop()) and self._obey(asked):
                break
            step(*batch)
        return stack.train_losses()

    def _obey(self, asked: Collection[str]) -> bool:
        """End the models that shall stop, those too whose stack still waits; whether none is left in this one."""
        if len(asked) != self._obeyed:
            self._obeyed = len(asked)
            for model in self._together:
                if model.name in asked and (model.waits or model in self._models):
                    model.end(Stopped())
        return all(model.has_ended for model in self._models)

    def _evaluate(self, train_losses: Sequence[float], began: float) -> None:
        if all(model.has_ended for model in self._models):
            return
        test, validation = self.stack.evaluate()
        seconds = (time.perf_counter() - began) / len(self._models)
        for i, model in enumerate(self._models):
            if model.has_ended:
                continue
            validation_loss, validation_correct = (validation[0][i], validation[1][i]) if validation else (None, None)
            epoch = Epoch(
                epoch=len(model.history.curve) + 1,
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

    def _judge(self, i: int, model: Model, epoch: Epoch) -> None:
        """Report an epoch, keep its weights where they count, and end the model where it has come to its end."""
        losses = (epoch.train_loss, epoch.validation_loss, epoch.test_loss)
        for loss in losses:
            if loss is not None and not math.isfinite(loss):
                model.end(Diverged(epoch.epoch, loss))
                return
        self._observer.epoch(model.name, epoch)
        if model.history.add(epoch, lambda: self._stands(i, model)):
            model.end(model.history.trained())
        elif self._observer.between(model.name, lambda: self._checkpoint(i, model)):
            model.end(Stopped())

    def _stands(self, i: int, model: Model) -> Start:
        """A copy of where model i stands."""
        shuffle = self._streams[model.stream].shuffle.get_state()
        return Start(self.stack.parameters.take(i), shuffle, model.dropout.get_state())

    def _checkpoint(self, i: int, model: Model) -> Checkpoint:
        return model.history.checkpoint(self._stands(i, model), self.stack.take_state(i))

    def _leave(self) -> None:
        """Make the stack smaller where models have ended."""
        kept = [i for i, model in enumerate(self._models) if not model.has_ended]
        if len(kept) < len(self._models):
            self._models = [self._models[i] for i in kept]
            if kept:
                self._streams = {m.stream: self._streams[m.stream] for m in self._models}
                larger, self.stack = self.stack, self.stack.smaller(kept, self._models, self._streams)
                larger.release()
            else:
                self.stack.release()


class Stack:
    """The tensors of a gang as long as its members stay the same."""

    def __init__(
        self,
        models: Sequence[Model],
        streams: dict[tuple[int, bytes], Stream],
        parameters: Parameters,
        data: Data,
        world: World,
    ) -> None:
        self.parameters, self._data, self._models, self._world = parameters, data, models, world
        self._streams = list(streams.values())
        numbers = {key: i for i, key in enumerate(streams)}
        self._reads = [numbers[model.stream] for model in models]
        like = parameters.rows
        self._n = len(self._streams[0].rows)
        self._batch = models[0].spec.batch_size
        self._gradients = Parameters(parameters.shape, len(models), like)
        # What DistributedDataParallel adds up is gradients: there every model has one.
        self._descending = sum(is_plain_descent(model.spec) for model in models) if world.size == 1 else 0
        rest = slice(self._descending, len(models))
        specs = [model.spec for model in models[rest]]
        keys = [model.key for model in models[rest]]
        self.optimizer = StackOptimizer(specs, keys, parameters.rows[rest], self._gradients.rows[rest])
        self._steps: dict[int, Step] = {}
        self._graphs: dict[Step, CudaGraph] = {}
        self._losses = like.new_zeros(len(models), self._n)
        n = len(data.test_y)
        test_rows = torch.arange(n, device=like.device)[None]
        self._test = Evaluation(parameters, [0] * len(models), test_rows, data.test_y[None], data.scale, world)
        self._validation = None
        if models[0].spec.validation:
            held_out = torch.stack([stream.held_out for stream in self._streams]).to(like.device)
            self._validation = Evaluation(parameters, self._reads, held_out, data.train_y[held_out], data.scale, world)
        self._together = Together(parameters, self._gradients, world) if world.size > 1 else None

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
            own = self._world.part(batch)
            rows = orders[:, first:end].unflatten(1, (count, batch))[:, :, own].transpose(0, 1).flatten(1)
            parts = [
                t[:, first:end].unflatten(1, (count, 1, batch))[..., own].unbind(1) for t in (labels, self._losses)
            ]
            for images, some_labels, some_losses in zip(self._gathered(rows), *parts, strict=True):
                yield step, images, some_labels, some_losses

    def _gathered(self, rows: Tensor) -> Iterator[Tensor]:
        """The pixels of the batches `rows`, [batches, images], one after another, as [streams, batch, features].

        Each is good until the next.
        """
        x, (_, images) = self._data.train_x, rows.shape
        together = max(1, GATHERED // max(1, images * x.shape[1]))
        buffer = x.new_empty(together * images, x.shape[1])
        for some in rows.split(together):
            pixels = torch.index_select(x, 0, some.flatten(), out=buffer[: some.numel()])
            yield from pixels.view(len(some), len(self._streams), images // len(self._streams), x.shape[1]).unbind(0)

    def train(self, step: Step, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Train on one batch of each stream; on a GPU the whole of it is launched at once."""
        graph = self._graphs.get(step)
        if graph:
            graph.run(images, labels, losses)
        else:
            self._train(step, images, labels, losses)

    def _train(self, step: Step, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        step.forward.load(images)
        if self._together is None:
            step.run(labels, losses)
        else:
            self._together.run(step, labels, losses)
        self.optimizer.step()

    def train_losses(self) -> list[float]:
        sums = self._losses.double().sum(1)
        self._world.sum([sums])
        means: list[float] = (sums / -self._n).tolist()
        return means

    def evaluate(self) -> tuple[tuple[list[float], list[int]], tuple[list[float], list[int]] | None]:
        """Losses and counts on the test set, and on the validation split where there is one."""
        data = self._data
        validation = self._validation.run(data.train_x) if self._validation else None
        return self._test.run(data.test_x), validation

    def take_state(self, model: int) -> dict[str, Tensor]:
        """A copy on the CPU of what the optimizer remembers of a model; plain descent remembers nothing."""
        return self.optimizer.take_state(model - self._descending) if model >= self._descending else {}

    def put_state(self, states: Sequence[Mapping[str, Tensor] | None]) -> None:
        """Let models that were interrupted go on from what `take_state` took; None for one that begins."""
        self.optimizer.put_state(states[self._descending :])

    def smaller(self, kept: Sequence[int], models: Sequence[Model], streams: dict[tuple[int, bytes], Stream]) -> Stack:
        """The stack of the models `kept`, going on where this one stands."""
        parameters = Parameters(self.parameters.shape, len(kept), self.parameters.rows)
        parameters.rows.copy_(self.parameters.rows[list(kept)])
        stack = Stack(models, streams, parameters, self._data, self._world)
        stack.optimizer.take_over(self.optimizer, [i - self._descending for i in kept if i >= self._descending])
        return stack

    def release(self) -> None:
        """Let go of the graphs, which hold this stack as it holds them, and with both a GPU's memory."""
        self._graphs.clear()

    def _step(self, batch: int) -> Step:
        if batch not in self._steps:
            own = self._world.part(batch)
            rates = [1 / batch] * len(self._models)
            rates[: self._descending] = [-model.spec.lr / batch for model in self._models[: self._descending]]
            step = Step(
                self.parameters,
                self._gradients,
                self._reads,
                self._descending,
                self.parameters.rows.new_tensor(rates),
                own.stop - own.start,
                self._data.scale,
            )
            if any(model.spec.dropout for model in self._models):
                rates = [model.spec.dropout for model in self._models]
                step.masks = Masks(step.forward, rates, [model.dropout for model in self._models], batch, own)
            self._steps[batch] = step
            if (
                self.parameters.rows.is_cuda
                and self._together is None
                and all(is_capturable(m.spec) and not m.spec.dropout for m in self._models)
            ):
                self._graphs[step] = CudaGraph(partial(self._train, step))
        return self._steps[batch]
