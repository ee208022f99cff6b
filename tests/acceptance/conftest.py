"""The textbook's jobs, trained once for all tests, a browser, and a Python that has torch and NumPy only."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.chromium import launched
from tests.support.installations import EMBEDDED, SERVICES, Site, Sites
from tests.support.linked_environment import linked_environment

TWO_SITES_SECONDS = 270


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def bare_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has torch and NumPy, what they require, and Jupyter's kernel."""
    return linked_environment(tmp_path_factory.mktemp("torch"), ["torch", "numpy", "ipykernel"])


@pytest.fixture(scope="session")
def textbook_sites(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """One site of each kind."""
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(sites.open(kind, tmp_path_factory.mktemp(kind))) for kind in (EMBEDDED, SERVICES)
        }


@pytest.fixture(scope="session")
def textbook(textbook_sites: dict[str, Site]) -> dict[str, dict[str, Any]]:
    """On each site, the output of the submission, and of `results` and `show` afterwards."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(textbook_sites, pool.map(_run_textbook, textbook_sites.values()), strict=True))


def _run_textbook(site: Site) -> dict[str, Any]:
    with ExitStack() as stack:
        if site.kind == SERVICES:  # in the embedded mode --wait starts a worker
            stack.enter_context(site.worker())
        command = ("submit", "--preset", "textbook", "--wait", "--format", "json")
        done = site.mlpq(*command, timeout=TWO_SITES_SECONDS)
        results = site.mlpq("results", "textbook", "--format", "json").json
        shown = site.mlpq("show", done.json[-1]["id"], "--format", "json").json
        table = site.mlpq("submit", "--preset", "textbook", "--wait").out
        return {"rows": done.json, "progress": done.err, "results": results, "shown": shown, "table": table}
