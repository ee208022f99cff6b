"""Schema migrations by Alembic; the wheel contains them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from mlpq.errors import StoreError
from mlpq.settings import Settings
from mlpq.store import roles
from mlpq.store.session import Store, make_folder, open_store, sqlite_file

SCHEMA = "0016"  # the revision that this program reads and writes; a test compares it with the migrations
_LOCK = 0x6D6C7071  # "mlpq": one migration at a time


def upgrade(store: Store) -> None:
    """Migrate the schema to the latest revision, in one transaction; raises StoreError where it is newer than that."""
    from alembic import command
    from alembic.config import Config

    if store.is_sqlite:
        make_folder(store.url)
    _refuse_newer(current(store))
    config = Config()
    config.set_main_option("script_location", str(files("mlpq_migrations")).replace("%", "%%"))
    with store.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if connection.dialect.name == "postgresql":
            roles.grant(connection)


def current(store: Store) -> str | None:
    """The revision of the database's schema; None where it has no schema, or a SQLite file does not exist yet."""
    if not _exists(store.url):
        return None
    with store.read() as connection:
        return _revision(connection)


def has_database(settings: Settings) -> bool:
    """False where the SQLite file does not exist yet."""
    return _exists(settings.database_url)


def ready_store(settings: Settings) -> Store:
    """The store of these settings, with the right schema; creates a missing SQLite file. Raises StoreError."""
    store = open_store(settings.database_url)
    if store.is_sqlite:
        make_folder(store.url)
    revision = current(store)
    if revision is None and store.is_sqlite:
        upgrade(store)
        revision = current(store)
    check_revision(revision)
    return store


def check_revision(revision: str | None) -> None:
    """Raise StoreError where this program can't use a schema with this revision."""
    if revision is None:
        raise StoreError("the database has no mlpq tables yet: run mlpq db upgrade")
    if revision < SCHEMA:
        raise StoreError(f"the database has schema {revision}, mlpq needs {SCHEMA}: run mlpq db upgrade")
    _refuse_newer(revision)


def _exists(url: str) -> bool:
    return not url.startswith("sqlite") or Path(sqlite_file(url)).exists()


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision > SCHEMA:
        raise StoreError(f"the database has schema {revision}, newer than this mlpq's {SCHEMA}: install a newer mlpq")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
