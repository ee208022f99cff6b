"""`mlpq experiments`, and what shells complete."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.support.installations import Site

DIGITS = ("--dataset", "digits", "--epochs", 2, "--seeds", "0..2")


@pytest.fixture(scope="module")
def lab(served: Site) -> Site:
    """A site with a finished experiment of two arms, and one that waits."""
    two = ("--optimizer", "sgd:lr=0.001", "--optimizer", "adam:lr=0.01")
    served.mlpq("submit", "--experiment", "finished", *DIGITS, *two, "--validation", 0.2, "--wait")
    served.mlpq("submit", "--experiment", "test only", *DIGITS, *two, "--wait")
    served.mlpq("submit", "--experiment", "waiting", *DIGITS, "--device", "mps", env={"LOGNAME": "ann"})
    return served


def completed(site: Site, line: str) -> list[str]:
    """What bash gets for a line that ends where the cursor is."""
    words = line.split()
    at = len(words) if line.endswith(" ") else len(words) - 1
    shell = {"_MLPQ_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(at)}
    return [each.partition(",")[2] for each in site.mlpq(env=shell).out.splitlines()]


def test_experiments_are_listed_with_their_progress_best_arm_owner_and_age(lab: Site) -> None:
    found: Mapping[str, dict[str, object]] = {
        each["experiment"]: each for each in lab.mlpq("experiments", "--format", "json").json
    }
    compared = lab.mlpq("compare", "finished", "--format", "json").json["arms"][0]
    finished = found["finished"]
    assert (finished["best_arm"], finished["best_by"], finished["arms"]) == ("adam lr=0.01", "validation", 2)
    assert (finished["n"], finished["test_accuracy"]) == (3, pytest.approx(compared["mean"] / 100))
    assert found["test only"]["best_by"] == "test"
    assert found["waiting"]["owner"] == "ann"
    assert (found["waiting"]["best_arm"], found["waiting"]["jobs"]["queued"]) == (None, 3)  # type: ignore[index]
    table = {line[:9].strip(): line for line in lab.mlpq("experiments").out.splitlines()}
    assert "6 of 6" in table["finished"]
    assert f"{compared['mean']:.2f} ± {compared['sd']:.2f}" in table["finished"]
    assert "adam lr=0.01 (by test)" in table["test only"]
    assert re.search(r"0 of 3 .* ann ", table["waiting"])
    assert "3 queued" in table["waiting"]


def test_the_latest_experiments_are_listed(lab: Site) -> None:
    done = lab.mlpq("experiments", "--limit", 1)
    assert "waiting" in done.out
    assert "finished" not in done.out.splitlines()[2]
    assert "the latest 1 experiments; --limit shows more" in done.out


def test_shells_complete_experiments_jobs_and_names(lab: Site) -> None:
    (job,) = [each["id"] for each in lab.mlpq("jobs", "waiting", "--limit", 1, "--format", "json").json]
    assert completed(lab, "mlpq expo") == ["export"]
    assert completed(lab, "mlpq results f") == ["finished"]
    assert completed(lab, f"mlpq show {job[:6]}") == [job[:8]]
    assert completed(lab, f"mlpq show {job[:12]}") == [job]
    assert completed(lab, "mlpq compare finished --by optimizer,mo")[0] == "optimizer,momentum"
    assert completed(lab, "mlpq compare finished --chart ra") == ["rates", "race"]
    assert completed(lab, "mlpq submit --dataset dig") == ["digits"]
    assert completed(lab, "mlpq submit --optimizer ada")[:2] == ["adadelta", "adafactor"]
    assert "waiting" in completed(lab, "mlpq cancel w")
    assert "--experiment" in completed(lab, "mlpq submit --exp")


def test_nothing_is_created_or_printed_where_there_is_no_database(lab: Site, tmp_path: object) -> None:
    shell = {"_MLPQ_COMPLETE": "bash_complete", "COMP_WORDS": "mlpq results ", "COMP_CWORD": "2"}
    for database in ("sqlite:////nowhere/mlpq.db", "postgresql://nobody@127.0.0.1:1/none"):
        done = lab.mlpq(env={**shell, "MLPQ_DATABASE_URL": database})
        assert (done.out.strip(), done.err) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(lab: Site, shell: str) -> None:
    assert "_MLPQ_COMPLETE" in lab.mlpq(env={"_MLPQ_COMPLETE": f"{shell}_source"}).out
