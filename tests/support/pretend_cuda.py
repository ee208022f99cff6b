"""The real worker, whose training process says that it has two GPUs, and trains on the CPU.

    python -m tests.support.pretend_cuda worker [arguments]

So a worker of another kind can be had anywhere: what it takes and leaves depends on what it announces.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from mlpq_workers import protocol
from mlpq_workers.protocol import TrainingSettings
from mlpq_workers.trainer import __main__ as trainer
from mlpq_workers.worker import trainer_client

TELL = protocol.Pipe.tell


def tell(self: protocol.Pipe, event: str, token: str = "", **more: Any) -> None:
    TELL(self, event, token, **{**more, "device": "cuda", "most_ranks": 2} if event == "ready" else more)


class Pretender(trainer_client.Trainer):
    def _command(self, scratch: str, world_size: int | None) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tests.support.pretend_cuda",
            "mlpq_workers.trainer ",
            super()._command(scratch, world_size)[-1],
        ]


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        from mlpq_workers.worker import __main__ as worker

        worker.Trainer = Pretender  # type: ignore[misc]
        del sys.argv[1]
        worker.main()
    else:
        told = TrainingSettings.parse(sys.argv[2])
        protocol.Pipe.tell = tell  # type: ignore[method-assign]
        trainer.main(told if told.world_size == 1 else replace(told, device="cuda"))
