"""Every command in the `sh` blocks of README, tutorial and how-to guides runs as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from tests.support.docs_pages import DOCS, PAGES, README, blocks, commands
from tests.support.installations import MLPQ_WORKER, ROOT, Site

TEXTBOOK = (7867, 6404, 8502, 8705)
SERVICES_PAGE = DOCS / "how-to" / "use-your-own-services.md"
SWEEPS_PAGE = DOCS / "how-to" / "submit-sweeps.md"
OWN_TESTS = (README, SERVICES_PAGE, SWEEPS_PAGE)


def run_page(site: Site, page: Path) -> None:
    """Run the page's commands in order, from a folder with the repository's docs, with a finished job for JOB."""
    (site.folder / "docs").symlink_to(DOCS)
    for line in commands(page):
        run_line(site, line)


def run_line(site: Site, line: str) -> None:
    if re.search(r"\bJOB\b", line):
        newest = site.mlpq("jobs", "--status", "succeeded", "--limit", "1", "--format", "json").json[0]
        line = re.sub(r"\bJOB\b", newest["id"][:8], line)
    words = shlex.split(line)
    if words[:2] == ["mlpq", "dashboard"]:
        with site.dashboard(*words[2:]) as url, urlopen(url) as answer:  # it runs until it is interrupted
            assert b"mlpq" in answer.read()
    elif words[0] == "mlpq" and "|" not in words:
        site.mlpq(*words[1:], timeout=240)
    else:
        programs = Path(sys.executable).parent  # mlpq and python, as make setup leaves them
        environ = site.environ({"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
        done = subprocess.run(["bash", "-c", line], cwd=site.folder, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in OWN_TESTS and commands(page)], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_run_in_order(alone: Site, page: Path) -> None:
    with alone.worker():
        run_page(alone, page)


@pytest.mark.usefixtures("textbook")  # the preset is trained already
def test_the_commands_about_sweeps_run_in_order(textbook_sites: dict[str, Site]) -> None:
    run_page(textbook_sites["embedded"], SWEEPS_PAGE)


def test_the_readmes_quick_start_names_its_targets() -> None:
    assert [line.split()[:2] for line in blocks(README, "sh")[0].splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("section", ["A first sweep", "Your own table"])
def test_the_readmes_sweeps_reach_their_verdicts(alone: Site, section: str) -> None:
    (alone.folder / "docs").symlink_to(DOCS)
    (lines,), (verdict,) = blocks(README, "sh", section), blocks(README, "text", section)
    for line in lines.splitlines():
        run_line(alone, line)
    out = alone.mlpq(*shlex.split(line)[1:]).out
    winner = verdict.partition(" by ")[0]
    assert f"{winner} by " in out, out


@pytest.mark.parametrize("site", ["services"], indirect=True)
def test_the_commands_about_own_services_run_over_postgresql_and_redis(site: Site) -> None:
    lines = commands(SERVICES_PAGE)
    exports = [line for line in lines if line.startswith("export ")]
    assert [line.partition("=")[0] for line in exports] == ["export MLPQ_DATABASE_URL", "export MLPQ_BROKER_URL"]
    worker = lines.index("mlpq worker &")
    for line in lines[len(exports) : worker]:
        site.mlpq(*shlex.split(line)[1:])
    with site.worker(launcher=MLPQ_WORKER, forked=False):
        for line in lines[worker + 1 :]:
            site.mlpq(*shlex.split(line)[1:])
    assert {row["status"] for row in site.mlpq("results", "deployed", "--format", "json").json} == {"succeeded"}


def test_the_deployments_commands_name_existing_services_and_scripts() -> None:
    """tests/compose runs them."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    lines = [line for block in blocks(DOCS / "how-to" / "deploy.md", "console") for line in block.splitlines()]
    programs = [shlex.split(line, comments=True) for line in lines if line.startswith(("scripts/", "docker-compose "))]
    assert len(programs) > 4
    for program, *words in programs:
        if program == "docker-compose":
            assert {word.partition("=")[0] for word in words} & {*services, "ps", "logs", "build"}, words
        else:
            assert (ROOT / program).stat().st_mode & 0o111, program


@pytest.mark.timeout(900)
def test_make_demo_prints_the_textbooks_figures_and_the_fair_comparison() -> None:
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=840)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [int(count) for count in re.findall(r"^\S.* \d+/10000 +(\d+)/10000", done.stdout, flags=re.MULTILINE)]
    assert len(ours) == len(TEXTBOOK)
    assert all(abs(count - source) <= 5 for count, source in zip(ours, TEXTBOOK, strict=True))
    arms = re.findall(r"^(sgd|adam) lr=\S+ +3 +\d+\.\d\d ± \d+\.\d\d", done.stdout, flags=re.MULTILINE)
    assert sorted(arms) == ["adam", "sgd", "sgd", "sgd", "sgd"]
