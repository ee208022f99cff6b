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
