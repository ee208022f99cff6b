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
@click.option("--until-eof", is_flag=True, hidden=True, help="Leave when standard input ends.")
def command(device: str, gang: int, until_eof: bool) -> None:
    """Run a worker that takes one gang of jobs after another.

    Until Ctrl-C or SIGTERM; it then gives its jobs back.
    """
    import importlib.util
    import os
    import sys

    from mlpq.errors import MlpqError

    if importlib.util.find_spec("torch") is None:
        raise MlpqError("a worker needs torch, which is not installed here: pip install 'mlpq[worker]'")
    more = ["--until-eof"] if until_eof else []
    os.execv(sys.executable, [sys.executable, "-m", "mlpq_workers.app", "--device", device, "--gang", str(gang), *more])
