"""The real worker, whose training process says that it has two GPUs, and trains on the CPU.

    python pretend_cuda.py worker [arguments]

So a worker of another kind can be had anywhere: what it takes and leaves depends on what it announces.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from mlpq_workers import pipe, trainer_process
from mlpq_workers.pipe import TrainingSettings

TELL = pipe.Pipe.tell


def tell(self: pipe.Pipe, event: str, token: str = "", **more: Any) -> None:
    TELL(self, event, token, **{**more, "device": "cuda", "most_ranks": 2} if event == "ready" else more)


class Pretender(trainer_process.Trainer):
    def _command(self, scratch: str, world_size: int | None) -> list[str]:
        return [sys.executable, __file__, "mlpq_workers.trainer_process", super()._command(scratch, world_size)[-1]]


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        from mlpq_workers import app

        app.Trainer = Pretender  # type: ignore[misc]
        del sys.argv[1]
        app.main()
    else:
        told = TrainingSettings.parse(sys.argv[2])
        pipe.Pipe.tell = tell  # type: ignore[method-assign]
        trainer_process.main(told if told.world_size == 1 else replace(told, device="cuda"))
