"""The warm child process that trains, and its supervision.

The Celery process never imports torch: a child does, and stays warm between jobs. They speak JSON, one object a line.
The child dies with its parent: by the kernel's signal on Linux, and everywhere by the end of its standard input.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mlpq.errors import MlpqError
from mlpq.settings import Settings

START_SECONDS = 120  # importing torch from a cold disk
LOG_LINES = 200

RESULT_FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
    "best_epoch", "epochs_run", "weights_sha256", "train_seconds",
)  # fmt: skip

Event = dict[str, Any]

log = logging.getLogger("mlpq.trainer")


class Trainer:
    """The parent's side: start the child, give it one job at a time, read its events, end it."""

    def __init__(self, config: Settings, device: str) -> None:
        self._command = [
            sys.executable, "-m", "mlpq_workers.trainer_process", device, str(config.threads), str(config.data_dir),
        ]  # fmt: skip
        self._child: subprocess.Popen[str] | None = None
        self._events: queue.Queue[Event] = queue.Queue()
        self._log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self.device = ""
        self.facts: dict[str, Any] = {}

    def start(self) -> None:
        """Start the child and wait until it knows its device; raises MlpqError where it has none such."""
        self._events = queue.Queue()
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # whatever a library prints, the log must be read on, or its pipe fills up
            process_group=0,  # so that it can be killed with its own children, and Ctrl-C reaches only the parent
        )
        for read in (self._read_events, self._read_log):
            threading.Thread(target=read, args=(self._child, self._events), daemon=True).start()
        event = self.event(START_SECONDS)
        if event is None or event["event"] != "ready":
            self.kill()
            raise MlpqError(event["error"] if event else f"the training process did not start in {START_SECONDS} s")
        self.device, self.facts = event["device"], event["facts"]

    def ensure_ready(self) -> None:
        """Start the child again if it died; raises MlpqError where it does not start."""
        if self._child is None or self._child.poll() is not None:
            self.start()

    def train(self, job: Mapping[str, Any]) -> None:
        """Hand over one job; what becomes of it comes as events that carry its `token`."""
        self._log.clear()
        self._send({"do": "train", **job})

    def stop_job(self) -> None:
        """Ask the child to stop the job between two batches; it answers with the event "stopped"."""
        self._send({"do": "stop"})

    def event(self, timeout: float) -> Event | None:
        """The next event within `timeout` seconds; the last one of a dead child is "died"."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=timeout)
        return None

    def log_tail(self) -> str:
        """The last lines that the child wrote about this job."""
        return "\n".join(self._log)

    def kill(self) -> None:
        """End the child and all its children at once."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead child is told by the event "died"
            self._child.stdin.write(json.dumps(message) + "\n")
            self._child.stdin.flush()

    def _read_events(self, child: subprocess.Popen[str], events: queue.Queue[Event]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            try:
                events.put(json.loads(line))
            except ValueError:  # cut short by its death
                break
        events.put({"event": "died", "error": f"the training process ended unasked: {_ending(child.wait())}"})

    def _read_log(self, child: subprocess.Popen[str], _events: queue.Queue[Event]) -> None:
        assert child.stderr is not None
        for line in child.stderr:
            clean = line.rstrip("\n").replace("\0", "\\0")  # PostgreSQL's text holds no NUL
            self._log.append(time.strftime("%H:%M:%S ", time.gmtime()) + clean)
            log.info("%s", clean)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


class Child:
    """The child's side. Torch is imported here, and only here."""

    def __init__(self, out: IO[str], data_dir: Path) -> None:
        self._out = out
        self._data_dir = data_dir
        self._jobs: queue.Queue[Event] = queue.Queue()
        self._stop = threading.Event()
        self._data: dict[str, Any] = {}
        self._token = ""

    def serve(self, requested_device: str, threads: int) -> None:
        """Say ready, then train one job after another until standard input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        from mlpq_workers import devices

        try:
            self._device = devices.choose(requested_device)
        except MlpqError as error:
            self._tell("unusable", error=str(error))
            return
        devices.prepare(self._device, threads)
        self._tell("ready", device=self._device, facts=devices.environment(self._device, threads))
        while True:
            self._run(self._jobs.get())

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message["do"] == "stop":
                self._stop.set()
            else:
                self._stop.clear()
                self._jobs.put(message)
        os._exit(0)

    def _run(self, job: Event) -> None:
        from mlpq_workers import engine

        self._token = job["token"]
        try:
            self._tell("succeeded", result=self._train(job))
        except engine.Stopped:
            self._tell("stopped")
        except engine.Diverged as error:
            self._tell("diverged", error=str(error))
        except MlpqError as error:
            self._tell("failed", error=str(error))
        except Exception as error:  # whatever it was, its reason belongs in the database
            log.exception("the job failed")
            self._tell("failed", error=f"{type(error).__name__}: {error}")

    def _train(self, job: Event) -> dict[str, Any]:
        from mlpq.spec import JobSpec
        from mlpq_workers import data, engine

        spec = JobSpec.model_validate(job["spec"])
        if spec.dataset not in self._data:
            self._data = {spec.dataset: data.load(spec.dataset, self._data_dir).to(self._device)}
        loaded = self._data[spec.dataset]
        log.info("data: %s, %s", spec.dataset, loaded.source)
        start = engine.load_start(Path(job["parent_weights"]), job["parent_sha256"]) if spec.parent else None
        outcome = engine.train(
            spec, loaded, self._device, start=start, on_epoch=self._tell_epoch, should_stop=self._stop.is_set
        )
        engine.save(outcome, spec.hash, Path(job["weights_file"]))
        figures = {name: getattr(outcome, name) for name in RESULT_FIGURES}
        placed = {"device": self._device, "world_size": 1, "gang_size": 1}
        return {**figures, **placed, "weights_file": job["weights_file"]}

    def _tell_epoch(self, epoch: Any) -> None:
        log.info(
            "epoch %d: train loss %.4f, test %d of %d, %.1f s",
            epoch.epoch, epoch.train_loss, epoch.test_correct, epoch.test_total, epoch.seconds,
        )  # fmt: skip
        self._tell("epoch", epoch=dataclasses.asdict(epoch))

    def _tell(self, event: str, **more: Any) -> None:
        self._out.write(json.dumps({"event": event, "token": self._token, **more}) + "\n")
        self._out.flush()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """`python -m mlpq_workers.trainer_process DEVICE THREADS DATA_DIR`: only a worker starts this."""
    _die_with_parent()
    device, threads, data_dir = arguments
    # Libraries print: the pipe of events must stay clean, so file descriptor 1 becomes standard error.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    Child(out, Path(data_dir)).serve(device, int(threads))


if __name__ == "__main__":
    main(sys.argv[1:])
