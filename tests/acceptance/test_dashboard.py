"""The dashboard in a browser, served by the real command, with jobs that a worker trained."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from mlpq.jobs import Outcome
from mlpq.store import claiming, execution, queries
from mlpq.worker_records import WorkerCapabilities
from tests.support.chromium import SECONDS, opened
from tests.support.installations import Site
from tests.support.job_steps import FACTS, failure

ATTACK = "<script>document.title = 'attacked'; alert(1)</script>"
NAME = f"{ATTACK} 100%/2%2F?"

pytestmark = pytest.mark.parametrize("served", ["embedded"], indirect=True)


@pytest.fixture(scope="module")
def url(served: Site) -> Iterator[str]:
    """A dashboard over a finished sweep."""
    served.mlpq(
        "submit", "--experiment", "dashboard-sweep", "--dataset", "digits", "--epochs", 2, "--optimizer", "sgd",
        "--optimizer", "adam", "--lr", "0.1,0.01", "--validation", 0.1, "--seeds", "0..2", "--wait",
    )  # fmt: skip
    with served.dashboard() as found:
        yield found


def pages(site: Site) -> list[str]:
    job = queries.job_records(site.store, "dashboard-sweep")[0].id
    return [
        "/",
        "/experiments/dashboard-sweep",
        "/experiments/dashboard-sweep?by=optimizer",
        f"/jobs/{job}",
        "/workers",
    ]


def test_every_page_loads_without_errors_and_other_hosts(served: Site, url: str, chromium: Browser) -> None:
    with opened(chromium, url) as page:
        for address in pages(served):
            page.goto(address, wait_until="networkidle")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            drawn = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 100)")
            assert all(drawn)
            assert bool(drawn) == ("/experiments/" in address or "/jobs/" in address)


def test_changes_appear_without_reloading_and_keep_focus_and_scroll(served: Site, url: str, chromium: Browser) -> None:
    with opened(chromium, url, viewport={"width": 800, "height": 400}) as page, opened(chromium, url) as overview:
        overview.goto("/")
        overview.get_by_role("link", name="dashboard-sweep").focus()
        (row,) = served.submit("--experiment", "live", "--dataset", "digits", "--hidden", 1000, "--epochs", 10_000)
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
        assert page.evaluate("'live' in document.getElementById('main').dataset") is False  # so it stops updating
        changed = overview.get_by_role("link", name="live", exact=True)
        expect(overview.get_by_role("row").filter(has=changed)).to_contain_text("1 cancelled")
        expect(overview.get_by_role("link", name="dashboard-sweep")).to_be_focused()  # although its row has moved


def test_user_input_is_not_interpreted(served: Site, alone: Site, chromium: Browser) -> None:
    (row,) = alone.submit("--experiment", NAME, "--dataset", "digits")
    (claimed,) = claiming.claim(alone.store, "bob:1:x", WorkerCapabilities("cpu"), FACTS)
    execution.record(alone.store, [failure(claimed, Outcome.DIVERGED, ATTACK)])
    with alone.dashboard() as url, opened(chromium, url) as page:
        page.goto("/")
        page.get_by_role("link", name=NAME).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
        assert urlsplit(page.url).path == f"/experiments/{quote(NAME, safe='')}"
        expect(page.get_by_role("row").filter(has_text="diverged")).to_contain_text(ATTACK)
        page.get_by_role("link", name=row["id"][:8]).click()
        expect(page.get_by_role("definition").filter(has_text="diverged")).to_contain_text(ATTACK)
        assert "attacked" not in page.title()


def test_pages_work_with_the_keyboard(url: str, chromium: Browser) -> None:
    with opened(chromium, url) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        link = page.get_by_role("link", name="dashboard-sweep")
        for _ in range(100):  # other tests may have submitted experiments to the site
            page.keyboard.press("Tab")
            if link.evaluate("link => link === document.activeElement"):
                break
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("dashboard-sweep")


def test_on_a_phone_only_tables_scroll_sideways(served: Site, url: str, chromium: Browser) -> None:
    with opened(chromium, url, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True) as page:
        for address in pages(served):
            page.goto(address, wait_until="networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.goto("/experiments/dashboard-sweep")
        assert page.evaluate(
            "[...document.querySelectorAll('.wide')].some(each => each.scrollWidth > each.clientWidth)"
        )


def test_pages_follow_the_color_scheme(url: str, chromium: Browser) -> None:
    brightness = "color => color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0) / 765"
    seen = {}
    for scheme in ("light", "dark"):
        with opened(chromium, url, color_scheme=scheme) as page:
            page.goto("/experiments/dashboard-sweep")
            style = page.evaluate(
                "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
            )
            seen[scheme] = [page.evaluate(brightness, color) for color in style]
            inverted = "invert" in page.locator("figure img").first.evaluate("image => getComputedStyle(image).filter")
            assert inverted == (scheme == "dark")
    assert seen["light"][0] > 0.9
    assert seen["light"][1] < 0.2
    assert seen["dark"][0] < 0.15
    assert seen["dark"][1] > 0.8


def test_pages_work_without_javascript(url: str, chromium: Browser) -> None:
    with opened(chromium, url, java_script_enabled=False) as page:
        page.goto("/experiments/dashboard-sweep")
        page.get_by_label("Compare by").fill("optimizer")
        page.get_by_role("button", name="Compare").click()
        assert "by=optimizer" in page.url
        expect(page.get_by_text("which is better?")).to_be_visible()
        page.get_by_role("link", name="failed").click()
        expect(page.get_by_text("No failed jobs.")).to_be_visible()


def test_missing_database_is_reported_and_its_return_detected(served: Site, alone: Site, chromium: Browser) -> None:
    alone.submit("--experiment", "waiting", "--dataset", "digits")
    path = Path(alone.env["MLPQ_HOME"]) / "mlpq.db"
    aside = path.with_name("aside.db")
    with alone.dashboard() as url, chromium.new_context(base_url=url) as context:
        page = context.new_page()
        page.goto("/experiments/waiting")
        path.rename(aside)
        expect(page.locator("#connection")).to_contain_text("can't use the database")
        expect(page.get_by_role("heading", level=1)).to_have_text("waiting")  # the last data stay visible
        fresh = context.new_page()
        fresh.goto("/experiments/waiting")
        expect(fresh.get_by_role("heading", level=1)).to_have_text("Service unavailable")
        aside.rename(path)
        expect(page.locator("#connection")).to_be_hidden(timeout=30 * SECONDS)
        expect(fresh.get_by_role("heading", level=1)).to_have_text("waiting")


def test_invalid_port_and_host_are_one_line(served: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = served.mlpq("dashboard", "--port", port, status=2)
        assert (
            done.err == f"mlpq: port {port} of 127.0.0.1 is in use: give --port another number, or 0 for a free port\n"
        )
    for options in (("--host", "no.such.host.invalid"), ("--host", "192.0.2.1"), ("--allow-host", "a*b"),
                    ("--allow-host", "lab:8000"), ("--port", "70000")):  # fmt: skip
        done = served.mlpq("dashboard", *options, status=2)
        assert len(done.err.splitlines()) == 1
        assert done.out == ""
