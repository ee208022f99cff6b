"""`mlpq export`."""

from __future__ import annotations

import click


@click.command("export")
@click.argument("job")
@click.option("--script", is_flag=True, help="As a PyTorch script, which is the default.")
@click.option("--notebook", is_flag=True, help="As a notebook in PyTorch.")
@click.option("--spec", is_flag=True, help="As a spec file for mlpq submit.")
@click.option(
    "-o", "--output", metavar="FILE", help="The file to write [default: standard output].",
)  # fmt: skip
def command(job: str, output: str | None, **chosen: bool) -> None:
    """Export JOB as a PyTorch script or notebook that needs torch and NumPy, and not mlpq, or as a spec file.

    The script and the notebook have the job's initial weights, batches and settings, so their count of correct test
    images is the job's, up to rounding. Where a job continues from others, these are trained too.
    """
    from mlpq.cli.output import output_file, write
    from mlpq.lab.exports import ExportKind, job_text
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    kinds = [kind for kind in ExportKind if chosen[kind]]
    if len(kinds) > 1:
        raise click.UsageError("Give only one of --script, --notebook and --spec.")
    file = None if output in (None, "-") else output_file(str(output))
    config = settings()
    text = job_text(config, ready_store(config), job, next(iter(kinds), ExportKind.SCRIPT))
    if file is None:
        click.echo(text, nl=False)
    else:
        write(file, text.encode())
