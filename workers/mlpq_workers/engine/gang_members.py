"""The jobs of a gang: what each brings, and what it keeps for itself."""

from __future__ import annotations

import threading

from torch import Tensor

from mlpq_workers.engine.data import epoch_order
from mlpq_workers.engine.optimizers import settings_key
from mlpq_workers.engine.seeding import shuffle_generator, starting_network, training_rows
from mlpq_workers.engine.tensors import to_tensors
from mlpq_workers.engine.training_state import EngineJob, History, Observer, Trained


class GangMember:
    """A job of a gang: its generators and history, and whether it has ended.

    `weights` and `optimizer` are its state before it joins a stack; the stack's own tensors hold it then.
    """

    def __init__(self, name: str, job: EngineJob, observer: Observer) -> None:
        self.name, self.job, self.spec, self._observer = name, job, job.spec, observer
        network, self.dropout = starting_network(job)
        self.weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
        self.stream = Stream.key(job)
        self.history = History(job.spec, job.resume)
        self.optimizer = to_tensors(job.resume.optimizer) if job.resume else None
        self.settings_key = settings_key(job.spec, len(self.history.curve))
        self.is_waiting, self.has_ended = True, False
        self._lock = threading.Lock()

    def end(self, ending: Trained | Exception) -> None:
        """End the job and report it, unless it has ended: another thread may be stopping it at the same moment."""
        with self._lock:
            if self.has_ended:
                return
            self.has_ended = True
        self._observer.ended(self.name, ending)
        self.history, self.weights = History(self.spec), {}  # frees tensors


class Stream:
    """The training images in the order in which jobs of one seed see them. Such jobs share it, and what it gathers.

    `rows` are the rows that are trained on, `held_out` those of the validation split.
    """

    def __init__(self, job: EngineJob, n: int) -> None:
        self.shuffle = shuffle_generator(job)
        self.rows, self.held_out = training_rows(job.spec, n)

    @staticmethod
    def key(job: EngineJob) -> tuple[int, bytes]:
        """Equal for jobs of one gang that see the same images in the same order."""
        state = job.begin.shuffle_state.tobytes() if job.begin else b""
        return job.spec.seed, state

    def next_epoch(self) -> Tensor:
        """Row numbers in the order of the next epoch, int64."""
        return self.rows[epoch_order(len(self.rows), self.shuffle)]


Streams = dict[tuple[int, bytes], Stream]
