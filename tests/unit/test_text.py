"""Text that others wrote never controls a terminal, and is never stored beyond bounds."""

from __future__ import annotations

import csv
import io
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq import terminal
from mlpq.cli import cli
from mlpq.report.markup import markdown
from mlpq.report.tables import console, csv_text, plain_table
from mlpq.text import bounded, escaped, printable

NASTY = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x07\x9b\x9d\r\x08\x7f\u202e\u2066\u200f\ud800\0")))


def controls(text: str) -> list[str]:
    """Its control characters, by their categories in Unicode."""
    return [
        character
        for character in text
        if (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t")
        or unicodedata.bidirectional(character) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        or character in "\u200e\u200f\u061c"
    ]


@given(NASTY)
def test_printable_text_has_no_control_characters(text: str) -> None:
    found = printable(text)
    assert controls(found) == []
    assert found == "".join(character for character in text if not controls(character))


@given(NASTY)
def test_escaped_text_loses_nothing(text: str) -> None:
    found = escaped(text)
    assert controls(found) == []
    if "\\" not in text:
        assert re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), found) == text


@given(st.one_of(NASTY, st.integers(0, 10**6).map(lambda length: "é\0" * length)))
def test_bounded_text_can_be_stored(text: str) -> None:
    found = bounded(text)
    found.encode()
    assert "\0" not in found
    assert len(found) <= 8 * 4000


def test_text_of_more_than_four_thousand_characters_is_cut_in_the_middle() -> None:
    assert bounded("x" * 4000) == "x" * 4000
    assert bounded("x" * 2000 + "y" * 2001) == f"{'x' * 1950} … (101 characters left out) … {'y' * 1950}"
    assert len(bounded("x" * 30_000_000)) < 4000


@given(st.lists(NASTY, min_size=1, max_size=3))
def test_csv_and_markdown_have_no_control_characters(cells: list[str]) -> None:
    text = csv_text(cells, [cells])
    assert controls(text) == []
    assert controls(markdown(cells, [cells])) == []
    (_, line) = csv.reader(io.StringIO(csv_text(["a"] * len(cells), [["a", *cells]])))
    assert line[1:] == [escaped(cell) for cell in cells]


@pytest.mark.parametrize("is_terminal", [True, False])
@given(text=NASTY)
def test_tables_have_no_control_characters_but_those_of_styles(is_terminal: bool, text: str) -> None:
    out = io.StringIO()
    printing = console(file=out)
    printing._force_terminal = is_terminal
    printing.no_color = True
    table = plain_table("a", "b")
    table.add_row(text, text)
    printing.print(table)
    printing.print(text, markup=False)
    styles = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert controls(styles) == []


def test_streams_of_the_command_are_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli(["jobs", "--status", "\x1b]0;title\x07"])
    assert isinstance(sys.stdout, terminal.PrintableStream)
    print("a\x1b[2Jb\u202e")
    out, err = capsys.readouterr()
    assert (out, "\x1b" in err) == ("a[2Jb\n", False)
