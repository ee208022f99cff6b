"""The worker's side of the training process: start it, give it gangs, receive its events, end it.

The worker never imports torch: its training process does, and stays warm between gangs. It ends with the worker: by a
signal of the kernel on Linux, and everywhere by the end of its standard input.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlpq import plugins
from mlpq.errors import MlpqError
from mlpq.settings import Settings, python_module, training_environ
from mlpq.worker_records import TrainingSetup
from mlpq_workers.protocol import (
    Alive,
    Command,
    Died,
    Event,
    JobFailed,
    Leave,
    Ready,
    StopJob,
    TrainGang,
    TrainingSettings,
    TrainJob,
    Unusable,
    parse_event,
)
from mlpq_workers.worker.scratch import Scratch

START_SECONDS = 120  # importing torch from a cold disk
LOG_LINES = 200  # kept of each job

JOB_LINE = re.compile(r"([0-9a-f-]{36}/\d+): (.*)")  # a line of the training process's log about one job, by its token

log = logging.getLogger("mlpq.trainer")


class Trainer:
    """The training process of a worker. It trains one gang at a time.

    `device` is the requested kind of device. `world_size` is how many processes train together; None means one for each
    GPU. The process can be replaced by one with another setup, see `ensure_ready`.
    """

    def __init__(self, config: Settings, device: str, world_size: int | None = None) -> None:
        self._config, self._requested_device, self._requested_world_size = config, device, world_size
        self._scratch: Scratch | None = None
        self._process: subprocess.Popen[str] | None = None
        self._events: queue.Queue[Event] = queue.Queue()
        self._logs: dict[str, collections.deque[str]] = {}  # by token
        self.events_received = 0  # including those that only report that the process is alive
        self._ready = Ready("", "", 1, {"world_size": 1})
        self._kernel: str | None = None

    @property
    def device(self) -> str:
        """The kind of device that the process trains on."""
        return self._ready.device

    @property
    def device_name(self) -> str:
        return self._ready.device_name

    @property
    def most_ranks(self) -> int:
        """How many processes can train together on the device."""
        return self._ready.most_ranks

    @property
    def world_size(self) -> int:
        """How many processes train together now."""
        return self._ready.world_size

    @property
    def setup(self) -> TrainingSetup:
        """How many processes train together now, whether by the kernel, and of which plug-in."""
        return TrainingSetup(self.world_size, self._ready.uses_kernel, plugin=self._ready.plugin)

    @property
    def has_kernel(self) -> bool:
        """Whether the kernel can train jobs of world size 1 on the device."""
        return self._kernel is not None

    @property
    def has_torch(self) -> bool:
        return self._ready.torch

    @property
    def facts(self) -> Mapping[str, Any]:
        """The environment of attempts."""
        return self._ready.facts

    def start(self) -> None:
        """Start the process and wait until it is ready; raises MlpqError where it can't train."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self, setup: TrainingSetup | None = None) -> None:
        """Start the process, by default with the worker's own settings. If it imports torch, that takes seconds."""
        self._events = queue.Queue()
        self._scratch = Scratch()
        self._process = subprocess.Popen(
            self._command(self._scratch.path, setup),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # whatever a library prints: if reading stopped, the pipe would fill up
            env=training_environ(),
            process_group=0,  # so that it can be killed with its own children, and Ctrl-C reaches only the worker
        )
        for read in (self._read_events, self._read_log):
            threading.Thread(target=read, args=(self._process, self._events), daemon=True).start()

    def wait_until_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until the process is ready, and call `meanwhile` about every second; raises MlpqError where it can't."""
        event, until = None, time.monotonic() + START_SECONDS
        while event is None and time.monotonic() < until:
            event = self.event(1.0)
            meanwhile()
        if not isinstance(event, Ready):
            self.kill()
            error = event.error if isinstance(event, Unusable | Died) else None
            raise MlpqError(error or f"the training process did not start within {START_SECONDS} s")
        self._ready = event
        self._kernel = event.kernel or self._kernel

    def ensure_ready(self, setup: TrainingSetup | None = None, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start the process again if it has ended, or if a `setup` is given and it has another one, or old code.

        `meanwhile` is called about every second. Raises MlpqError where it does not start.
        """
        is_running = self._process is not None and self._process.poll() is None
        if is_running and (setup is None or self._serves(setup)):
            return
        self.kill()
        self.spawn(setup)
        self.wait_until_ready(meanwhile)

    def _serves(self, setup: TrainingSetup) -> bool:
        """Whether the process has this setup, and the code of its plug-in is as it was when it started."""
        ready = self._ready
        is_same = replace(setup, is_large=False, data=None) == self.setup
        return is_same and (
            ready.plugin is None or plugins.code_sha256(ready.plugin_modules) == ready.facts["plugin_sha256"]
        )

    def train(self, jobs: Sequence[TrainJob]) -> None:
        """Train these jobs as a gang; events carry their tokens."""
        self._logs = {job.token: collections.deque(maxlen=LOG_LINES) for job in jobs}
        self._send(TrainGang(tuple(jobs)))

    def stop_job(self, token: str) -> None:
        """Stop a job before its next batch; it then ends with JobStopped."""
        self._send(StopJob(token))

    def leave(self) -> None:
        """Stop all jobs after their present epochs, with checkpoints; each then ends with JobStopped."""
        self._send(Leave())

    def event(self, timeout: float) -> Event | None:
        """The next event, within `timeout` seconds. The last event of a process that has ended is Died."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(block=timeout > 0, timeout=timeout)
        return None

    def events(self, timeout: float) -> list[Event]:
        """All events received, after waiting up to `timeout` seconds for the first."""
        found = [] if (first := self.event(timeout)) is None else [first]
        while found and (more := self.event(0)) is not None:
            found.append(more)
        return found

    def log_tail(self, token: str) -> str:
        """The last log lines of the process about this job, or about no job in particular."""
        return "\n".join(self._logs.get(token, ()))

    def kill(self) -> None:
        """End the process and all its children immediately."""
        process, self._process = self._process, None  # another thread may call this too
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._scratch is not None:
            self._scratch.remove()

    def _command(self, scratch: str, setup: TrainingSetup | None) -> list[str]:
        config = self._config
        kernel = config.kernel
        if setup is not None and self.device == "cpu":
            # The build that was there before: a process without it could not train what it is started for.
            kernel = self._kernel or kernel if setup.kernel else "off"
        settings = TrainingSettings(
            parent=os.getpid(),
            device=self._requested_device,
            world_size=setup.world_size if setup else self._requested_world_size,
            threads=config.threads,
            data_dir=str(config.data_dir),
            checkpoint_seconds=config.checkpoint_seconds,
            scratch=scratch,
            kernel=kernel,
            plugin=setup.plugin if setup else None,
        )
        return python_module("mlpq_workers.trainer", settings.dump())

    def _send(self, command: Command) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return  # it was killed; the event Died reports it
        with contextlib.suppress(BrokenPipeError):  # it has ended; reported in the same way
            process.stdin.write(command.dump() + "\n")
            process.stdin.flush()

    def _read_events(self, process: subprocess.Popen[str], events: queue.Queue[Event]) -> None:
        assert process.stdout is not None
        died: Died | None = None
        for line in process.stdout:
            try:
                event = parse_event(line)
            except ValueError:  # incomplete because the process died, or written by something else
                process.kill()
                break
            self.events_received += 1
            if isinstance(event, Died):
                died = event
                process.kill()
            elif isinstance(event, JobFailed):
                for text in event.lines:
                    self._keep_line(process, event.token, text.replace("\0", "\\0"))
                events.put(event)
            elif not isinstance(event, Alive):
                events.put(event)
        ending = _ending(process.wait())
        events.put(died or Died(f"training process exited unexpectedly: {ending}"))

    def _read_log(self, process: subprocess.Popen[str], _events: queue.Queue[Event]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            clean = line.rstrip("\n").replace("\0", "\\0")  # PostgreSQL's text can't contain NUL
            token, text = parts.groups() if (parts := JOB_LINE.match(clean)) else ("", clean)
            self._keep_line(process, token, text)

    def _keep_line(self, process: subprocess.Popen[str], token: str, text: str) -> None:
        """Keep a line of the log about one job, or about all where there is no token, and print it."""
        logs = self._logs
        for lines in [logs[token]] if token in logs else logs.values():
            lines.append(time.strftime("%H:%M:%S ", time.gmtime()) + text)
        job, _, attempt = token.partition("/")
        if self._process is process:  # not once it was killed: ranks then log many lines about it
            extra = {"job": job, "attempt": int(attempt)} if token else {}
            log.info("%s", f"{token}: {text}" if token else text, extra=extra)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
