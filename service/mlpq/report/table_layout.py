"""How a table fits into a terminal: columns that fold, or one line per value where the columns are too wide.

Nothing is dropped or cut, at any width: text folds between its words, and a figure stays in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

WORD = 20  # characters of a long word, such as a hash, that stay together in a column
GAP = 2  # characters between two columns


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
