"""The gang engine: jobs of one shape, trained as stacks of networks.

The jobs of a gang have one gang key (see mlpq.spec.job) and may differ in everything else. Each has its own seed,
batch order, dropout, optimizer, curve and ending. On one process of a CPU each has the bits that it has alone. On a GPU
it has them only up to rounding, since cuBLAS chooses its kernels by the number of networks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from mlpq.records import EpochMetrics
from mlpq.spec.job import JobSpec
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.evaluation import Evaluation
from mlpq_workers.engine.gang_members import GangMember, Stream, Streams
from mlpq_workers.engine.gang_stack import Stack
from mlpq_workers.engine.optimizers import is_plain_descent
from mlpq_workers.engine.stack import Parameters, Shape
from mlpq_workers.engine.tensors import snapshot, to_arrays
from mlpq_workers.engine.training_state import Checkpoint, Diverged, EngineJob, Observer, Snapshot, Stopped
from mlpq_workers.engine.world import ALONE, World

# Parameters of a stack on the CPU. Measured: a stack whose weights don't fit the cache of a core takes longer for each
# of its networks than a network alone.
STACK_PARAMETERS = 2**18
# The share of a GPU's free memory that a stack may take, by an estimate that is mostly too high.
STACK_MEMORY = 0.8


def train_gang(
    jobs: Mapping[str, EngineJob],
    data: Data,
    device: str,
    observer: Observer,
    threads: int = 1,
    world: World = ALONE,
) -> None:
    """Train jobs with equal gang keys, in stacks: on a CPU as many at a time as there are threads, on a GPU one.

    On a GPU, the threads draw the orders of the images. Torch uses one thread in each stack, so on a CPU no bit depends
    on the gang or on `threads`. The ranks of a `world` compute their parts of every batch, in one thread each. Every
    job ends by a call of `observer.ended`, by its own name.
    """
    assert threads == 1 or world.size == 1, "ranks must communicate in the same order, so in one thread"
    assert len({job.spec.gang_key for job in jobs.values()}) == 1, "jobs of one gang have one gang key"
    data = data.to(device)
    # Created in one thread, because drawing initial weights changes torch's global generator for a moment.
    # Sorted, so that jobs which see the same images share a stack.
    members = [GangMember(name, job, observer) for name, job in jobs.items()]
    members.sort(key=lambda member: member.spec.seed)
    at_once, drawing = (threads, 1) if device == "cpu" else (1, threads)
    stacks = world.broadcast(how_many_stacks(members, device, threads))
    shares = [members[i * len(members) // stacks : (i + 1) * len(members) // stacks] for i in range(stacks)]

    def train(share: Sequence[GangMember]) -> None:
        StackTraining(share, members, data, observer, world, drawing).train()

    # Set in each thread: torch would do so only at the first operation that needs it, which may be after MKL has begun.
    with ThreadPoolExecutor(at_once, "stack", begin_thread, (data.train_x.device,)) as pool:
        for stack in [pool.submit(train, share) for share in shares]:
            stack.result()


def begin_thread(device: torch.device) -> None:
    """Prepare a new thread for training on `device`."""
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # each thread has its own current GPU, at first the first one


def how_many_stacks(members: Sequence[GangMember], device: str, threads: int) -> int:
    """On a CPU as many as let each fit the cache of a core, and give every thread the same number.

    On a GPU as few as let each fit the free memory.
    """
    spec = members[0].spec
    if device != "cpu":
        return math.ceil(len(members) / networks_fitting(spec, free_memory(device)))
    fitting = max(1, STACK_PARAMETERS // spec.parameters)
    rounds = math.ceil(len(members) / (fitting * threads))
    return min(len(members), rounds * threads)


def networks_fitting(spec: JobSpec, free: int) -> int:
    """How many networks of a stack fit into so many free bytes of a GPU; at least 1.

    Counted are the parameters, their gradients, the optimizer's states and what its step allocates; the inputs and
    activations of two sizes of batches and of the evaluations, with derivatives and masks; and for each image its place
    in the order, its label, loss and prediction.
    """
    inputs, *outputs = spec.widths
    batches, evaluations = 2 * spec.batch_size, 2 * Evaluation.ROWS
    floats = 10 * spec.parameters + (batches + evaluations // 2) * inputs + 6 * (batches + evaluations) * sum(outputs)
    return max(1, int(STACK_MEMORY * free) // (4 * floats + 48 * (spec.data.train + spec.data.test)))


def free_memory(device: str) -> int:
    """Bytes that this process can still allocate on a GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class StackTraining:
    """The training of one stack, in one thread. `gang` are the members of all stacks.

    So many `threads` draw the orders of its images.
    """

    def __init__(
        self,
        members: Sequence[GangMember],
        gang: Sequence[GangMember],
        data: Data,
        observer: Observer,
        world: World = ALONE,
        threads: int = 1,
    ) -> None:
        self._members, self._gang, self._stops_applied = list(members), gang, 0
        self._data, self._observer, self._world, self._threads = data, observer, world, threads
        self._like = torch.empty(0, dtype=data.dtype, device=data.train_x.device)
        self._streams: Streams = {}
        self._shape = Shape.of(members[0].spec)

    def train(self) -> None:
        """Train until every member has ended. An error ends all of them, and is raised only if reporting it fails."""
        try:
            with torch.inference_mode() if self._world.size == 1 else torch.no_grad():
                self.begin()
                if self._members:
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
        self.stack = Stack(self._members, self._streams, parameters, self._data, self._world, self._threads)
        self.stack.put_state([member.optimizer for member in self._members])
        for member in self._members:
            member.optimizer = None

    def _run(self) -> None:
        try:
            while self._members:
                began = time.perf_counter()
                losses = self._train_epoch()
                self._evaluate(losses, began)
                self._drop_ended()
        finally:
            self.stack.release()

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
