"""The training process that the tests of a file share, and a client of the dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from mlpq.settings import read_settings
from mlpq.store.session import Store
from mlpq_workers.worker.trainer_client import Trainer
from tests.support.dashboard_pages import browser


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """Has as many ranks as WORLD_SIZE of the test file says. It takes seconds to start."""
    home = str(tmp_path_factory.mktemp("home"))
    settings = read_settings({"MLPQ_HOME": home, "MLPQ_THREADS": "1"})
    started = Trainer(settings, "cpu", request.module.WORLD_SIZE)
    started.start()
    yield started
    started.kill()


@pytest.fixture
def trainer(started: Trainer) -> Trainer:
    """Started again if an earlier test has ended it."""
    started.ensure_ready()
    return started


@pytest.fixture
def client(store: Store) -> TestClient:
    """An HTTP client of the dashboard for that database."""
    return browser(store)
