"""`mlpq dashboard`."""

from __future__ import annotations

import click


@click.command("dashboard")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is every address."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free port.")
@click.option(
    "--allow-host", "allowed", multiple=True, metavar="NAME",
    help="Also answer requests for this host name, as lab.example.org or *.example.org; repeatable.",
)  # fmt: skip
@click.option(
    "--root-path", default="", metavar="PATH",
    help="The path under which a proxy serves the dashboard, as /mlpq.",
)  # fmt: skip
def command(host: str, port: int, allowed: tuple[str, ...], root_path: str) -> None:
    """Serve a web page that shows experiments, jobs and workers.

    It is read-only, and only reachable from this machine unless --host says otherwise. It runs until Ctrl-C or SIGTERM.

    \b
    mlpq dashboard
    mlpq dashboard --host 0.0.0.0 --allow-host lab.example.org
    """
    from mlpq.dashboard.serving import check_name, check_root_path, hosts, is_everywhere, listen, serve, url
    from mlpq.log import set_up
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    for name in allowed:
        check_name(name)
    root_path = check_root_path(root_path)
    config = settings()
    set_up(config.log_format)
    store = ready_store(config)
    listening = listen(host, port)
    click.echo(f"mlpq dashboard: {url(host, listening)} (Ctrl-C stops it)")
    if is_everywhere(host) and not allowed:
        click.echo("it answers requests for localhost only: --allow-host NAME adds the name that other machines use")
    serve(store, listening, hosts(host, allowed), root_path)
