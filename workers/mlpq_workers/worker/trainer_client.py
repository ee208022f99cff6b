"""The warm child process that trains, and its supervision.

The Celery process never imports torch: a child does, and stays warm between gangs. They speak JSON, one object a line.
The child dies with its parent: by the kernel's signal on Linux, and everywhere by the end of its standard input.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlpq.errors import MlpqError
from mlpq.settings import Settings, training_environ
from mlpq_workers.protocol import TrainingSettings

START_SECONDS = 120  # importing torch from a cold disk
LOG_LINES = 200  # kept for each job

# How the child begins a line about one job of its gang.
ABOUT_JOB = re.compile(r"([0-9a-f-]{36}/\d+): (.*)")

Event = dict[str, Any]

log = logging.getLogger("mlpq.trainer")


class Trainer:
    """The parent's side: start the child, give it one gang at a time, read its events, end it.

    `world_size` is how many processes train together; None means one for each GPU.
    """

    def __init__(self, config: Settings, device: str, world_size: int | None = None) -> None:
        self._config, self._device, self._own = config, device, world_size
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: subprocess.Popen[str] | None = None
        self._events: queue.Queue[Event] = queue.Queue()
        self._logs: dict[str, collections.deque[str]] = {}  # by token
        self.words = 0  # lines that the child has said, those among them that only say that it is alive
        self.device = ""
        self.model, self.most_ranks, self.world_size = "", 1, 1
        self.facts: dict[str, Any] = {}

    def start(self) -> None:
        """Start the child and wait until it knows its device; raises MlpqError where it has none such."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self, world_size: int | None = None) -> None:
        """Start the child, with the worker's world size unless told otherwise; it takes seconds to import torch."""
        self._events = queue.Queue()
        self._scratch = tempfile.TemporaryDirectory(prefix="mlpq-training-")
        self._child = subprocess.Popen(
            self._command(self._scratch.name, world_size or self._own),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # whatever a library prints, the log must be read on, or its pipe fills up
            env=training_environ(),
            process_group=0,  # so that it can be killed with its own children, and Ctrl-C reaches only the parent
        )
        for read in (self._read_events, self._read_log):
            threading.Thread(target=read, args=(self._child, self._events), daemon=True).start()

    def wait_until_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until the child knows its device; raises MlpqError where it has none such."""
        event, until = None, time.monotonic() + START_SECONDS
        while event is None and time.monotonic() < until:
            event = self.event(1.0)
            meanwhile()
        if event is None or event["event"] != "ready":
            self.kill()
            raise MlpqError(event["error"] if event else f"training did not start within {START_SECONDS} s")
        self.device, self.facts = event["device"], event["facts"]
        self.model, self.most_ranks, self.world_size = event["model"], event["most_ranks"], self.facts["world_size"]

    def ensure_ready(self, world_size: int | None = None, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start the child again if it died, or, with a `world_size`, if it has another one.

        `meanwhile` is called about every second. Raises MlpqError where it does not start.
        """
        is_alive = self._child is not None and self._child.poll() is None
        if is_alive and world_size in (None, self.world_size):
            return
        self.kill()
        self.spawn(world_size)
        self.wait_until_ready(meanwhile)

    def train(self, gang: Sequence[Mapping[str, Any]]) -> None:
        """Hand over the jobs of a gang; what becomes of each comes as events that carry its `token`."""
        self._logs = {job["token"]: collections.deque(maxlen=LOG_LINES) for job in gang}
        self._send({"do": "train", "gang": list(gang)})

    def stop_job(self, token: str) -> None:
        """Ask the child to stop a job between two batches; it answers with the event "stopped"."""
        self._send({"do": "stop", "token": token})

    def leave(self) -> None:
        """Ask the child to end its jobs after the epoch they are in, with a checkpoint; each answers with "stopped"."""
        self._send({"do": "leave"})

    def event(self, timeout: float) -> Event | None:
        """The next event within `timeout` seconds; the last one of a dead child is "died"."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(block=timeout > 0, timeout=timeout)
        return None

    def events(self, timeout: float) -> list[Event]:
        """The events that there are, after waiting up to `timeout` seconds for the first."""
        found = [] if (first := self.event(timeout)) is None else [first]
        while found and (more := self.event(0)) is not None:
            found.append(more)
        return found

    def log_tail(self, token: str) -> str:
        """The last lines that the child wrote about this job, or about no job of its gang."""
        return "\n".join(self._logs.get(token, ()))

    def kill(self) -> None:
        """End the child and all its children at once."""
        child, self._child = self._child, None  # a second thread may call this too
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _command(self, scratch: str, world_size: int | None) -> list[str]:
        config = self._config
        told = TrainingSettings(
            os.getpid(), self._device, world_size, config.threads, str(config.data_dir), config.checkpoint_seconds,
            scratch,
        )  # fmt: skip
        return [sys.executable, "-m", "mlpq_workers.trainer", told.dump()]

    def _send(self, message: Mapping[str, Any]) -> None:
        child = self._child
        if child is None or child.stdin is None:
            return  # it was killed, which the event "died" tells
        with contextlib.suppress(BrokenPipeError):  # the same
            child.stdin.write(json.dumps(message) + "\n")
            child.stdin.flush()

    def _read_events(self, child: subprocess.Popen[str], events: queue.Queue[Event]) -> None:
        assert child.stdout is not None
        last_words: Event = {}
        for line in child.stdout:
            try:
                event = json.loads(line)
            except ValueError:  # cut short by its death, or it is out of its mind
                child.kill()
                break
            self.words += 1
            if event["event"] == "died":
                last_words = event
                child.kill()
            elif event["event"] != "alive":
                events.put(event)
        error = f"the training process ended unasked: {_ending(child.wait())}"
        events.put({"event": "died", "error": error, "alone": True, **last_words})

    def _read_log(self, child: subprocess.Popen[str], _events: queue.Queue[Event]) -> None:
        assert child.stderr is not None
        for line in child.stderr:
            clean = line.rstrip("\n").replace("\0", "\\0")  # PostgreSQL's text holds no NUL
            about, text = parts.groups() if (parts := ABOUT_JOB.match(clean)) else ("", clean)
            logs = self._logs
            for lines in [logs[about]] if about in logs else logs.values():
                lines.append(time.strftime("%H:%M:%S ", time.gmtime()) + text)
            job, _, attempt = about.partition("/")
            if self._child is child:  # ranks that are killed say so at length
                log.info("%s", clean, extra={"job": job, "attempt": int(attempt)} if about else {})


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
