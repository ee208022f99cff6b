"""The fixtures that all tests share: both databases, and both kinds of sites."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
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
# pytest-xdist sets it, and tables would have that width; tests that mean a width set it.
os.environ.pop("COLUMNS", None)

# No deadlines: a test must not fail on a slow machine.
hypothesis.settings.register_profile("mlpq", deadline=None)
hypothesis.settings.register_profile("no-shrinking", deadline=None, phases=[hypothesis.Phase.generate])
hypothesis.settings.load_profile("mlpq")

ROOT = Path(__file__).resolve().parents[1]

Server = TypeVar("Server", Postgres, Redis)


SESSION_FIXTURES = {"served", "textbook"}  # expensive ones
WAITING = ("acceptance", "chaos")  # the folders whose tests wait most of the time
WAITING_SHARE = 0.8  # of the tests, among which they are spread


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            for group in _groups(item):
                item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):  # in a process of pytest-xdist
        items[:] = _mixed(items)


def _groups(item: pytest.Function) -> Iterator[str]:
    """The group of an item whose expensive fixtures one process sets up once for all tests that use them."""
    shared = SESSION_FIXTURES.intersection(item.fixturenames)
    yield from shared
    fixtures = [each[-1] for each in item._fixtureinfo.name2fixturedefs.values()]
    is_grouped = shared or item.get_closest_marker("xdist_group")
    if not is_grouped and any(fixture.scope == "module" for fixture in fixtures):
        yield f"{item.path.parent.name}-{item.path.stem}"


def _mixed(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests that wait spread among those that compute, so that the processors have work all the time."""
    waiting: list[pytest.Item] = []
    computing: list[pytest.Item] = []
    for item in items:
        (waiting if item.path.relative_to(ROOT).parts[1] in WAITING else computing).append(item)
    place = {item: WAITING_SHARE * i / len(waiting) for i, item in enumerate(waiting)}
    place |= {item: i / len(computing) for i, item in enumerate(computing)}
    return sorted(items, key=place.__getitem__)


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
