"""What the tests with several hosts share: jobs, their weights without any disturbance, and a report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select

from mlpq.store.schema import job_results, jobs
from tests.support.hosts import ROOT, check_namespaces
from tests.support.installations import EMBEDDED, Sites

# On two idle cores long jobs take about a minute, if four run at a time; a busy machine needs fewer epochs.
EPOCHS = int(os.environ.get("EPOCHS", "600"))
LONG = ("--dataset", "digits", "--hidden", "500,500", "--epochs", EPOCHS)
MIDDLE = (*LONG[:-1], EPOCHS // 4)
SHORT = ("--dataset", "digits", "--epochs", 20)
LONG_SEEDS, SHORT_SEEDS = "0..3", "0..49"
CHILD = ("--optimizer", "adam", "--epochs", 5)  # continues from the first of MIDDLE

_report: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def _namespaces() -> None:
    check_namespaces()


@pytest.fixture(scope="session")
def weights(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The SHA-256 of the final weights of each job of the tests, by spec hash, as undisturbed workers train them."""
    alone = ("--gang", "1")  # these jobs are too large to be stacked
    with sites.open(EMBEDDED, tmp_path_factory.mktemp("undisturbed")) as site, site.worker(*alone), site.worker(*alone):
        parent, *_ = site.submit(*MIDDLE, "--seeds", LONG_SEEDS)
        site.submit(*LONG, "--seeds", LONG_SEEDS)
        site.submit(*SHORT, "--seeds", SHORT_SEEDS)
        site.submit(*CHILD, "--continue-from", parent["id"])
        site.mlpq("watch", timeout=900)
        with site.store.read() as connection:
            query = select(jobs.c.spec_hash, job_results.c.weights_sha256).join(job_results)
            return dict(connection.execute(query).all())


@pytest.fixture(autouse=True)
def _empty_folder() -> Iterator[None]:
    """Remove the files of the hosts after each test: they are in memory."""
    yield
    shutil.rmtree(ROOT, ignore_errors=True)


@pytest.fixture(scope="session")
def report() -> Callable[[str], None]:
    """Add a line to the report at the end of the run."""
    return _report.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _report:
        terminalreporter.section("what happened")
    for line in _report:
        terminalreporter.line(line)
