"""The stack of a gang: the tensors of networks that train together, their batches, steps and evaluations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from mlpq_workers.engine.clipping import Clipping
from mlpq_workers.engine.cuda_graph import CudaGraph
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.ddp import StackDDP
from mlpq_workers.engine.evaluation import Evaluation
from mlpq_workers.engine.gang_members import GangMember, Stream, Streams
from mlpq_workers.engine.optimizers import StackOptimizer, is_capturable, is_plain_descent
from mlpq_workers.engine.stack import Layout, Masks, Parameters, Step
from mlpq_workers.engine.stack_rates import StackRates
from mlpq_workers.engine.tensors import gather_predictions
from mlpq_workers.engine.training_state import Predictions
from mlpq_workers.engine.world import World

# Pixels that one call gathers, for several batches: the call itself takes as long as the pixels of one batch.
GATHERED_PIXELS = 2**20


class Stack:
    """The tensors of a gang's stack, for as long as its members stay the same. Its graphs must be released."""

    def __init__(
        self,
        members: Sequence[GangMember],
        streams: Streams,
        parameters: Parameters,
        data: Data,
        world: World,
        threads: int = 1,
    ) -> None:
        self.parameters, self._data, self._members, self._world = parameters, data, members, world
        self._threads = threads
        self._streams = list(streams.values())
        numbers = {key: i for i, key in enumerate(streams)}
        self._gradients = Parameters(parameters.shape, len(members), parameters.rows)
        # DistributedDataParallel sums gradients: with several ranks every network must have one.
        descending = sum(is_plain_descent(member.spec) for member in members) if world.size == 1 else 0
        self._layout = Layout([numbers[member.stream] for member in members], descending)
        self._ddp = StackDDP(parameters, self._gradients, world) if world.size > 1 else None
        self._n = len(self._streams[0].rows)
        self._batch = members[0].spec.batch_size
        rest = slice(descending, len(members))
        specs = [member.spec for member in members]
        self.optimizer = StackOptimizer(
            specs[rest],
            [member.settings_key for member in members[rest]],
            parameters.rows[rest],
            self._gradients.rows[rest],
        )
        self._clipping = Clipping(specs, self._gradients) if any(spec.clip_norm for spec in specs) else None
        self._rates = StackRates(specs, descending, self.optimizer, parameters.rows, self._can_capture)
        self._steps: dict[int, Step] = {}
        self._graphs: dict[Step, CudaGraph] = {}
        self._losses = parameters.rows.new_zeros(len(members), self._n)
        self._test, self._validation = self._evaluations()

    def _evaluations(self) -> tuple[Evaluation, Evaluation | None]:
        """The evaluation on the test set, which all networks share, and on the validation splits of their streams."""
        parameters, data, world = self.parameters, self._data, self._world
        test_rows = torch.arange(len(data.test_y), device=parameters.rows.device)[None]
        shared = [0] * len(self._members)
        test = Evaluation(parameters, shared, test_rows, data.test_y[None], data.scale, world)
        if not self._members[0].spec.validation:
            return test, None
        held_out = torch.stack([stream.held_out for stream in self._streams]).to(parameters.rows.device)
        own = self._layout.streams
        return test, Evaluation(parameters, own, held_out, data.train_y[held_out], data.scale, world)

    def batches(self) -> Iterator[tuple[Step, Tensor, Tensor, Tensor]]:
        """Draw the order of the next epoch and yield its batches, as arguments of `train`."""
        orders = torch.stack(self._orders()).to(self.parameters.rows.device)
        labels = self._data.train_y[orders][self._layout.streams]
        self._rates.begin([len(member.history.curve) + 1 for member in self._members], self._n)
        whole = self._n // self._batch * self._batch
        numbers = itertools.count()
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
                self._rates.apply(next(numbers), step)
                yield step, images, some_labels, some_losses

    def _orders(self) -> list[Tensor]:
        """The order of the next epoch of each stream."""
        if self._threads == 1:
            return [stream.next_epoch() for stream in self._streams]
        with ThreadPoolExecutor(self._threads, "order", torch.set_num_threads, (1,)) as pool:
            return list(pool.map(Stream.next_epoch, self._streams))

    def _gathered(self, rows: Tensor) -> Iterator[Tensor]:
        """The pixels of the batches `rows`, [batches, images], one after another, as [streams, batch, features].

        Each tensor is valid until the next one is requested.
        """
        x, (_, images) = self._data.train_x, rows.shape
        batches = max(1, GATHERED_PIXELS // max(1, images * x.shape[1]))
        buffer = x.new_empty(batches * images, x.shape[1])
        for some in rows.split(batches):
            pixels = torch.index_select(x, 0, some.flatten(), out=buffer[: some.numel()])
            yield from pixels.view(len(some), len(self._streams), images // len(self._streams), x.shape[1]).unbind(0)

    def train(self, step: Step, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Train on one batch of each stream; on a GPU as one CUDA graph, where the optimizers allow it."""
        if step.masks:
            step.masks.draw()
        graph = self._graphs.get(step)
        if graph:
            graph.run(images, labels, losses)
        else:
            self._train(step, images, labels, losses)

    def _train(self, step: Step, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        step.forward.load(images)
        if self._ddp is None:
            step.run(labels, losses)
        else:
            self._ddp.run(step, labels, losses)
        self.optimizer.add_penalties()
        if self._clipping:
            self._clipping.run()
        self.optimizer.step()

    def train_losses(self) -> list[float]:
        """The mean cross-entropy of each network over the batches of the last epoch, in nats."""
        sums = self._losses.double().sum(1)
        self._world.sum([sums])
        means: list[float] = (sums / -self._n).tolist()
        return means

    def evaluate(self) -> tuple[tuple[list[float], list[int]], tuple[list[float], list[int]] | None]:
        """Losses and correct counts of each network on the test set, and on the validation split if there is one."""
        data = self._data
        validation = self._validation.run(data.train_x) if self._validation else None
        return self._test.run(data.test_x), validation

    def predictions(self, i: int) -> Predictions:
        """What network i predicted for the test images in the last evaluation; collective."""
        test = self._test
        n, among = len(self._data.test_y), self._members[0].spec.data.classes
        return gather_predictions(test.classes[i], test.log_confidences[i], n, among, self._world)

    def take_state(self, i: int) -> dict[str, Tensor]:
        """A copy on the CPU of network i's optimizer state, which is empty for plain gradient descent."""
        descending = self._layout.descending
        return self.optimizer.take_state(i - descending) if i >= descending else {}

    def put_state(self, states: Sequence[Mapping[str, Tensor] | None]) -> None:
        """Restore what `take_state` returned, of networks that resume; None for those that start."""
        self.optimizer.put_state(states[self._layout.descending :])

    def smaller(self, kept: Sequence[int], members: Sequence[GangMember], streams: Streams) -> Stack:
        """A stack of the networks `kept`, in the state of this one."""
        parameters = Parameters(self.parameters.shape, len(kept), self.parameters.rows)
        parameters.rows.copy_(self.parameters.rows[list(kept)])
        stack = Stack(members, streams, parameters, self._data, self._world, self._threads)
        descending = self._layout.descending
        stack.optimizer.take_over(self.optimizer, [i - descending for i in kept if i >= descending])
        return stack

    def release(self) -> None:
        """Free the graphs. They and this stack refer to each other, which keeps the memory of both allocated."""
        for graph in self._graphs.values():
            graph.release()
        self._graphs.clear()

    def _step(self, batch: int) -> Step:
        if batch not in self._steps:
            own = self._world.part(batch)
            layout, members = self._layout, self._members
            rates = [1 / batch] * len(members)
            rates[: layout.descending] = [-member.spec.lr / batch for member in members[: layout.descending]]
            step = Step(
                self.parameters,
                self._gradients,
                layout,
                self.parameters.rows.new_tensor(rates),
                own.stop - own.start,
                self._data.scale,
            )
            if any(member.spec.dropout for member in members):
                dropout = [member.spec.dropout for member in members]
                step.masks = Masks(step.forward, dropout, [member.dropout for member in members], batch, own)
            if any(member.spec.label_smoothing for member in members):
                step.smooth([member.spec.label_smoothing for member in members])
            self._steps[batch] = step
            if self._can_capture:
                self._graphs[step] = CudaGraph(partial(self._train, step))
        return self._steps[batch]

    @property
    def _can_capture(self) -> bool:
        return (
            self.parameters.rows.is_cuda
            and self._ddp is None
            and all(is_capturable(member.spec) for member in self._members)
        )
