"""Chromium, and pages in it that must not err."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    expect,
    sync_playwright,
)

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SECONDS = 1000  # milliseconds

expect.set_options(timeout=60 * SECONDS)


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser; the test fails where it is not installed."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of a fresh profile. It must request nothing from other hosts, open no dialog and log no error."""
    context: BrowserContext = chromium.new_context(base_url=url, **options)
    context.set_default_timeout(60 * SECONDS)
    page, host = context.new_page(), urlsplit(url).netloc
    faults: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            faults.append(message.text)

    def on_dialog(dialog: Dialog) -> None:
        faults.append(dialog.message)
        dialog.dismiss()

    def on_request(request: Request) -> None:
        if urlsplit(request.url).netloc != host:
            faults.append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", on_dialog)
    page.on("request", on_request)
    yield page
    context.close()
    assert not faults
