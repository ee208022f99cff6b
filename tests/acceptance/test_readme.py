"""Every command of the README is run, as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from sqlalchemy import text

from tests.support.installations import MLPQ_WORKER, ROOT, Site
from tests.support.readme_commands import README, commands

TEXTBOOK = (7867, 6404, 8502, 8705)


def run(site: Site, section: str) -> None:
    """Run the section's commands in order, with the site's own settings, and a real id for JOB."""
    for line in commands(section):
        job = site.mlpq("jobs", "--format", "json").json[-1:]
        words = [job[0]["id"][:8] if word == "JOB" else word for word in shlex.split(line)]
        assert words[0] == "mlpq", line
        if words[1] == "dashboard":
            watch(site, words[2:])
        else:
            site.mlpq(*words[1:], timeout=240)


def watch(site: Site, options: list[str]) -> None:
    """Run the dashboard, which ends only when it is told to, on a free port."""
    with site.dashboard(*options) as url, urlopen(url) as answer:
        assert b"sweep" in answer.read()


def test_no_section_of_the_readme_has_commands_that_no_test_runs() -> None:
    sections = [part.splitlines()[0] for part in re.split(r"^## ", README, flags=re.MULTILINE)[1:]]
    with_commands = {section for section in sections if commands(section)}
    own = ["Two commands", "Submit", "Compare", "Look", "Watch", "Deploy", "Your own services", "Query", "Data"]
    assert with_commands == set(own)
    assert commands("Two commands") == ["make demo", "make test"]


def test_the_deployments_commands_name_what_is_there() -> None:
    """tests/compose runs them."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for line in commands("Deploy"):
        program, *words = shlex.split(line)
        if program == "docker-compose":
            assert {word.partition("=")[0] for word in words} & set(services), line
        else:
            assert (ROOT / program).stat().st_mode & 0o111, line


@pytest.mark.usefixtures("textbook")  # then the preset has been trained
def test_the_readmes_path_from_submit_to_query_runs_on_the_embedded_default(textbook_sites: dict[str, Site]) -> None:
    site = textbook_sites["embedded"]
    (site.folder / "docs").symlink_to(ROOT / "docs")  # as a reader has them, who is in the repository's root
    for section in ("Submit", "Compare", "Look", "Watch", "Query", "Data"):
        run(site, section)
    query = re.findall(r"```sql\n(.*?);\n```", README, flags=re.DOTALL)[0]
    with site.store.read() as connection:
        rows = connection.execute(text(query)).all()
    assert [row.n for row in rows] == [5, 5, 5, 5]
    assert [row.mean for row in rows] == sorted((row.mean for row in rows), reverse=True)


@pytest.mark.parametrize("site", ["services"], indirect=True)
def test_the_readmes_commands_run_over_postgresql_and_redis(site: Site) -> None:
    lines = commands("Your own services")
    exports = [line for line in lines if line.startswith("export ")]
    assert [line.partition("=")[0] for line in exports] == ["export MLPQ_DATABASE_URL", "export MLPQ_BROKER_URL"]
    worker = lines.index("mlpq worker &")
    for line in lines[len(exports) : worker]:
        site.mlpq(*shlex.split(line)[1:])
    with site.worker(launcher=MLPQ_WORKER, forked=False):
        for line in lines[worker + 1 :]:
            site.mlpq(*shlex.split(line)[1:])
    assert {row["status"] for row in site.mlpq("results", "deployed", "--format", "json").json} == {"succeeded"}


@pytest.mark.timeout(900)
def test_make_demo_prints_the_textbooks_figures_and_the_fair_comparison() -> None:
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=840)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [int(count) for count in re.findall(r"^\S.* \d+/10000 +(\d+)/10000", done.stdout, flags=re.MULTILINE)]
    assert len(ours) == len(TEXTBOOK)
    assert all(abs(count - source) <= 5 for count, source in zip(ours, TEXTBOOK, strict=True))
    arms = re.findall(r"^MLP 32 sigmoid, (sgd|adam) lr=\S+ +3 +\d+\.\d\d ± \d+\.\d\d", done.stdout, flags=re.MULTILINE)
    assert sorted(arms) == ["adam", "sgd", "sgd", "sgd", "sgd"]


def test_the_files_that_the_readme_links_to_exist() -> None:
    for name in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert Path(ROOT / name).is_file(), name
