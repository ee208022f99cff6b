"""`mlpq dashboard`."""

from __future__ import annotations

import click


@click.command("dashboard")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes one that is free."
)
@click.option(
    "--allow-host", "allowed", multiple=True, metavar="NAME",
    help="Answer requests under this name too, as lab.example.org or *.example.org; repeatable.",
)  # fmt: skip
def command(host: str, port: int, allowed: tuple[str, ...]) -> None:
    """Serve a web page to watch experiments, jobs and workers.

    It only reads. This machine alone reaches it unless --host says otherwise. Until Ctrl-C or SIGTERM.

    \b
    mlpq dashboard
    mlpq dashboard --host 0.0.0.0 --allow-host lab.example.org
    """
    from mlpq.dashboard.serving import check_name, hosts, is_everywhere, listen, serve, url
    from mlpq.log import set_up
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    for name in allowed:
        check_name(name)
    config = settings()
    set_up(config.log_format)
    store = ready_store(config)
    listening = listen(host, port)
    click.echo(f"mlpq dashboard: {url(host, listening)} (Ctrl-C ends it)")
    if is_everywhere(host) and not allowed:
        click.echo("it answers as localhost only: --allow-host NAME adds the name that others reach it by")
    serve(store, listening, hosts(host, allowed))
