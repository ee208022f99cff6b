"""The fixtures that all tests share: both databases, and both kinds of sites."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from sqlalchemy import text

from mlpq.spec.datasets import DATASETS
from mlpq.store import migrate
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, SERVICES, Site, Sites
from tests.support.services import Postgres, Redis

# torch reads it when it first looks for a GPU: results are expected to have a CPU's bits.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# pytest-xdist sets it; the width of a table must not depend on it.
os.environ.pop("COLUMNS", None)

# No deadlines: a test must not fail on a slow machine.
hypothesis.settings.register_profile("mlpq", deadline=None)
hypothesis.settings.register_profile("no-shrinking", deadline=None, phases=[hypothesis.Phase.generate])
hypothesis.settings.load_profile("mlpq")

Server = TypeVar("Server", Postgres, Redis)


# Expensive fixtures: one process sets them up, for all tests that use them.
EXPENSIVE = {"served", "textbook"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in EXPENSIVE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(name))


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with _running(Postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with _running(Redis()) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """The name of a migrated database to copy."""
    name = postgres.create()
    _migrate(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    file = tmp_path_factory.mktemp("template") / "mlpq.db"
    _migrate(f"sqlite:///{file}")
    return file


def _migrate(url: str) -> None:
    store = Store(url)
    migrate.upgrade(store)
    store.close()


@pytest.fixture(scope="session")
def sites(request: pytest.FixtureRequest) -> Sites:
    return Sites(request)


@pytest.fixture(params=[EMBEDDED, SERVICES])
def site(request: pytest.FixtureRequest, sites: Sites, tmp_path: Path) -> Iterator[Site]:
    """A site of one test, without a worker."""
    with sites.open(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def alone(sites: Sites, tmp_path: Path) -> Iterator[Site]:
    """An embedded site of one test, for behavior that is the same on both kinds."""
    with sites.open(EMBEDDED, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session", params=[EMBEDDED, SERVICES])
def served(request: pytest.FixtureRequest, sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with one worker that many tests share, each with its own experiments."""
    with sites.open(request.param, tmp_path_factory.mktemp("served")) as opened, opened.worker():
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(scope="session")
def shared_postgres(postgres: Postgres, migrated_postgres: str) -> str:
    """The URL of a migrated database that each test empties at its end, which is faster than a new one."""
    return postgres.url(postgres.create(migrated_postgres))


@contextmanager
def _opened(database: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    if database == "sqlite":
        store = Store(f"sqlite:///{shutil.copy(request.getfixturevalue('migrated_sqlite'), folder / 'mlpq.db')}")
        yield store
    else:
        store = Store(request.getfixturevalue("shared_postgres"))
        yield store
        with store.write() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A migrated, empty database."""
    with _opened(request.param, request, tmp_path) as opened:
        yield opened


@pytest.fixture
def both_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """A SQLite and a PostgreSQL database, to compare."""
    with _opened("sqlite", request, tmp_path) as one, _opened("postgresql", request, tmp_path) as other:
        yield one, other


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of Debian's package of Fashion-MNIST."""
    (folder,) = DATASETS["fashion-mnist"].system_dirs
    if not folder.is_dir():
        pytest.fail("Fashion-MNIST is missing: apt install dataset-fashion-mnist")
    return folder
