"""`mlpq worker`."""

from __future__ import annotations

import click

from mlpq.jobs import GANG, MAX_GANG


@click.command("worker")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="What to train on; auto takes CUDA, else MPS, else the CPU.",
)  # fmt: skip
@click.option(
    "--gang", type=click.IntRange(1, MAX_GANG), default=GANG, show_default=True, metavar="N",
    help="Train up to N compatible jobs at once, as one stacked model.",
)  # fmt: skip
def command(device: str, gang: int) -> None:
    """Run a worker that takes one gang of jobs after another.

    Until Ctrl-C or SIGTERM; it then gives its jobs back.
    """
    import os

    from mlpq.cli.local_worker import worker_command

    process = worker_command(device, gang)
    os.execv(process[0], process)
