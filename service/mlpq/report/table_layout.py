"""How a table fits into a terminal: fewer columns, columns that fold, or one line per value if they are too wide.

Nothing is cut, at any width: text folds between its words, and a figure stays in one piece. What is not shown is named.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

# Columns that give way in a narrow terminal: those of equal cells, then those of figures, the least important first.
IF_EQUAL = ("experiment", "model")
LEAST_IMPORTANT = (
    ("time",), ("worst", "best"), ("correct",), ("batch", "parameters"), ("epochs",), ("P(A better)",), ("evidence*",),
    ("anytime * interval",), ("95 % interval",),
)  # fmt: skip
NAME = 24  # characters of a name in one line are enough to tell most from each other
WORD = 20  # characters of a long word, such as a hash, that stay together in a column
GAP = 2  # characters between two columns


def reduced(table: Table, width: int) -> tuple[Table, list[str]]:
    """The table without the columns for which `width` has no room, and the names of those.

    Names of arms and other text keep NAME characters in a line, if that is possible.
    """
    hidden: list[Column] = []
    candidates = _candidates(table)
    while candidates and not _is_roomy([each for each in table.columns if each not in hidden], width):
        hidden += candidates.pop(0)
    if not hidden:
        return table, []
    found = copy.copy(table)
    left = [column for column in table.columns if column not in hidden]
    found.columns = [replace(column, _index=index) for index, column in enumerate(left)]
    return found, [_described(column) for column in hidden]


def _candidates(table: Table) -> list[list[Column]]:
    named = {_text(column.header).plain: column for column in table.columns}
    equal = [[named[name]] for name in IF_EQUAL if name in named and len({*map(str, named[name].cells)}) == 1]
    several = equal if table.row_count > 1 else []
    figures = [
        [
            column
            for name, column in named.items()
            if column.justify == "right" and any(fnmatchcase(name, pattern) for pattern in together)
        ]
        for together in LEAST_IMPORTANT
    ]
    return [columns for columns in [*several, *figures] if columns]


def _is_roomy(columns: Sequence[Column], width: int) -> bool:
    wanted = [max(map(_longest_line, _texts(column))) for column in columns]
    least = map(_least, columns)
    return sum(max(low, min(high, NAME)) for low, high in zip(least, wanted, strict=True)) + GAP * len(wanted) <= width


def _described(column: Column) -> str:
    """The name of a column; with the value that all its cells have, where that is text."""
    name, cells = _text(column.header).plain, {*map(str, column.cells)}
    return f"{name} ({cells.pop()})" if name in IF_EQUAL else name


def fit(table: Table, width: int) -> bool:
    """Set the widths of the columns so that the table is at most `width` wide; False where it can't be.

    The cells must be Text. Columns that are aligned to the right have figures, which do not fold.
    """
    columns, room = table.columns, width - GAP * len(table.columns) + 1
    wanted = [max(map(_longest_line, _texts(column))) for column in columns]
    least = [_least(column) for column in columns]
    if sum(least) > room:
        return False
    for column, found in zip(columns, _shared(wanted, least, room), strict=True):
        column.width = found
    return True


def listed(table: Table, width: int, row_name: str = "") -> Iterator[RenderableType]:
    """A line "name: value" for each cell, and an empty line between two rows.

    A row has the heading `row_name` and its number, where that is not empty. Without headings, a table of two columns
    has names and values.
    """
    names = [_text(column.header) for column in table.columns]
    rows = list(zip(*([_text(cell) for cell in column.cells] for column in table.columns), strict=True))
    for number, row in enumerate(rows or [tuple(Text() for _ in names)]):
        if table.show_header and number:
            yield Text()
        if row_name and rows:
            yield Text(f"{row_name} {number + 1}", style="bold")
        pairs = zip(names, row, strict=True) if table.show_header or len(row) != 2 else [(row[0], row[1])]
        for name, value in pairs:
            yield from _named(name, value, width)


def _named(name: Text, value: Text, width: int) -> Iterator[RenderableType]:
    """The name and its value, in one line if that is wide enough."""
    if not name.plain:
        yield from [value] if value.plain else []
    elif "\n" not in value.plain and cell_len(f"{name.plain}: {value.plain}") <= width:
        yield Text.assemble((name.plain, "bold"), ": ", value)
    else:
        yield Text.assemble((name.plain, "bold"), ":")
        yield Padding(value, (0, 0, 0, 2))


def _shared(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths whose sum is at most `room`: the widest columns give way first, none below its least width."""
    limit = max(0, min(room, max(wanted, default=0)))
    while sum(found := [max(low, min(high, limit)) for low, high in zip(least, wanted, strict=True)]) > room:
        limit -= 1
    return found


def _least(column: Column) -> int:
    """The width below which a figure would be cut, or a short word broken."""
    heading, *cells = _texts(column)
    if column.justify == "right":
        return max(_longest_word(heading), *map(_longest_line, cells), 1)
    return max(1, *(min(WORD, _longest_word(text)) for text in (heading, *cells)))


def _texts(column: Column) -> list[Text]:
    return [_text(column.header), *map(_text, column.cells)]


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def _longest_line(text: Text) -> int:
    return max(map(cell_len, text.plain.splitlines()), default=0)


def _longest_word(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=0)
