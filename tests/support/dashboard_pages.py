"""Pages of the dashboard without a browser, and something to show on them."""

from __future__ import annotations

import html
import re

from starlette.testclient import TestClient

from mlpq.dashboard.app import make_app
from mlpq.dashboard.serving import hosts
from mlpq.store import execution
from mlpq.store.session import Store
from tests.support.job_steps import claim, file, specs, success


def browser(store: Store) -> TestClient:
    return TestClient(make_app(store, hosts("127.0.0.1", ["testserver"])))


def words(page: str) -> str:
    """What a page says, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def train(store: Store, experiment: str = "sweep", seeds: str = "0..2", lr: tuple[float, ...] = (0.1, 0.01)) -> None:
    """File two optimizers at some rates and record results that differ."""
    some = specs(hidden="16", optimizer=["sgd", "adam"], lr=list(lr), seeds=seeds, validation=0.1)
    file(store, *some, experiment=experiment)
    while gang := claim(store, limit=100):
        validated = {"validation_correct": 100, "validation_total": 130, "validation_loss": 0.5}
        endings = [success(held, test_correct=400 + number % 7 * 3, **validated) for number, held in enumerate(gang)]
        execution.record(store, endings)
