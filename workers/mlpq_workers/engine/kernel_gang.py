"""The kernel engine: the jobs of a gang, each trained by itself by the kernel, as many at a time as there are threads.

A job's bits depend on its spec only, see mlpq_workers.kernel: no neighbor, thread or CPU can change one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from mlpq.records import EpochMetrics
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.rates import epoch_rates
from mlpq_workers.engine.training_state import (
    Checkpoint,
    Diverged,
    EngineJob,
    History,
    Observer,
    Predictions,
    Snapshot,
    Stopped,
    Trained,
)
from mlpq_workers.kernel import Build, Epoch, Evaluation, Generator, Images, Network, initial_weights, training_rows

STOP_SECONDS = 0.1  # between two looks for requests to stop


@dataclass(frozen=True)
class KernelData:
    """A data set as the kernel takes it."""

    train: Images
    test: Images

    @classmethod
    def of(cls, images: ImageSet) -> KernelData:
        scale = images.scale
        return cls(Images(images.train_x, images.train_y, scale), Images(images.test_x, images.test_y, scale))


def train_gang(
    jobs: Mapping[str, EngineJob], data: KernelData, build: Build, observer: Observer, threads: int = 1
) -> None:
    """Train jobs, in their order, each in one of `threads` threads.

    Every job ends by a call of `observer.ended`, by its own name; an error is raised only where that call fails.
    """
    trainings = {name: KernelTraining(name, job, data, build, observer) for name, job in jobs.items()}

    def train(name: str) -> None:
        trainings[name].train()
        del trainings[name]  # with the memory of its network

    finished = threading.Event()
    watching = threading.Thread(target=_stop_requested, args=(trainings, observer, finished), daemon=True)
    watching.start()
    try:
        with ThreadPoolExecutor(threads, "kernel") as pool:
            for ending in [pool.submit(train, name) for name in jobs]:
                ending.result()
    finally:
        finished.set()
        watching.join()


def _stop_requested(trainings: Mapping[str, KernelTraining], observer: Observer, finished: threading.Event) -> None:
    while not finished.wait(STOP_SECONDS):
        for name in tuple(observer.to_stop()):  # another thread may add to them
            if training := trainings.get(name):
                training.stop()


class KernelTraining:
    """The training of one job."""

    def __init__(self, name: str, job: EngineJob, data: KernelData, build: Build, observer: Observer) -> None:
        self._name, self._job, self._spec = name, job, job.spec
        self._data, self._build, self._observer = data, build, observer
        self._lock = threading.Lock()
        self._is_waiting, self._is_stopping = True, False
        self._epoch: Epoch | None = None

    def stop(self) -> None:
        """End the job before its next batch, or at once if it still waits for a thread; called in another one."""
        with self._lock:
            self._is_stopping = True
            ends_now, self._is_waiting = self._is_waiting, False
            if self._epoch is not None:
                self._epoch.stop()
        if ends_now:
            self._observer.ended(self._name, Stopped())

    def train(self) -> None:
        """Train to the end of the job, and report it; does nothing where it was stopped before."""
        with self._lock:
            if not self._is_waiting:
                return
            self._is_waiting = False
        try:
            ending: Trained | Exception = self._trained()
        except Exception as error:
            ending = error
        self._observer.ended(self._name, ending)

    def _trained(self) -> Trained:
        if self._observer.is_leaving():
            raise Stopped
        self._begin()
        history = self._history
        for number in range(len(history.curve) + 1, self._spec.epochs + 1):
            began = time.perf_counter()
            train_loss = self._train_epoch(number)
            metrics = self._evaluate(number, train_loss, began)
            self._observer.epoch(self._name, metrics)
            if history.add(metrics, self._snapshot_with_predictions):
                break
            if self._observer.between(self._name, self._checkpoint):
                raise Stopped
        return history.trained()

    def _begin(self) -> None:
        """Take what the job starts from: here and not before, since many jobs may wait."""
        spec, build, begin, resume = self._spec, self._build, self._job.begin, self._job.resume
        self._history = History(spec, resume)
        self._network = Network(spec, self._data.train.scale, build)
        weights, self._dropout = initial_weights(spec, build)
        self._shuffle = Generator(build, spec.seed)
        if begin:
            self._shuffle.set_state(begin.shuffle_state)
            self._dropout.set_state(begin.dropout_state)
        self._network.put_weights(begin.weights if begin else weights)
        if resume:
            self._network.put_state(resume.optimizer)
        self._rows, self._held_out = training_rows(spec, len(self._data.train.labels), build)
        self._test: Evaluation | None = None

    def _train_epoch(self, number: int) -> float:
        """Train one pass, the epoch of that number; the mean cross-entropy over its images, in nats. Raises Stopped."""
        spec = self._spec
        order = self._rows[self._shuffle.epoch_order(len(self._rows))]
        epoch = Epoch(order, spec.batch_size, epoch_rates(spec, number, len(order)))
        with self._lock:
            if self._is_stopping:
                raise Stopped
            self._epoch = epoch
        if not self._network.train(self._data.train, epoch, self._dropout):
            raise Stopped
        return epoch.loss

    def _evaluate(self, number: int, train_loss: float, began: float) -> EpochMetrics:
        """The metrics of an epoch; raises Diverged."""
        validation = self._network.evaluate(self._data.train, self._held_out) if len(self._held_out) else None
        test = self._test = self._network.evaluate(self._data.test)
        if diverged := Diverged.of(number, train_loss, validation.loss if validation else None, test.loss):
            raise diverged
        return EpochMetrics(
            epoch=number,
            train_loss=train_loss,
            validation_loss=validation.loss if validation else None,
            validation_correct=validation.correct if validation else None,
            validation_total=validation.total if validation else None,
            test_loss=test.loss,
            test_correct=test.correct,
            test_total=test.total,
            seconds=time.perf_counter() - began,
        )

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._network.take_weights(), self._shuffle.get_state(), self._dropout.get_state())

    def _snapshot_with_predictions(self) -> Snapshot:
        assert self._test is not None, "a snapshot is taken after an evaluation"
        predictions = Predictions.of(self._test.predicted, self._test.confidences, self._spec.data.classes)
        return replace(self._snapshot(), predictions=predictions)

    def _checkpoint(self) -> Checkpoint:
        return self._history.checkpoint(self._snapshot(), self._network.take_state())
