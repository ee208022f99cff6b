"""The real worker with a training process that reports two GPUs, and trains on the CPU.

    python -m tests.support.pretend_cuda worker [arguments]

It stands for a CUDA worker on machines without a GPU: which jobs a worker claims depends on what it reports.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from mlpq.worker_records import TrainingSetup
from mlpq_workers.protocol import Event, Ready, TrainingSettings
from mlpq_workers.trainer import __main__ as trainer
from mlpq_workers.trainer.pipe import Pipe
from mlpq_workers.worker import trainer_client

SEND = Pipe.send


def send(self: Pipe, event: Event) -> None:
    SEND(self, replace(event, device="cuda", most_ranks=2, kernel=None) if isinstance(event, Ready) else event)


class PretendingTrainer(trainer_client.Trainer):
    def _command(self, scratch: str, setup: TrainingSetup | None) -> list[str]:
        settings = super()._command(scratch, setup)[-1]
        return [sys.executable, "-P", "-m", "tests.support.pretend_cuda", "mlpq_workers.trainer ", settings]


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        from mlpq_workers.worker import __main__ as worker

        worker.Trainer = PretendingTrainer  # type: ignore[attr-defined]
        del sys.argv[1]
        worker.main()
    else:
        settings = replace(TrainingSettings.parse(sys.argv[2]), kernel="off")
        Pipe.send = send  # type: ignore[method-assign]
        trainer.main(settings if settings.world_size == 1 else replace(settings, device="cuda"))
