"""Tables in LaTeX: whatever names are, they are typeset as they are, and end neither a cell, a row nor a table."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlpq.report import query_output
from mlpq.report.comparison_tables import comparison_markup
from mlpq.report.markup import LATEX, latex, tex
from mlpq.report.tables import results_markup
from mlpq.text import printable
from tests.support.charted_arms import charted

# What LaTeX treats specially, alone and in what it joins or reads on for.
SPECIAL = st.sampled_from(
    [*"\\{}$&#_%~^<>|\"`'[]*-,!?", "--", "---", "''", "``", "?`", "!`", ",,", "\\\\", "^^M", "\\end{tabular}"]
)
TEXT = st.lists(SPECIAL | st.text(max_size=5), max_size=8).map("".join)

COMMANDS = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
    "textbar": "|", "textasciigrave": "`", "ldots": "…",
}  # fmt: skip
MATHS = {"-": "−", r"\pm": "±", r"\times": "×", r"\geq": "≥", r"\leq": "≤", r"\to": "→", r"\infty": "∞", r"\cdot": "·"}
TOKEN = re.compile(
    r"\\(?P<command>[a-z]+)\{\}|\\symbol\{(?P<code>\d+)\}|\\(?P<sign>[{}$&#_%])|\$(?P<maths>[^$]+)\$"
    r"|\{(?P<group>[\[\]*]?)\}|(?P<dashes>-{2,3})|(?P<plain>.)",
    re.DOTALL,
)


def typeset(source: str) -> str:
    """What LaTeX prints for a source that only has what `tex` writes; fails on anything that LaTeX treats specially."""
    printed = []
    for token in TOKEN.finditer(source):
        kind, value = token.lastgroup, token[token.lastgroup or 0]
        if kind == "command":
            printed.append(COMMANDS[value])
        elif kind == "code":
            printed.append(chr(int(value)))
        elif kind == "maths":
            printed.append(MATHS[value])
        elif kind == "dashes":
            printed.append({2: "–", 3: "—"}[len(value)])
        else:
            assert kind != "plain" or value not in '\\{}$&#_%~^<>|"`[]*', source
            printed.append(value)
    return "".join(printed)


@given(TEXT)
@example("a--b")
@example("\\\\[2cm]")
@example("* starred")
def test_any_text_is_typeset_as_it_is(text: str) -> None:
    source = tex(text)
    assert typeset(source) == " ".join(printable(text).split())
    assert "\n" not in source  # an empty line would end a paragraph
    joined = re.sub(r"\$[^$]*\$|\\[a-z]+\{\d*\}", " ", source)
    assert not re.search(r",,|''|\?`|!`", joined)


@given(
    cells=st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=4), headings=st.lists(TEXT, min_size=3, max_size=3)
)
def test_a_table_has_as_many_cells_and_rows_as_its_lines(cells: list[list[str]], headings: list[str]) -> None:
    names = [headings[0].lstrip(">"), f">{headings[1]}", f">{headings[2]}"]
    lines = latex(names, cells).splitlines()
    assert lines[:2] == [r"\begin{tabular}{lrr}", r"\toprule"]
    assert lines[3] == r"\midrule"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    rows = [lines[2], *lines[4:-2]]
    assert len(rows) == 1 + len(cells)
    for row in rows:
        assert row.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", row)) == 2


def test_the_sign_of_a_figure_is_a_minus() -> None:
    table = latex(["arm", ">difference"], [["a-1", "-0.41 (-1.2 to 0.3)"], ["b", "1e-05"]])
    assert r"a-1 & $-$0.41 ($-$1.2 to 0.3) \\" in table
    assert r"b & 1e-05 \\" in table


def test_a_table_that_is_longer_than_a_page_may_break() -> None:
    assert latex(["seed"], [[str(seed)] for seed in range(45)]).startswith(r"\begin{tabular}{l}")
    table = latex(["seed"], [[str(seed)] for seed in range(46)])
    assert table.startswith(r"\begin{longtable}{l}")
    assert table.endswith(r"\end{longtable}")


def test_results_and_comparisons_have_each_arm_with_its_n_and_spread() -> None:
    compared = charted(3, 4)
    arms = results_markup(compared.records, [], None, LATEX).split("\n\n")[1]
    whole = comparison_markup(compared.comparison, compared.tuned, LATEX)
    for side in compared.comparison.sides:
        assert f"\n{tex(side.label)} & 4 & " in arms
        assert f"\n{tex(side.label)} & 4 & " in whole
    assert arms.count(r"$\pm$") == 1 + 3
    assert r"\item " in whole
    assert "%" not in whole.replace(r"\%", "")


def test_the_result_of_a_query_in_latex_aligns_figures(capsys: pytest.CaptureFixture[str]) -> None:
    query_output.write(["name_1", "n"], [{"name_1": "50 % & more", "n": 3}], "latex")
    out = capsys.readouterr().out
    assert r"\begin{tabular}{lr}" in out
    assert r"name\_1 & n \\" in out
    assert r"50 \% \& more & 3 \\" in out
