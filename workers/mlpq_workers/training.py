"""The child's side of the training process: gangs in, events out. This is where torch comes in."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

from mlpq.errors import MlpqError
from mlpq.spec import JobSpec
from mlpq_workers import devices, engine
from mlpq_workers.data import Data, load
from mlpq_workers.files import load_start, newest_checkpoint, save, save_checkpoint
from mlpq_workers.gang import Member, Observer, train_gang
from mlpq_workers.states import Checkpoint, Diverged, Epoch, Stopped, Trained

RESULT_FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
    "best_epoch", "epochs_run", "weights_sha256", "train_seconds",
)  # fmt: skip

SAVING = 8  # files written at once
ALIVE_SECONDS = 5.0

Job = Mapping[str, Any]

log = logging.getLogger("mlpq.training")


class Child:
    """Listens to the parent, and trains one gang after another."""

    def __init__(self, out: IO[str], data_dir: Path, checkpoint_seconds: float) -> None:
        self._out, self._writing = out, threading.Lock()
        self._data_dir = data_dir
        self.checkpoint_seconds = checkpoint_seconds
        self._gangs: queue.Queue[Sequence[Job]] = queue.Queue()
        self.to_stop: set[str] = set()
        self.is_leaving = False
        self._data: dict[str, Data] = {}
        self.device, self.threads = "", 1
        self.facts: dict[str, object] = {}

    def serve(self, requested_device: str, threads: int) -> None:
        """Say ready, then train one gang after another until standard input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.device, self.threads = devices.choose(requested_device), threads
        except MlpqError as error:
            self.tell("unusable", error=str(error))
            return
        devices.prepare(self.device)
        self.facts = devices.environment(self.device, threads)
        self.tell("ready", device=self.device, facts=self.facts)
        threading.Thread(target=self._live, daemon=True).start()
        while True:
            Training(self, self._gangs.get()).run()

    def _live(self) -> None:
        while True:
            time.sleep(ALIVE_SECONDS)
            self.tell("alive")

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message["do"] == "stop":
                self.to_stop.add(message["token"])
            elif message["do"] == "leave":
                self.is_leaving = True
            else:
                self._gangs.put(message["gang"])
        os._exit(0)

    def data(self, dataset: str) -> Data:
        """A data set on the device, kept for the next gang; raises DataError."""
        if dataset not in self._data:
            self._data = {dataset: load(dataset, self._data_dir).to(self.device)}
        return self._data[dataset]

    def tell(self, event: str, token: str = "", **more: Any) -> None:
        """Send an event to the parent."""
        line = json.dumps({"event": event, "token": token, **more}) + "\n"
        with self._writing:
            self._out.write(line)
            self._out.flush()


class Training(Observer):
    """One gang: which engine trains it, and what its members have to tell. They are called by their tokens."""

    def __init__(self, child: Child, jobs: Sequence[Job]) -> None:
        self._child = child
        self._jobs = {job["token"]: job for job in jobs}
        spec = JobSpec.model_validate(jobs[0]["spec"])
        self._dataset = spec.dataset
        self._engine = "plain" if spec.gang_key is None or child.device == "mps" else "gang"
        self._size = 0
        self._kept: dict[str, float] = dict.fromkeys(self._jobs, time.monotonic())

    def run(self) -> None:
        """Train; every job ends with one event, whatever happens."""
        # Disks answer many at once about as fast as one, and a gang's jobs end together.
        with ThreadPoolExecutor(SAVING, "save") as self._saving:
            self._run()
        self._child.to_stop.difference_update(self._jobs)

    def _run(self) -> None:
        members = {}
        for token, job in self._jobs.items():
            try:
                members[token] = self._member(job)
            except Exception as error:  # only this one: another's parent may be sound
                self.ended(token, error)
        try:
            if members:
                self._train(members)
        except Exception as error:
            for token in members:
                self.ended(token, error)

    def _train(self, members: Mapping[str, Member]) -> None:
        child = self._child
        data = child.data(self._dataset)
        log.info("data: %s, %s", self._dataset, data.source)
        self._size = len(members)
        if self._engine == "gang":
            # A GPU takes one stack of all; a core one of its share.
            train_gang(members, data, child.device, self, child.threads if child.device == "cpu" else 1)
            return
        torch.set_num_threads(child.threads)
        for token, member in members.items():
            self._train_plain(token, member, data)

    def _train_plain(self, token: str, member: Member, data: Data) -> None:
        child = self._child
        if self.is_leaving():
            self.ended(token, Stopped())
            return
        try:
            ending: Trained | Exception = engine.train(
                member.spec,
                data,
                child.device,
                start=member.start,
                resume=member.resume,
                on_epoch=lambda epoch: self.epoch(token, epoch),
                between=lambda take: self.between(token, take),
                should_stop=lambda: token in child.to_stop,
            )
        except Exception as error:
            ending = error
        self.ended(token, ending)

    def epoch(self, token: str, epoch: Epoch) -> None:
        log.info(
            "%s: epoch %d: train loss %.4f, test %d of %d, %.1f s",
            token, epoch.epoch, epoch.train_loss, epoch.test_correct, epoch.test_total, epoch.seconds,
        )  # fmt: skip
        self._tell_epoch(token, epoch)

    def _tell_epoch(self, token: str, epoch: Epoch) -> None:
        self._child.tell("epoch", token, epoch=dataclasses.asdict(epoch))

    def to_stop(self) -> Collection[str]:
        return self._child.to_stop

    def is_leaving(self) -> bool:
        return self._child.is_leaving

    def between(self, token: str, take: Callable[[], Checkpoint]) -> bool:
        leaving = self.is_leaving()
        if leaving or time.monotonic() - self._kept[token] >= self._child.checkpoint_seconds:
            self._keep(token, take())
        return leaving

    def _keep(self, token: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint. One that can't be written loses nothing yet."""
        job = self._jobs[token]
        try:
            save_checkpoint(checkpoint, self._whose(job), _folder(job), job["attempt"])
        except OSError as error:
            log.warning("%s: no checkpoint could be written: %s", token, error)
        self._kept[token] = time.monotonic()

    def _whose(self, job: Job) -> dict[str, str]:
        """What must be the same for a checkpoint to be gone on from: then the bits are those of a run undisturbed."""
        spec = JobSpec.model_validate(job["spec"])
        facts = {name: json.dumps(value) for name, value in self._child.facts.items()}
        return {"job": job["token"].partition("/")[0], "spec_hash": spec.hash, "engine": self._engine, **facts}

    def _member(self, job: Job) -> Member:
        spec, token = JobSpec.model_validate(job["spec"]), job["token"]
        resume = None
        if job["attempt"] > 1:
            warn = partial(log.warning, "%s: %s", token)
            resume = newest_checkpoint(self._whose(job), _folder(job), warn)
        if resume is None:
            start = load_start(Path(job["parent_weights"]), job["parent_sha256"]) if spec.parent else None
            return Member(spec, start)
        log.info("%s: goes on from its checkpoint after epoch %d", token, len(resume.curve))
        for epoch in resume.curve:
            self._tell_epoch(token, epoch)
        return Member(spec, None, resume)

    def ended(self, token: str, ending: Trained | Exception) -> None:
        if isinstance(ending, Trained):
            self._saving.submit(self._save, token, ending)
        elif isinstance(ending, Stopped):
            self._child.tell("stopped", token)
        elif isinstance(ending, Diverged):
            self._child.tell("diverged", token, error=str(ending))
        elif isinstance(ending, MlpqError):
            self._child.tell("failed", token, error=str(ending))
        else:  # whatever it was, its reason belongs in the database
            for line in "".join(traceback.format_exception(ending)).splitlines():
                log.error("%s: %s", token, line)
            # Whose fault it was in a stack is not known, unless it lay outside.
            alone = not isinstance(ending, OSError)
            self._child.tell("failed", token, error=f"{type(ending).__name__}: {ending}", alone=alone)

    def _save(self, token: str, trained: Trained) -> None:
        try:
            self._child.tell("succeeded", token, result=self._result(token, trained))
        except Exception as error:  # the disk is full, or the folder may not be written
            self.ended(token, error)

    def _result(self, token: str, trained: Trained) -> dict[str, Any]:
        job = self._jobs[token]
        save(trained, JobSpec.model_validate(job["spec"]).hash, Path(job["weights_file"]))
        return {
            **{name: getattr(trained, name) for name in RESULT_FIGURES},
            "weights_file": job["weights_file"],
            "device": self._child.device,
            "world_size": 1,
            "gang_size": self._size if self._engine == "gang" else 1,
            "engine": self._engine,
        }


def _folder(job: Job) -> Path:
    """Where the job's files are, whatever the attempt."""
    return Path(job["weights_file"]).parent
