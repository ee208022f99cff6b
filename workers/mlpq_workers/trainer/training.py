"""The child's side of the training process: gangs in, events out. This is where torch comes in."""

from __future__ import annotations

import dataclasses
import datetime
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
from typing import Any

import torch
from torch.distributed import Store

from mlpq.errors import MlpqError
from mlpq.spec.job import JobSpec
from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.gang_members import Member, Observer
from mlpq_workers.engine.training_state import Checkpoint, Diverged, Epoch, Stopped, Trained
from mlpq_workers.engine.world import ALONE, World
from mlpq_workers.protocol import Pipe, TrainingSettings
from mlpq_workers.trainer import devices
from mlpq_workers.trainer.checkpoints import load_start, newest_checkpoint, read_checkpoint, save, save_checkpoint
from mlpq_workers.trainer.data import load

RESULT_FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
    "best_epoch", "epochs_run", "weights_sha256", "train_seconds",
)  # fmt: skip

SAVING = 8  # files written at once
ALIVE_SECONDS = 5.0
FOR_GOOD = datetime.timedelta(days=365)

Job = Mapping[str, Any]

log = logging.getLogger("mlpq.training")


class Child:
    """Listens to the parent, and trains one gang after another."""

    def __init__(
        self,
        pipe: Pipe,
        told: TrainingSettings,
        kind: str,
        device: str,
        world: World = ALONE,
        meeting: Store | None = None,
    ) -> None:
        """`kind` is that of the `device`, which is torch's name of it. Ranks of a `world` have a store to meet by."""
        self._pipe, self._data_dir = pipe, Path(told.data_dir)
        self.kind, self.device, self.world, self._meeting = kind, device, world, meeting
        self.threads = max(1, told.threads // world.size)
        self.checkpoint_seconds = told.checkpoint_seconds
        self._gangs: queue.Queue[Sequence[Job]] = queue.Queue()
        self._met = 0
        self.to_stop: set[str] = set()
        self.is_leaving = False
        self._data: dict[str, Data] = {}
        self.facts = devices.environment(kind, self.threads, world.size)

    def serve(self) -> None:
        """Say ready, then train one gang after another until standard input ends. Other ranks than 0 follow it."""
        if self.world.rank > 0:
            while True:
                gang, files, self.facts = json.loads(self.meet())
                Training(self, gang, files).run()
        threading.Thread(target=self._listen, daemon=True).start()
        model, most = devices.model(self.kind), devices.most_ranks(self.kind)
        self.tell("ready", device=self.kind, model=model, most_ranks=most, facts=self.facts)
        threading.Thread(target=self._live, daemon=True).start()
        while True:
            Training(self, self._gangs.get()).run()

    def meet(self, word: str = "") -> str:
        """Wait for rank 0, however long, and hear its word; for what one rank does alone and takes its time."""
        if self._meeting is None:
            return word
        self._met += 1
        key = str(self._met)
        if self.world.rank == 0:
            self._meeting.delete_key(str(self._met - 2))  # the last one may still be read
            self._meeting.set(key, word)
        self._meeting.wait([key], FOR_GOOD)
        return str(self._meeting.get(key).decode())

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
        os._exit(self.world.size > 1)  # a rank that ends well is not missed by the launcher

    def data(self, dataset: str) -> Data:
        """A data set on the device, kept for the next gang; raises DataError."""
        if dataset not in self._data:
            self._data = {dataset: load(dataset, self._data_dir).to(self.device)}
        return self._data[dataset]

    def tell(self, event: str, token: str = "", **more: Any) -> None:
        """Send an event to the parent."""
        if self.world.rank == 0:
            self._pipe.tell(event, token, **more)


class Agreement:
    """What rank 0 was asked to stop, heard by all ranks before the same batch: four times a second, or every batch."""

    SECONDS = 0.25
    MOST = 10_000  # batches

    def __init__(self, world: World, asked: set[str]) -> None:
        self._world, self._asked = world, asked
        self._known: set[str] = set()
        self._calls, self._every, self._last = 0, 1, time.monotonic()

    def look(self) -> Collection[str]:
        """The tokens of those that shall stop."""
        if self._world.size == 1:
            return self._asked
        self._calls += 1
        if self._calls >= self._every:
            now = time.monotonic()
            every = self._calls * self.SECONDS / max(now - self._last, 1e-6)
            said = self._world.agree([sorted(self._asked), min(max(int(every), 1), self.MOST)])
            self._known, self._every = set(said[0]), said[1]
            self._calls, self._last = 0, now
        return self._known


class Training(Observer):
    """One gang: which engine trains it, and what its members have to tell. They are called by their tokens."""

    def __init__(self, child: Child, jobs: Sequence[Job], files: Mapping[str, str] | None = None) -> None:
        """On other ranks than 0, `files` are the checkpoints that rank 0 found, by token."""
        self._child, self._files = child, files or {}
        self._jobs = {job["token"]: job for job in jobs}
        spec = JobSpec.model_validate(jobs[0]["spec"])
        self._dataset = spec.dataset
        self._engine = "plain" if spec.gang_key is None or child.kind == "mps" else "gang"
        self._size = 0
        self._world = child.world
        self._stops = Agreement(child.world, child.to_stop)
        self._kept: dict[str, float] = dict.fromkeys(self._jobs, time.monotonic())

    def run(self) -> None:
        """Train; every job ends with one event, whatever happens. With several ranks an error is raised instead."""
        # Disks answer many at once about as fast as one, and a gang's jobs end together.
        with ThreadPoolExecutor(SAVING, "save") as self._saving:
            self._run()
        self._child.to_stop.difference_update(self._jobs)

    def _run(self) -> None:
        members, data = self._prepare()
        if data is None:
            return
        if self._world.rank == 0:
            files = {token: str(each.resume.file) for token, each in members.items() if each.resume}
            self._child.meet(json.dumps([[self._jobs[token] for token in members], files, self._child.facts]))
        try:
            self._train(members, data)
        except Exception as error:
            for token in members:
                self.ended(token, error)

    def _prepare(self) -> tuple[dict[str, Member], Data | None]:
        """The members and the data. What fails here fails on rank 0, which then hands over the rest."""
        members = {}
        for token, job in self._jobs.items():
            try:
                members[token] = self._member(job)
            except Exception as error:  # only this one: another's parent may be sound
                self._not_begun(token, error)
        try:
            data = self._child.data(self._dataset) if members else None
        except Exception as error:
            for token in members:
                self._not_begun(token, error)
            return {}, None
        if data is not None:
            log.info("data: %s, %s", self._dataset, data.source)
        return members, data

    def _train(self, members: Mapping[str, Member], data: Data) -> None:
        child = self._child
        self._size = len(members)
        if self._engine == "gang":
            # A GPU takes one stack of all; a core one of its share. Ranks meet in one thread.
            threads = child.threads if child.kind == "cpu" and self._world.size == 1 else 1
            train_gang(members, data, child.device, self, threads, self._world)
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
            ending: Trained | Exception = plain_engine.train(
                member.spec,
                data,
                child.device,
                start=member.start,
                resume=member.resume,
                on_epoch=lambda epoch: self.epoch(token, epoch),
                between=lambda take: self.between(token, take),
                should_stop=lambda: token in self.to_stop(),
                world=self._world,
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
        return self._stops.look()

    def is_leaving(self) -> bool:
        leaving: bool = self._world.agree(self._child.is_leaving)
        return leaving

    def between(self, token: str, take: Callable[[], Checkpoint]) -> bool:
        leaving, due = self._world.agree([self._child.is_leaving, self._is_due(token)])
        if leaving or due:
            if self._world.rank == 0:
                self._keep(token, take())
            self._child.meet()
        return bool(leaving)

    def _is_due(self, token: str) -> bool:
        return time.monotonic() - self._kept[token] >= self._child.checkpoint_seconds

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
        if self._world.rank > 0:
            file = self._files.get(token)
            resume = read_checkpoint(Path(file), self._whose(job)) if file else None
        elif job["attempt"] > 1:
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
            if self._world.rank == 0:
                self._saving.submit(self._save, token, ending)
        elif isinstance(ending, Stopped):
            self._child.tell("stopped", token)
        elif isinstance(ending, Diverged):
            self._child.tell("diverged", token, error=str(ending))
        elif self._world.size == 1:
            self._failed(token, ending)
        else:  # the other ranks may be waiting for this one
            raise ending

    def _not_begun(self, token: str, error: Exception) -> None:
        if self._world.rank > 0:
            raise error
        self._failed(token, error)

    def _failed(self, token: str, error: Exception) -> None:
        """Whatever it was, its reason belongs in the database."""
        if isinstance(error, MlpqError):
            self._child.tell("failed", token, error=str(error))
            return
        for line in "".join(traceback.format_exception(error)).splitlines():
            log.error("%s: %s", token, line)
        # Whose fault it was in a stack is not known, unless it lay outside.
        alone = not isinstance(error, OSError)
        self._child.tell("failed", token, error=f"{type(error).__name__}: {error}", alone=alone)

    def _save(self, token: str, trained: Trained) -> None:
        try:
            self._child.tell("succeeded", token, result=self._result(token, trained))
        except Exception as error:  # the disk is full, or the folder may not be written
            self._failed(token, error)

    def _result(self, token: str, trained: Trained) -> dict[str, Any]:
        job = self._jobs[token]
        save(trained, JobSpec.model_validate(job["spec"]).hash, Path(job["weights_file"]))
        return {
            **{name: getattr(trained, name) for name in RESULT_FIGURES},
            "weights_file": job["weights_file"],
            "device": self._child.kind,
            "world_size": self._world.size,
            "gang_size": self._size if self._engine == "gang" else 1,
            "engine": self._engine,
        }


def _folder(job: Job) -> Path:
    """Where the job's files are, whatever the attempt."""
    return Path(job["weights_file"]).parent
