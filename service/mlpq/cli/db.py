"""`mlpq db`."""

from __future__ import annotations

import click


@click.group("db")
def command() -> None:
    """Create, migrate and check the schema of the results database."""


@command.command()
def upgrade() -> None:
    """Migrate the schema to the latest revision; creates it in an empty database."""
    from mlpq.settings import masked, settings
    from mlpq.store import migrate
    from mlpq.store.session import open_store

    config = settings()
    store = open_store(config.database_url)
    migrate.upgrade(store)
    click.echo(f"{masked(config.database_url)} has schema {migrate.current(store)}")


@command.command()
def current() -> None:
    """Show the schema's revision and the one that this mlpq needs; exits 1 if they differ."""
    from mlpq.settings import masked, settings
    from mlpq.store import migrate
    from mlpq.store.session import open_store

    config = settings()
    revision = migrate.current(open_store(config.database_url))
    click.echo(f"{masked(config.database_url)} has schema {revision or 'none'}; mlpq needs {migrate.SCHEMA}")
    if revision != migrate.SCHEMA:
        click.echo("run mlpq db upgrade")
        raise SystemExit(1)
