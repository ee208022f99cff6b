"""Optimizers given as formulas, from the command line and from a file to tables, verdicts and scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installations import EMBEDDED, Site

pytestmark = pytest.mark.parametrize("served", [EMBEDDED], indirect=True)

LION = "u = sign(0.9*m + 0.1*g); m = 0.99*m + 0.01*g; p = p - lr*(u + wd*p)"
OWN = ("--dataset", "digits", "--epochs", 2, "--formula", f"lion: {LION}")


def test_formula_from_the_command_line_to_a_script(served: Site, tmp_path: Path) -> None:
    arms = ("--optimizer", "lion:lr=0.01,wd=0", "--optimizer", "lion:lr=0.01,wd=0.5", "--optimizer", "adam:lr=0.01")
    rows = served.mlpq(
        "submit", *OWN, *arms, "--seeds", "0..2", "--experiment", "own", "--wait", "--format", "json"
    ).json
    assert [row["formula"] for row in rows] == [LION] * 6 + [None] * 3
    assert {row["status"] for row in rows} == {"succeeded"}
    job = rows[0]["id"]
    assert LION in " ".join(served.mlpq("show", job).out.split())
    assert "lion" in served.mlpq("results", "own").out
    by_constant = served.mlpq("compare", "own", "--by", "optimizer,wd", "--format", "md").out
    for label in ("lion wd=0 ", "lion wd=0.5", "adam"):
        assert label in by_constant
    assert (
        "the spec has no field 'wdd' (did you mean 'wd'?)" in served.mlpq("compare", "own", "--by", "wdd", status=2).err
    )
    (tmp_path / "job.py").write_text(served.mlpq("export", job, "--script").out)
    done = subprocess.run([sys.executable, "job.py"], capture_output=True, text=True, timeout=250, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = int(done.stdout.splitlines()[-1].split()[0])
    assert abs(counted - rows[0]["test_correct"]) <= 2


def test_formulas_of_a_file_and_constants_with_several_values(served: Site, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(
        "dataset: digits\nepochs: 1\nformula:\n"
        "  signs: |\n    u = sign(g)  # of this batch only\n    p = p - lr*u\n"
        f"  lion: {LION}\n"
        "optimizer:\n  - {name: lion, lr: [0.1, 0.01], wd: [0, 0.1]}\n  - signs:lr=0.01\n"
    )
    rows = served.mlpq("submit", file, "--wait", "--format", "json").json
    assert [(row["optimizer"], row["lr"], row["optimizer_settings"]) for row in rows] == [
        ("lion", 0.1, {"wd": 0}), ("lion", 0.1, {"wd": 0.1}), ("lion", 0.01, {"wd": 0}), ("lion", 0.01, {"wd": 0.1}),
        ("signs", 0.01, {}),
    ]  # fmt: skip
    assert rows[-1]["formula"] == "u = sign(g); p = p - lr*u"


def test_formulas_of_one_name_are_compared_as_two_optimizers(served: Site) -> None:
    for sign in "+-":
        served.mlpq(
            "submit", "--dataset", "digits", "--epochs", 1, "--formula", f"mine: p = p {sign} lr*g", "--optimizer",
            "mine:lr=0.1", "--seeds", "0,1", "--experiment", "twins", "--wait",
        )  # fmt: skip
    sides = served.mlpq("compare", "twins", "--by", "optimizer", "--format", "json").json["arms"]
    assert len({side["arm"] for side in sides}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--optimizer", "lion:lr=1"), "lion needs a value of wd, which its formula reads and never assigns"),
        (("--optimizer", "adam"), "the formula lion is not used: add --optimizer lion:lr=0.001,wd=0.1"),
        (("--formula", "x: p = p - os.system('true')"), "formula x, character 11: '.' is not part of the grammar"),
        (("--formula", "adam: p = p - g"), "adam is one of torch's optimizers"),
    ],
)
def test_errors_are_one_line(served: Site, arguments: tuple[str, ...], message: str) -> None:
    error = served.mlpq("submit", *OWN, *arguments, status=2).err
    assert message in error
    assert error.count("\n") == 1
