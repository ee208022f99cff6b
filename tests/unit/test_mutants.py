"""The sampled mutation run: which mutants it makes, which it kills, and that its list of equivalent ones is current."""

from __future__ import annotations

import argparse
import ast
import subprocess
from pathlib import Path

import pytest

from tests.mutants.__main__ import chosen, equivalents, report
from tests.mutants.pure import MLPQ
from tests.mutants.running import Project, Runner
from tests.mutants.sites import Mutant, mutants


def changes(source: str) -> set[tuple[str, str]]:
    return {(mutant.old, mutant.new) for mutant in mutants("module.py", source.encode())}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {("a < b", "(a <= b)")}),
        ("a == b in c", {("a == b in c", "(a != b in c)"), ("a == b in c", "(a == b not in c)")}),
        ("é = a - b", {("a - b", "(a + b)")}),
        ("a += b", {("a += b", "a -= b")}),
        ("a and not b", {("a and not b", "(a or not b)"), ("not b", "(b)")}),
        ("a = 3", {("3", "4"), ("3", "(2)")}),
        ("a = True", {("True", "False")}),
        ("if a:\n    pass", {("a", "True"), ("a", "False")}),
        ("while a:\n    pass", {("a", "False")}),
        ("[a for a in b if c]", {("c", "True")}),
        ("def f():\n    return a", {("return a", "return None")}),
        ("f(a)", {("f(a)", "pass")}),
        ("def f(a=b, *, c=1): ...", {("1", "2"), ("1", "(0)")}),
        ("a = b['key']", {("'key'", "'key_'")}),
        ("a in ('b',)", {("a in ('b',)", "(a not in ('b',))"), ("'b'", "'b_'")}),
    ],
)
def test_mutants_of_a_statement(source: str, expected: set[tuple[str, str]]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "'docstring'",
        "raise Error('message')",
        "a: int | None",
        "A = B | C",
        "a = 'x' + b",
        "f'{a + 1}'",
        "@f(1)\nclass A: ...",
    ],
)
def test_messages_annotations_and_decorators_have_no_mutants(source: str) -> None:
    assert changes(source) == set()


def test_every_mutant_of_a_module_is_another_program_of_python() -> None:
    file = "service/mlpq/analysis/inference.py"
    source = (MLPQ.root / file).read_bytes()
    texts = {mutant.applied(source) for mutant in mutants(file, source)[::40]}
    assert source not in texts
    for text in texts:
        ast.parse(text)


def test_sample_depends_on_its_seed_alone() -> None:
    found = mutants("module.py", b"\n".join(b"a = %d" % number for number in range(100)))

    def sampled(seed: int) -> list[Mutant]:
        return chosen(found, argparse.Namespace(mutant="", only="", seed=seed, count=20))

    assert sampled(1) == sampled(1) != sampled(2)
    assert len(sampled(1)) == 20


def test_equivalent_mutants_are_mutants_of_the_present_code() -> None:
    current = {
        (mutant.file, mutant.code, mutant.old, mutant.new)
        for file in {file for file, *_ in equivalents()}
        for mutant in mutants(file, (MLPQ.root / file).read_bytes())
    }
    assert set(equivalents()) - current == set()


def test_run_tells_what_tests_notice_from_what_they_let_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["src"]\n',
        "src/ages.py": "def is_adult(age):\n    while age < 0:\n        age += 1\n    return age >= 18\n",
        "tests/test_ages.py": "import ages\n\n"
        "def test_adults():\n    assert ages.is_adult(20)\n    assert not ages.is_adult(-1)\n",
    }
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path / "tree", check=True)
    project = Project(
        tmp_path / "tree", ("src",), "tests", ("src",), preloaded=("pytest", "hypothesis"), startup_seconds=2
    )
    runner = Runner(project, tmp_path / "copies", processes=1)
    assert runner.measure() == []
    places = ("3:8:arithmetic", "4:4:return", "4:11:comparison")
    mutants = [mutant for mutant in project.mutants() if mutant.place.removeprefix("src/ages.py:") in places]
    outcomes = list(runner.outcomes(mutants))
    assert [outcome.outcome for outcome in outcomes] == ["timed out", "killed", "survived"]
    report(outcomes)
    printed = capsys.readouterr().out
    assert "survived:\nsrc/ages.py:4:11:comparison\n    return age >= 18\n    age >= 18 → (age > 18)\n" in printed
    assert printed.endswith("3 mutants: 1 killed, 1 timed out, 0 equivalent, 1 survived (33.3%)\n")
    assert (tmp_path / "tree/src/ages.py").read_text() == files["src/ages.py"]
