"""The training of one gang in a training process: the engine, checkpoints, and what is reported about each job."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlpq.errors import MlpqError
from mlpq.jobs import Engine
from mlpq.records import EpochMetrics, JobResult
from mlpq.text import bounded
from mlpq_workers.engine.training_state import Checkpoint, Diverged, EngineJob, Observer, Stopped, Trained
from mlpq_workers.engine.world import World
from mlpq_workers.protocol import (
    EpochDone,
    JobDiverged,
    JobFailed,
    JobStopped,
    JobSucceeded,
    Message,
    TrainJob,
)
from mlpq_workers.trainer.checkpoints import load_start, newest_checkpoint, read_checkpoint, save, save_checkpoint
from mlpq_workers.trainer.process import LoadedData, TrainingProcess
from mlpq_workers.trainer.result_images import result_images

SAVING_THREADS = 8
LINES = 100  # of the traceback of an error

log = logging.getLogger("mlpq.training")


@dataclass(frozen=True, slots=True)
class RankGang(Message):
    """What rank 0 sends to the other ranks: the jobs to train, and its checkpoints of them, by token, and facts."""

    jobs: tuple[TrainJob, ...]
    checkpoints: Mapping[str, Path]
    facts: Mapping[str, Any]


class StopBroadcast:
    """The stop requests that rank 0 received, known to all ranks before the same batch.

    They are broadcast about four times a second, or before every batch where batches take longer.
    """

    SECONDS = 0.25
    MOST_BATCHES = 10_000  # between two broadcasts

    def __init__(self, world: World, requests: set[str]) -> None:
        self._world, self._requests = world, requests
        self._known: set[str] = set()
        self._batches, self._every, self._last = 0, 1, time.monotonic()

    def tokens(self) -> Collection[str]:
        """The tokens of jobs that must stop. Must be called by all ranks before each batch."""
        if self._world.size == 1:
            return self._requests
        self._batches += 1
        if self._batches >= self._every:
            now = time.monotonic()
            every = self._batches * self.SECONDS / max(now - self._last, 1e-6)
            tokens, self._every = self._world.broadcast(
                [sorted(self._requests), min(max(int(every), 1), self.MOST_BATCHES)]
            )
            self._known = set(tokens)
            self._batches, self._last = 0, now
        return self._known


class GangTraining(Observer):
    """The training of one gang. Its jobs are named by their tokens."""

    def __init__(
        self, process: TrainingProcess, jobs: Sequence[TrainJob], checkpoints: Mapping[str, Path] | None = None
    ) -> None:
        """On ranks other than 0, `checkpoints` are the files that rank 0 resumes from, by token."""
        self._process, self._world = process, process.world
        self._jobs = {job.token: job for job in jobs}
        self._checkpoints = checkpoints or {}
        spec = jobs[0].spec
        self._dataset = spec.data
        self._engine = process.engines.engine_of(spec)
        self._gang_size, self._labels = 0, np.empty(0, np.int64)
        self._stops = StopBroadcast(process.world, process.stop_requests)
        self._last_checkpoint = dict.fromkeys(self._jobs, time.monotonic())

    def run(self) -> None:
        """Train. Every job ends with exactly one event, whatever happens; with several ranks an error may be raised.

        Jobs that fail by an error after which the process is lost end with the process.
        """
        # The jobs of a gang end together, and a disk syncs many files at once about as fast as one.
        with ThreadPoolExecutor(SAVING_THREADS, "save") as self._saving:
            self._run()
        self._process.stop_requests.difference_update(self._jobs)

    def _run(self) -> None:
        jobs, data = self._prepare()
        if data is None:
            return
        if self._world.rank == 0:
            files = {token: job.resume.file for token, job in jobs.items() if job.resume and job.resume.file}
            gang = RankGang(tuple(self._jobs[token] for token in jobs), files, self._process.facts)
            self._process.wait_for_rank0(gang.dump())
        try:
            self._train(jobs, data)
        except Exception as error:
            for token in jobs:
                self.ended(token, error)

    def _prepare(self) -> tuple[dict[str, EngineJob], LoadedData | None]:
        """The jobs with what they start from, and the data; None where nothing is left to train.

        A job that fails here fails on rank 0, which doesn't pass it to the other ranks.
        """
        jobs = {}
        for token, job in self._jobs.items():
            try:
                jobs[token] = self._engine_job(job)
            except Exception as error:  # fails this job only: the parents of others may be intact
                self._could_not_start(token, error)
        try:
            data = self._process.data(self._dataset) if jobs else None
        except Exception as error:
            for token in jobs:
                self._could_not_start(token, error)
            return {}, None
        if data is not None:
            log.info("data: %s, %s", self._dataset.name, data.source)
        return jobs, data

    def _engine_job(self, job: TrainJob) -> EngineJob:
        self._process.check_plugin(job.spec.plugin)
        resume = self._checkpoint_of(job)
        if resume is None:
            start = None
            if job.spec.parent:
                assert job.parent_weights is not None, "a claim brings the parent's weights"
                assert job.parent_sha256 is not None, "a claim brings the parent's weights"
                start = load_start(job.parent_weights, job.parent_sha256, job.artifacts_dir)
            return EngineJob(job.spec, start)
        log.info("%s: resuming from the checkpoint after epoch %d", job.token, len(resume.curve))
        for metrics in resume.curve:
            self._process.send(EpochDone(job.token, metrics))
        return EngineJob(job.spec, None, resume)

    def _checkpoint_of(self, job: TrainJob) -> Checkpoint | None:
        if self._world.rank > 0:
            file = self._checkpoints.get(job.token)
            return read_checkpoint(file, self._owner(job)) if file else None
        if job.attempt == 1:
            return None
        return newest_checkpoint(self._owner(job), job.weights_file.parent, partial(log.warning, "%s: %s", job.token))

    def _train(self, jobs: Mapping[str, EngineJob], data: LoadedData) -> None:
        self._gang_size, self._labels = len(jobs), data.labels
        self._process.engines.train(self._engine, jobs, data.prepared, self)

    # --- what engines report and ask

    def epoch(self, token: str, metrics: EpochMetrics) -> None:
        log.info(
            "%s: epoch %d: train loss %.4f, test %d of %d, %.1f s",
            token, metrics.epoch, metrics.train_loss, metrics.test_correct, metrics.test_total, metrics.seconds,
        )  # fmt: skip
        self._process.send(EpochDone(token, metrics))

    def to_stop(self) -> Collection[str]:
        return self._stops.tokens()

    def is_leaving(self) -> bool:
        is_leaving: bool = self._world.broadcast(self._process.is_leaving)
        return is_leaving

    def between(self, token: str, take: Callable[[], Checkpoint]) -> bool:
        leaving, is_due = self._world.broadcast([self._process.is_leaving, self._is_due(token)])
        if leaving or is_due:
            if self._world.rank == 0:
                self._save_checkpoint(token, take)
            self._process.wait_for_rank0()
        return bool(leaving)

    def _is_due(self, token: str) -> bool:
        return time.monotonic() - self._last_checkpoint[token] >= self._process.checkpoint_seconds

    def _save_checkpoint(self, token: str, take: Callable[[], Checkpoint]) -> None:
        job = self._jobs[token]
        try:
            save_checkpoint(take(), self._owner(job), job.weights_file.parent, job.attempt)
        except (OSError, MlpqError) as error:  # training can go on without it
            log.warning("%s: can't write a checkpoint: %s", token, error)
        self._last_checkpoint[token] = time.monotonic()

    def _owner(self, job: TrainJob) -> dict[str, str]:
        """What a job that resumes from a checkpoint must have in common with it, to get the bits of a whole run."""
        common = self._process.engines.resumes_with(self._process.facts)
        facts = {name: json.dumps(value) for name, value in common.items()}
        return {"job": job.id, "spec_hash": job.spec.hash, "engine": self._engine, **facts}

    def ended(self, token: str, ending: Trained | Exception) -> None:
        if isinstance(ending, Trained):
            if self._world.rank == 0:
                self._saving.submit(self._save, token, ending)
        elif isinstance(ending, Stopped):
            self._process.send(JobStopped(token))
        elif isinstance(ending, Diverged):
            self._process.send(JobDiverged(token, str(ending)))
        elif self._world.size == 1:
            self._failed(token, ending)
        else:  # the other ranks may be waiting for this one: it must end
            raise ending

    # --- how jobs end

    def _could_not_start(self, token: str, error: Exception) -> None:
        if self._world.rank > 0:
            raise error
        self._failed(token, error)

    def _failed(self, token: str, error: Exception) -> None:
        if isinstance(error, MlpqError):
            self._process.send(JobFailed(token, bounded(str(error))))
            return
        lines = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode().splitlines()
        reason = bounded(f"{type(error).__name__}: {error}")
        if self._process.engines.is_lost(error):
            for line in lines:
                log.error("%s: %s", token, line)
            self._process.lost = reason  # reported by the end of the process, once what was trained is saved
            return
        # Any job of a stack may have caused the error, unless it came from outside.
        alone = not isinstance(error, OSError)
        self._process.send(JobFailed(token, reason, alone, tuple(lines[-LINES:])))

    def _save(self, token: str, trained: Trained) -> None:
        job = self._jobs[token]
        try:
            save(trained, job.spec.hash, job.weights_file)
            assert trained.final.predictions is not None, "a result has predictions"
            images = result_images(trained.final.predictions, self._labels, job.spec.data.classes)
            self._process.send(JobSucceeded(token, self._result(job, trained), images))
        except Exception as error:  # the disk is full, or the folder is read-only
            self._failed(token, error)

    def _result(self, job: TrainJob, trained: Trained) -> JobResult:
        best = trained.best
        return JobResult(
            test_correct=best.test_correct,
            test_total=best.test_total,
            test_loss=best.test_loss,
            validation_correct=best.validation_correct,
            validation_total=best.validation_total,
            validation_loss=best.validation_loss,
            best_epoch=best.epoch,
            epochs_run=trained.epochs_run,
            weights_sha256=trained.weights_sha256,
            weights_file=str(job.weights_file),
            train_seconds=trained.train_seconds,
            device=self._process.engines.kind,
            world_size=self._world.size,
            gang_size=1 if self._engine is Engine.PLAIN else self._gang_size,
            engine=self._engine,
            arithmetic=self._process.engines.arithmetic,
        )
