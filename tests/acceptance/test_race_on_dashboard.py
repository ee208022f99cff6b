"""A race in a browser, while `mlpq decide --wait` runs and a worker trains."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from mlpq.jobs import Status
from mlpq.records import JobRecord
from mlpq.store import queries
from tests.support.chromium import opened
from tests.support.installations import SERVICES, Site
from tests.support.services import wait_until

ARMS = (
    "--dataset", "digits", "--epochs", 20, "--optimizer", "adam:lr=0.004", "--optimizer", "sgd", "--lr", "0.5,0.1",
    "--seeds", 0,
)  # fmt: skip
QUESTION = ("--by", "optimizer,lr", "--difference", 0.5, "--margin", 0.5, "--max-seeds", 12)
FIRST_ROUND = 9  # pairs, for three arms
WIDTHS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@contextmanager
def deciding(site: Site) -> Iterator[subprocess.Popen[str]]:
    """`mlpq decide --wait` for the length of the block."""
    command = [sys.executable, "-m", "mlpq.cli", "decide", "race", *map(str, QUESTION), "--wait"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=site.folder, env=site.environ()
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def screenshots(page: Page, folder: Path, name: str) -> None:
    """Of the whole page, on both widths; on none it may scroll sideways."""
    for device, size in WIDTHS.items():
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
        page.screenshot(path=folder / f"{name}-{device}.png", full_page=True)


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_race_is_shown_live_until_its_decision(site: Site, chromium: Browser, tmp_path: Path) -> None:
    """`decide --wait` starts a worker where everything is embedded, so services are needed to stop in the middle."""
    site.submit("--experiment", "race", *ARMS)
    with site.dashboard() as url, opened(chromium, url, viewport=WIDTHS["desktop"]) as page:
        page.goto("/experiments/race")
        page.evaluate("window.kept = true")
        question = page.locator("section.registered")
        race = question.get_by_role("table")
        with deciding(site) as process:
            # Before that, the page would stop with the end of the three submitted jobs.
            wait_until("the first round is submitted", lambda: len(jobs_of(site)) == 3 * FIRST_ROUND, 90)
            with site.worker():
                wait_until(
                    "the first round is trained", lambda: len(jobs_of(site, Status.SUCCEEDED)) >= 3 * FIRST_ROUND, 90
                )
            # Without a worker the race stands still, before its end.
            expect(question).to_contain_text(re.compile(r"\b(9|1[01]) of at most 12 pairs looked at"))
            expect(question).to_contain_text("registered 20")
            expect(question).to_contain_text("not decided after")
            expect(race.get_by_role("row").filter(has_text="sgd lr=0.1")).to_contain_text("worse")
            expect(race.get_by_role("row").filter(has_text="in the race")).to_contain_text(
                re.compile(r"\d\.\d\d to \d\.\d\d.*[\d.]+ of \d+\s*[\d.]+ of 60")
            )
            screenshots(page, tmp_path, "race")
            with site.worker():
                out, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            expect(page.locator("main")).not_to_have_attribute("data-live", re.compile(".*"))  # it updates no more
            decision = question.locator(".verdict.first").inner_text()
            assert decision in " ".join(out.split())
            assert re.search("equivalent|undecided at the cap|has the best", decision)
            expect(race.get_by_role("row").filter(has_text="in the race")).to_have_count(0)
            assert page.evaluate("window.kept")  # it was never loaded again
            screenshots(page, tmp_path, "decided")


def jobs_of(site: Site, *statuses: Status) -> list[JobRecord]:
    return queries.job_records(site.store, "race", statuses)
