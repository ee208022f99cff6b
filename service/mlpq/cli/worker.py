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
@click.option(
    "--world-size", default="auto", show_default=True, metavar="N",
    help="Processes that train together, for jobs that ask for no number; auto takes one for each GPU.",
)  # fmt: skip
def command(device: str, gang: int, world_size: str) -> None:
    """Run a worker that takes one gang of jobs after another.

    Until Ctrl-C or SIGTERM; it then gives its jobs back.
    """
    import os

    from mlpq.cli.local_worker import worker_command
    from mlpq.spec.parsing import parse_world_size

    try:
        ranks = parse_world_size(world_size)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--world-size") from None
    process = worker_command(device, gang, ranks)
    os.execv(process[0], process)
