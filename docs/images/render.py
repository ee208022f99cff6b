"""Render the pictures and example reports of the docs by running mlpq, so that they show what it prints today.

    .venv/bin/python docs/images/render.py [charts|dashboard|example|race|demo …]

Without names, all of them: about ten minutes on two cores. `soak.svg` is not here: `make soak` draws it. The
experiments are kept in `.demo/pictures`, so a second run trains nothing again.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
IMAGES, EXAMPLES = ROOT / "docs" / "images", ROOT / "docs" / "examples"
MLPQ = str(ROOT / ".venv" / "bin" / "mlpq")
SWEEP = (
    "--experiment sweep --dataset digits --optimizer sgd --optimizer adam --lr 0.1,0.01 --validation 0.1 --seeds 0..15"
)
QUEUED = "--experiment queued --dataset digits --device cuda --seeds 0..9"
RUNNING = "--experiment depths --dataset digits --hidden 64,64 --optimizer adam --epochs 2000 --seeds 0..9"
TUNED = "experiments/tuned?by=optimizer"
COLUMNS = 106


def mlpq(*arguments: str) -> str:
    done = subprocess.run([MLPQ, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return done.stdout


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command of mlpq for the length of the block."""
    process = subprocess.Popen([MLPQ, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def dashboard_url() -> Iterator[str]:
    with running("dashboard", "--port", "0") as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+?/", process.stdout.readline())
        assert found is not None
        yield found[0]


def charts() -> None:
    """The charts of the tutorial."""
    mlpq("submit", *SWEEP.split(), "--wait")
    mlpq("submit", str(EXAMPLES / "tuned.yaml"), "--wait")
    with dashboard_url() as url:
        for experiment, chart in (("sweep", "rates"), ("tuned", "rates"), ("tuned", "differences")):
            with urlopen(f"{url}charts/{chart}.svg?experiment={experiment}&by=optimizer") as response:
                (IMAGES / f"{experiment}-{chart}.svg").write_bytes(response.read())


def dashboard() -> None:
    """The dashboard with finished, running and queued jobs, on a desktop and on a phone."""
    mlpq("submit", *SWEEP.split(), "--wait")
    mlpq("submit", str(EXAMPLES / "tuned.yaml"), "--wait")
    mlpq("submit", *QUEUED.split())
    with running("worker"), dashboard_url() as url, sync_playwright() as playwright:
        mlpq("submit", *RUNNING.split(), "--again")
        time.sleep(20)  # until it trains
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        _desktop(browser.new_page(viewport={"width": 1200, "height": 1400}), url)
        _phone(browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark").new_page(), url)
        browser.close()
        mlpq("cancel", "depths")


def _desktop(page: Page, url: str) -> None:
    page.goto(url + TUNED)
    page.wait_for_load_state("networkidle")
    boxes = [box for image in page.locator("img").all() if (box := image.bounding_box())]
    height = max(box["y"] + box["height"] for box in boxes) + 30
    shot = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": 1200, "height": height})
    _save(Image.open(io.BytesIO(shot)), IMAGES / "dashboard.png")


def _phone(page: Page, url: str) -> None:
    shots = []
    for address, heading in (("", ""), (TUNED, ""), (TUNED, "Charts")):
        page.goto(url + address)
        page.wait_for_load_state("networkidle")
        if heading:
            page.get_by_role("heading", name=heading, exact=True).evaluate("element => element.scrollIntoView()")
            page.wait_for_timeout(500)
        shots.append(Image.open(io.BytesIO(page.screenshot())))
    whole = Image.new("RGB", (sum(shot.width + 20 for shot in shots) - 20, 800), "#888")
    for i, shot in enumerate(shots):
        whole.paste(shot, (i * (shot.width + 20), 0))
    _save(whole, IMAGES / "dashboard-dark.png")


def _save(image: Image.Image, file: Path) -> None:
    # The default method merges colors of thin lines.
    image.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE).save(file, optimize=True)


def example() -> None:
    """The report and the charts of docs/examples/optimizers.yaml; prints the table for how-to/compare-optimizers.md."""
    mlpq("submit", str(EXAMPLES / "optimizers.yaml"), "--wait")
    by = ("--by", "optimizer,momentum", "--choose-seeds", "0..4")
    mlpq("report", "optimizers", *by, "-o", str(EXAMPLES / "optimizers.html"))
    file = EXAMPLES / "optimizers.png"
    print(mlpq("compare", "optimizers", *by, "--plot", str(file), "--format", "md"))
    plot = Image.open(file)
    _save(plot.resize((plot.width * 3 // 4, plot.height * 3 // 4)), file)


def race() -> None:
    """The report of docs/examples/race.yaml, decided; prints the end of the race."""
    mlpq("submit", str(EXAMPLES / "race.yaml"))
    asked = ("race", "--by", "optimizer,momentum", "--choose-seeds", "0..4")
    print(mlpq("decide", *asked, "--difference", "0.3", "--margin", "0.5", "--wait"))
    mlpq("report", *asked, "-o", str(EXAMPLES / "race.html"))


def demo() -> None:
    """The output of `make demo` without progress, the table of fifteen jobs, and the closing hints."""
    done = subprocess.run(["make", "demo"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    titles = [i for i, line in enumerate(lines) if line.startswith("\x1b[1m")]
    jobs = next(i for i in range(titles[2], len(lines)) if lines[i].startswith("job "))
    arms = next(i for i in range(jobs, len(lines)) if lines[i].startswith("arm "))
    shown = ["$ make demo", "", *lines[titles[0] : jobs], "…", *lines[arms : titles[3] - 1]]
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in shown:
        plain = re.sub(r"\x1b\[\d*m", "", line)
        wraps = plain != line or plain.startswith("$")
        for part in textwrap.wrap(plain, COLUMNS) if wraps else [plain]:
            console.print(part, style="bold" if plain != line else None, markup=False, highlight=False, crop=False)
    svg = console.export_svg(title="make demo")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing is loaded from elsewhere
    (IMAGES / "demo.svg").write_text(svg.replace("Fira Code, monospace", "monospace"))


def main(names: list[str]) -> None:
    os.environ["MLPQ_HOME"] = str(ROOT / ".demo" / "pictures")
    pictures = {"charts": charts, "dashboard": dashboard, "example": example, "race": race, "demo": demo}
    for name in names or pictures:
        print(name, flush=True)
        pictures[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
