"""`mlpq export`."""

from __future__ import annotations

import click


@click.command("export")
@click.argument("job")
@click.option("--script", is_flag=True, help="As a PyTorch script, which is the default.")
@click.option("--notebook", is_flag=True, help="As a notebook in PyTorch.")
@click.option(
    "-o", "--output", metavar="FILE", help="The file to write [default: standard output].",
)  # fmt: skip
def command(job: str, script: bool, notebook: bool, output: str | None) -> None:
    """Export JOB as a PyTorch script or notebook that needs torch and NumPy, and not mlpq.

    It has the job's initial weights, batches and settings, so its count of correct test images is the job's, up to
    rounding. Where a job continues from others, these are trained too.
    """
    from mlpq.cli.output import output_file, write
    from mlpq.lab.exports import job_text
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    if script and notebook:
        raise click.UsageError("Give --script or --notebook, not both.")
    file = None if output in (None, "-") else output_file(str(output))
    config = settings()
    text = job_text(config, ready_store(config), job, as_notebook=notebook)
    if file is None:
        click.echo(text, nl=False)
    else:
        write(file, text.encode())
