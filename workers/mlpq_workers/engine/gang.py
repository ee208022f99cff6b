"""The gang engine: jobs of one shape, trained as stacks of networks, each with the bits that it has alone.

The jobs of a gang have one gang key (see mlpq.spec.job) and may differ in everything else. Each has its own seed,
batch order, dropout, optimizer, curve and ending.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mlpq.records import EpochMetrics
from mlpq_workers.engine.clipping import Clipping
from mlpq_workers.engine.cuda_graph import CudaGraph
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.ddp import StackDDP
from mlpq_workers.engine.gang_members import GangMember, Stream, Streams
from mlpq_workers.engine.optimizers import StackOptimizer, is_capturable, is_plain_descent
from mlpq_workers.engine.stack import Evaluation, Layout, Masks, Parameters, Shape, Step
from mlpq_workers.engine.stack_rates import StackRates
from mlpq_workers.engine.tensors import gather_predictions, snapshot, to_arrays
from mlpq_workers.engine.training_state import (
    Checkpoint,
    Diverged,
    EngineJob,
    Observer,
    Predictions,
    Snapshot,
    Stopped,
)
from mlpq_workers.engine.world import ALONE, World

# Parameters of a stack on the CPU. Measured: a stack whose weights don't fit the cache of a core takes longer for each
# of its networks than a network alone.
STACK_PARAMETERS = 2**18
# Pixels that one call gathers, for several batches: the call itself takes as long as the pixels of one batch.
GATHERED_PIXELS = 2**20


def train_gang(
    jobs: Mapping[str, EngineJob],
    data: Data,
    device: str,
    observer: Observer,
    threads: int = 1,
    world: World = ALONE,
) -> None:
    """Train jobs with equal gang keys, in stacks, as many at a time as there are threads.

    Torch uses one thread in each stack, so no bit depends on the gang or on `threads`. The ranks of a `world` compute
    their parts of every batch, in one thread each. Every job ends by a call of `observer.ended`, by its own name.
    """
    assert threads == 1 or world.size == 1, "ranks must communicate in the same order, so in one thread"
    assert len({job.spec.gang_key for job in jobs.values()}) == 1, "jobs of one gang have one gang key"
    data = data.to(device)
    # Created in one thread, because drawing initial weights changes torch's global generator for a moment.
    # Sorted, so that jobs which see the same images share a stack.
    members = [GangMember(name, job, observer) for name, job in jobs.items()]
    members.sort(key=lambda member: member.spec.seed)
    stacks = how_many_stacks(members, device, threads)
    shares = [members[i * len(members) // stacks : (i + 1) * len(members) // stacks] for i in range(stacks)]

    def train(share: Sequence[GangMember]) -> None:
        StackTraining(share, members, data, device, observer, world).train()

    # Set in each thread: torch would do so only at the first operation that needs it, which may be after MKL has begun.
    with ThreadPoolExecutor(threads, "stack", torch.set_num_threads, (1,)) as pool:
        for stack in [pool.submit(train, share) for share in shares]:
            stack.result()


def how_many_stacks(members: Sequence[GangMember], device: str, threads: int) -> int:
    """One on a GPU; on a CPU as many as let each fit the cache of a core, and give every thread the same number."""
    if device != "cpu":
        return 1
    fitting = max(1, STACK_PARAMETERS // members[0].spec.parameters)
    rounds = math.ceil(len(members) / (fitting * threads))
    return min(len(members), rounds * threads)


class StackTraining:
    """The training of one stack, in one thread. `gang` are the members of all stacks."""

    def __init__(
        self,
        members: Sequence[GangMember],
        gang: Sequence[GangMember],
        data: Data,
        device: str,
        observer: Observer,
        world: World,
    ) -> None:
        self._members, self._gang, self._stops_applied = list(members), gang, 0
        self._data, self._observer, self._world = data, observer, world
        self._like = torch.empty(0, dtype=data.dtype, device=device)
        self._streams: Streams = {}
        self._shape = Shape.of(members[0].spec)

    def train(self) -> None:
        """Train until every member has ended. An error ends all of them, and is raised only if reporting it fails."""
        try:
            with torch.inference_mode() if self._world.size == 1 else torch.no_grad():
                self.begin()
                self._run()
        except Exception as error:
            for member in self._members:
                member.end(error)

    def begin(self) -> None:
        """Create the stack, of the members that were not stopped while they waited."""
        for member in self._members:
            member.is_waiting = False
            if self._observer.is_leaving():
                member.end(Stopped())
        self._members = [member for member in self._members if not member.has_ended]
        for member in self._members:
            if member.stream not in self._streams:
                self._streams[member.stream] = Stream(member.job, len(self._data.train_y))
        numbers = {key: i for i, key in enumerate(self._streams)}
        self._members.sort(key=lambda m: (not is_plain_descent(m.spec), m.settings_key, numbers[m.stream]))
        if not self._members:
            return
        parameters = Parameters(self._shape, len(self._members), self._like)
        for i, member in enumerate(self._members):
            parameters.put(i, member.weights)
            member.weights = {}
        self.stack = Stack(self._members, self._streams, parameters, self._data, self._world)
        self.stack.put_state([member.optimizer for member in self._members])
        for member in self._members:
            member.optimizer = None

    def _run(self) -> None:
        while self._members:
            began = time.perf_counter()
            losses = self._train_epoch()
            self._evaluate(losses, began)
            self._drop_ended()

    def _train_epoch(self) -> list[float]:
        """Train one pass over every stream; the mean cross-entropy of each network over all its images, in nats."""
        stack, step = self.stack, self.stack.train
        for batch in stack.batches():
            if (stops := self._observer.to_stop()) and self._apply_stops(stops):
                break
            step(*batch)
        return stack.train_losses()

    def _apply_stops(self, stops: Collection[str]) -> bool:
        """End the members that must stop, also those whose stack still waits; whether all of this stack have ended."""
        if len(stops) != self._stops_applied:
            self._stops_applied = len(stops)
            for member in self._gang:
                if member.name in stops and (member.is_waiting or member in self._members):
                    member.end(Stopped())
        return all(member.has_ended for member in self._members)

    def _evaluate(self, train_losses: Sequence[float], began: float) -> None:
        if all(member.has_ended for member in self._members):
            return
        test, validation = self.stack.evaluate()
        seconds = (time.perf_counter() - began) / len(self._members)
        for i, member in enumerate(self._members):
            if member.has_ended:
                continue
            validation_loss, validation_correct = (validation[0][i], validation[1][i]) if validation else (None, None)
            metrics = EpochMetrics(
                epoch=len(member.history.curve) + 1,
                train_loss=train_losses[i],
                validation_loss=validation_loss,
                validation_correct=validation_correct,
                validation_total=member.spec.validation_size if validation else None,
                test_loss=test[0][i],
                test_correct=test[1][i],
                test_total=len(self._data.test_y),
                seconds=seconds,
            )
            self._add_epoch(i, member, metrics)

    def _add_epoch(self, i: int, member: GangMember, metrics: EpochMetrics) -> None:
        """Report an epoch of the network in row i, and end its job where it has diverged, finished or must stop."""
        if diverged := Diverged.of(metrics.epoch, metrics.train_loss, metrics.validation_loss, metrics.test_loss):
            member.end(diverged)
            return
        self._observer.epoch(member.name, metrics)
        if member.history.add(metrics, lambda: self._snapshot_with_predictions(i, member)):
            member.end(member.history.trained())
        elif self._observer.between(member.name, lambda: self._checkpoint(i, member)):
            member.end(Stopped())

    def _snapshot(self, i: int, member: GangMember) -> Snapshot:
        return snapshot(self.stack.parameters.take(i), self._streams[member.stream].shuffle, member.dropout)

    def _snapshot_with_predictions(self, i: int, member: GangMember) -> Snapshot:
        return replace(self._snapshot(i, member), predictions=self.stack.predictions(i))

    def _checkpoint(self, i: int, member: GangMember) -> Checkpoint:
        return member.history.checkpoint(self._snapshot(i, member), to_arrays(self.stack.take_state(i)))

    def _drop_ended(self) -> None:
        """Replace the stack by a smaller one where members have ended."""
        kept = [i for i, member in enumerate(self._members) if not member.has_ended]
        if len(kept) < len(self._members):
            self._members = [self._members[i] for i in kept]
            if kept:
                self._streams = {m.stream: self._streams[m.stream] for m in self._members}
                larger, self.stack = self.stack, self.stack.smaller(kept, self._members, self._streams)
                larger.release()
            else:
                self.stack.release()


class Stack:
    """The tensors of a gang's stack, for as long as its members stay the same."""

    def __init__(
        self,
        members: Sequence[GangMember],
        streams: Streams,
        parameters: Parameters,
        data: Data,
        world: World,
    ) -> None:
        self.parameters, self._data, self._members, self._world = parameters, data, members, world
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
        orders = torch.stack([stream.next_epoch() for stream in self._streams]).to(self.parameters.rows.device)
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
        stack = Stack(members, streams, parameters, self._data, self._world)
        descending = self._layout.descending
        stack.optimizer.take_over(self.optimizer, [i - descending for i in kept if i >= descending])
        return stack

    def release(self) -> None:
        """Drop the graphs: they and this stack refer to each other, which keeps the GPU's memory of both allocated."""
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
            and all(is_capturable(member.spec) and not member.spec.dropout for member in self._members)
        )
