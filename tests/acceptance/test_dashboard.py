"""The dashboard as people see it: the real command over real jobs, in a real browser."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from mlpq.jobs import Outcome
from mlpq.store import execution, queries
from mlpq.store.execution import Able
from tests.support.installations import Site
from tests.support.job_steps import FACTS, failure

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SECONDS = 1000  # milliseconds
ATTACK = "<script>document.title = 'attacked'; alert(1)</script>"
NAME = f"{ATTACK} 100%/2%2F?"

expect.set_options(timeout=60 * SECONDS)

pytestmark = pytest.mark.parametrize("served", ["embedded"], indirect=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(served: Site) -> Iterator[str]:
    """A dashboard over a finished sweep."""
    served.mlpq(
        "submit", "--experiment", "watched", "--dataset", "digits", "--epochs", 2, "--optimizer", "sgd", "--optimizer",
        "adam", "--lr", "0.1,0.01", "--validation", 0.1, "--seeds", "0..2", "--wait",
    )  # fmt: skip
    with served.dashboard() as found:
        yield found


@contextmanager
def opened(chromium: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of a fresh profile. It must ask nothing of other hosts, open no dialog and have no error to tell."""
    context: BrowserContext = chromium.new_context(base_url=url, **options)
    context.set_default_timeout(60 * SECONDS)
    page, faults = context.new_page(), []
    page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: faults.append(asked.url) if urlsplit(asked.url).netloc != place else None)
    place = urlsplit(url).netloc
    yield page
    context.close()
    assert not faults


def pages(site: Site) -> list[str]:
    job = queries.job_rows(site.store, "watched")[0]["id"]
    return ["/", "/experiments/watched", "/experiments/watched?by=optimizer", f"/jobs/{job}", "/workers"]


def test_every_page_loads_without_an_error_and_without_another_host(served: Site, url: str, chromium: Browser) -> None:
    with opened(chromium, url) as page:
        for address in pages(served):
            page.goto(address, wait_until="networkidle")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            drawn = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 100)")
            assert all(drawn)
            assert bool(drawn) == ("/experiments/" in address or "/jobs/" in address)


def test_a_change_is_seen_without_reloading_and_disturbs_nobody(served: Site, url: str, chromium: Browser) -> None:
    with opened(chromium, url, viewport={"width": 800, "height": 400}) as page, opened(chromium, url) as overview:
        overview.goto("/")
        overview.get_by_role("link", name="watched").focus()
        (row,) = served.submit("--experiment", "live", "--dataset", "digits", "--epochs", 10_000)
        page.goto(f"/jobs/{row['id']}")
        status = page.locator("main [role=status]")
        expect(status).to_contain_text("epoch")
        page.evaluate("window.kept = true")
        page.locator("#epochs summary").click()
        page.locator("#log-1 summary").focus()
        page.evaluate("scrollTo(0, 300)")
        before = status.inner_text()
        expect(status).not_to_have_text(before)
        served.mlpq("cancel", row["id"])
        expect(status).to_have_text("cancelled")
        expect(page.locator("#epochs")).to_have_attribute("open", "")
        assert page.evaluate("[window.kept, document.activeElement.parentElement.id, scrollY]") == [True, "log-1", 300]
        assert page.evaluate("'live' in document.getElementById('main').dataset") is False  # and it asks no more
        changed = overview.get_by_role("link", name="live", exact=True)
        expect(overview.get_by_role("row").filter(has=changed)).to_contain_text("1 cancelled")
        expect(overview.get_by_role("link", name="watched")).to_be_focused()  # whose row has moved


def test_what_people_typed_stays_text(served: Site, alone: Site, chromium: Browser) -> None:
    (row,) = alone.submit("--experiment", NAME, "--dataset", "digits")
    (held,) = execution.claim(alone.store, "bob:1:x", Able("cpu"), FACTS)
    execution.record(alone.store, [failure(held, Outcome.DIVERGED, ATTACK)])
    with alone.dashboard() as url, opened(chromium, url) as page:
        page.goto("/")
        page.get_by_role("link", name=NAME).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
        assert urlsplit(page.url).path == f"/experiments/{quote(NAME, safe='')}"
        expect(page.get_by_role("row").filter(has_text="diverged")).to_contain_text(ATTACK)
        page.get_by_role("link", name=row["id"][:8]).click()
        expect(page.get_by_role("definition").filter(has_text="diverged")).to_contain_text(ATTACK)
        assert "attacked" not in page.title()


def test_the_keyboard_reaches_everything(url: str, chromium: Browser) -> None:
    with opened(chromium, url) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        link = page.get_by_role("link", name="watched")
        for _ in range(10):
            page.keyboard.press("Tab")
            if link.evaluate("link => link === document.activeElement"):
                break
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("watched")


def test_a_phone_scrolls_tables_and_never_the_page_sideways(served: Site, url: str, chromium: Browser) -> None:
    with opened(chromium, url, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True) as page:
        for address in pages(served):
            page.goto(address, wait_until="networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.goto("/experiments/watched")
        assert page.evaluate(
            "[...document.querySelectorAll('.wide')].some(each => each.scrollWidth > each.clientWidth)"
        )


def test_dark_is_dark_and_light_is_light(url: str, chromium: Browser) -> None:
    brightness = "colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0) / 765"
    seen = {}
    for scheme in ("light", "dark"):
        with opened(chromium, url, color_scheme=scheme) as page:
            page.goto("/experiments/watched")
            style = page.evaluate(
                "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
            )
            seen[scheme] = [page.evaluate(brightness, colour) for colour in style]
            inverted = "invert" in page.locator("figure img").first.evaluate("image => getComputedStyle(image).filter")
            assert inverted == (scheme == "dark")
    assert seen["light"][0] > 0.9
    assert seen["light"][1] < 0.2
    assert seen["dark"][0] < 0.15
    assert seen["dark"][1] > 0.8


def test_it_works_without_javascript(url: str, chromium: Browser) -> None:
    with opened(chromium, url, java_script_enabled=False) as page:
        page.goto("/experiments/watched")
        page.get_by_label("Compare by").fill("optimizer")
        page.get_by_role("button", name="Compare").click()
        assert "by=optimizer" in page.url
        expect(page.get_by_text("which is better?")).to_be_visible()
        page.get_by_role("link", name="failed").click()
        expect(page.get_by_text("No failed job.")).to_be_visible()


def test_a_database_that_is_away_is_told_and_its_return_is_seen(served: Site, alone: Site, chromium: Browser) -> None:
    alone.submit("--experiment", "waiting", "--dataset", "digits")
    path = Path(alone.env["MLPQ_HOME"]) / "mlpq.db"
    aside = path.with_name("aside.db")
    with alone.dashboard() as url, chromium.new_context(base_url=url) as context:
        page = context.new_page()
        page.goto("/experiments/waiting")
        path.rename(aside)
        expect(page.locator("#trouble")).to_contain_text("can't use the database")
        expect(page.get_by_role("heading", level=1)).to_have_text("waiting")  # what was known stays in sight
        fresh = context.new_page()
        fresh.goto("/experiments/waiting")
        expect(fresh.get_by_role("heading", level=1)).to_have_text("Not now")
        aside.rename(path)
        expect(page.locator("#trouble")).to_be_hidden(timeout=30 * SECONDS)
        expect(fresh.get_by_role("heading", level=1)).to_have_text("waiting")


def test_a_port_in_use_and_hosts_that_are_none_are_told_in_a_line(served: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = served.mlpq("dashboard", "--port", port, status=2)
        assert done.err == f"mlpq: port {port} of 127.0.0.1 is in use: give --port another one, or 0 for a free one\n"
    for options in (("--host", "no.such.host.invalid"), ("--host", "192.0.2.1"), ("--allow-host", "a*b"),
                    ("--allow-host", "lab:8000"), ("--port", "70000")):  # fmt: skip
        done = served.mlpq("dashboard", *options, status=2)
        assert len(done.err.splitlines()) == 1
        assert done.out == ""
