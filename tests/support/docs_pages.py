"""The commands in the README and the docs, for the tests that run them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.support.installations import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted((DOCS / "tutorial").glob("*.md")), *sorted((DOCS / "how-to").glob("*.md"))]


def blocks(page: Path, language: str, section: str = "") -> list[str]:
    """The code blocks of a page in that language, or those below one of its headings, without their indentation."""
    text = page.read_text()
    if section:
        parts = re.split(r"^#+ +", text, flags=re.MULTILINE)
        text = next(part for part in parts if part.partition("\n")[0] == section)
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def commands(page: Path) -> list[str]:
    """The lines of a page's `sh` blocks, without comments."""
    return [line.split("  #")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]


def section(page: Path, heading: str) -> str:
    """What follows a heading of a page, up to the next heading that is not below it."""
    parts = re.split(r"^(#+) +(.+)\n", page.read_text(), flags=re.MULTILINE)
    levels, headings, texts = parts[1::3], parts[2::3], parts[3::3]
    first = headings.index(heading)
    end = next((i for i in range(first + 1, len(levels)) if len(levels[i]) <= len(levels[first])), len(levels))
    return "\n".join(texts[first:end])


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables in a text, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [i for i, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def coded(text: str) -> list[str]:
    """What a text has between backticks."""
    return re.findall(r"`([^`]+)`", text)
