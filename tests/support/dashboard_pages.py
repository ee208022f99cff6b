"""A test client for the dashboard, and jobs to show on its pages."""

from __future__ import annotations

import html
import re

from starlette.testclient import TestClient

from mlpq.dashboard.app import make_app
from mlpq.dashboard.serving import hosts
from mlpq.store import execution
from mlpq.store.session import Store
from tests.support.job_steps import claim, specs, submit, success


def browser(store: Store) -> TestClient:
    """A client of the dashboard's application."""
    return TestClient(make_app(store, hosts("127.0.0.1", ["testserver"])))


def words(page: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def train(store: Store, experiment: str = "sweep", seeds: str = "0..2", lr: tuple[float, ...] = (0.1, 0.01)) -> None:
    """Submit two optimizers at several learning rates, and record different results."""
    some = specs(hidden="16", optimizer=["sgd", "adam"], lr=list(lr), seeds=seeds, validation=0.1)
    submit(store, *some, experiment=experiment)
    while gang := claim(store, limit=100):
        validated = {"validation_correct": 100, "validation_total": 130, "validation_loss": 0.5}
        endings = [success(job, test_correct=400 + number % 7 * 3, **validated) for number, job in enumerate(gang)]
        execution.record(store, endings)
