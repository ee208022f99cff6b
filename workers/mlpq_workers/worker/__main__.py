"""Entry point of a worker: `python -m mlpq_workers.worker`, which is what `mlpq worker` starts."""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from mlpq.errors import MlpqError
from mlpq.log import set_up
from mlpq.settings import settings
from mlpq_workers.worker.scratch import remove_stale
from mlpq_workers.worker.trainer_client import Trainer


def _terminate_at_eof() -> None:
    """Shut this worker down, as SIGTERM does, when the process that started it has ended."""
    while os.read(0, 1024):  # not by sys.stdin, whose lock would be held while the interpreter exits
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@click.command()
@click.option("--device", default="auto")
@click.option("--gang", type=int, required=True)
@click.option("--world-size", type=int)
@click.option("--until-eof", is_flag=True)
def main(device: str, gang: int, world_size: int | None, until_eof: bool) -> None:
    """Run a worker."""
    if until_eof:
        threading.Thread(target=_terminate_at_eof, daemon=True).start()
    try:
        config = settings()
        set_up(config.log_format)
        remove_stale()
        trainer = Trainer(config, device, world_size)
        trainer.spawn()
        # Celery and SQLAlchemy are imported while the training process imports torch.
        from mlpq_workers.worker.celery_app import run

        run(config, trainer, gang)
    except MlpqError as error:
        click.echo(f"mlpq worker: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
