"""`mlpq worker`."""

from __future__ import annotations

import click

from mlpq.jobs import GANG, MAX_GANG


@click.command("worker")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="The device to train on; auto takes CUDA, else MPS, else the CPU.",
)  # fmt: skip
@click.option(
    "--gang", type=click.IntRange(1, MAX_GANG), default=GANG, show_default=True, metavar="N",
    help="Train up to N compatible jobs together, as one stacked model.",
)  # fmt: skip
@click.option(
    "--world-size", default="auto", show_default=True, metavar="N",
    help="Processes per job, for jobs that request no number; auto takes one per GPU.",
)  # fmt: skip
def command(device: str, gang: int, world_size: str) -> None:
    """Run a worker that claims and trains jobs.

    It runs until Ctrl-C or SIGTERM, and then returns its jobs to the queue.
    """
    import os

    from mlpq.local_worker import worker_command
    from mlpq.spec.parsing import parse_world_size

    try:
        ranks = parse_world_size(world_size)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--world-size") from None
    process = worker_command(device, gang, ranks)
    os.execv(process[0], process)
