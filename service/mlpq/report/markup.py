"""Documents of tables and sentences in Markdown and in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlpq.text import printable

ROWS_PER_PAGE = 45  # a longer table of LaTeX may break between pages

_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\symbol{34}", "`": r"\textasciigrave{}",
    # After the end of a row these would be its options.
    "[": "{[}", "]": "{]}", "*": "{*}",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "→": r"$\to$", "∞": r"$\infty$",
    "·": r"$\cdot$", "–": "--", "—": "---", "…": r"\ldots{}",
}  # fmt: skip
_LIGATURES = re.compile("(?<=([-,'!?]))(?=\\1|`)")  # such as two hyphens, which LaTeX joins


@dataclass(frozen=True, slots=True)
class Markup:
    """How a document is written. A table has headings, with ">" before those of figures, and lines."""

    table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]
    items: Callable[[Sequence[str]], str]
    notes: Callable[[Sequence[str]], str]
    text: Callable[[str], str]
    heading: Callable[[str], str]


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; characters that would end a cell or a row are escaped."""
    names = [heading.removeprefix(">") for heading in headings]
    cells = [[printable(cell).replace("|", "\\|").replace("\n", "<br>") for cell in line] for line in (names, *lines)]
    rows = [cells[0], ["---"] * len(headings), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def tex(text: str) -> str:
    """Any text in LaTeX, in which it is that text: nothing in it is a command, ends a cell, or joins to other signs."""
    plain = " ".join(printable(text).split())
    return "".join(_TEX.get(character, character) for character in _LIGATURES.sub("\0", plain)).replace("\0", "{}")


def latex(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in LaTeX, for the package booktabs; one that is longer than a page, for longtable too."""
    columns = "".join("r" if heading.startswith(">") else "l" for heading in headings)
    head = _row([tex(heading.removeprefix(">")) for heading in headings])
    body = [_row([_cell(cell, kind) for cell, kind in zip(line, columns, strict=True)]) for line in lines]
    if len(lines) <= ROWS_PER_PAGE:
        rows = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*rows, r"\end{tabular}"])
    rows = [rf"\begin{{longtable}}{{{columns}}}", r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule"]
    return "\n".join([*rows, r"\endfoot", *body, r"\end{longtable}"])


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _cell(text: str, kind: str) -> str:
    """A cell; in a column of figures the sign of a number is a minus."""
    return tex(re.sub(r"(?<![\w.-])-(?=[\d.])", "−", text) if kind == "r" else text)


def _tex_items(lines: Sequence[str]) -> str:
    return (
        "\n".join([r"\begin{itemize}", *(rf"\item {tex(line)}" for line in lines), r"\end{itemize}"]) if lines else ""
    )


MARKDOWN = Markup(
    table=markdown,
    items=lambda lines: "\n".join(f"- {line}" for line in lines),
    notes=lambda lines: "\n".join(f"- **Note:** {line}" for line in lines),
    text=lambda text: text,
    heading=lambda text: f"## {text}",
)
LATEX = Markup(
    table=latex,
    items=_tex_items,
    notes=lambda lines: _tex_items([f"Note: {line}" for line in lines]),
    text=tex,
    heading=lambda text: rf"\paragraph{{{tex(text)}}}",
)
MARKUPS = {"md": MARKDOWN, "latex": LATEX}


def document(parts: Sequence[str]) -> str:
    """The parts that are not empty, with an empty line between them."""
    return "\n\n".join(part for part in parts if part)
