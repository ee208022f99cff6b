"""The README's commands, for the tests that run them."""

from __future__ import annotations

import re

from tests.support.installations import ROOT

README = (ROOT / "README.md").read_text()


def commands(section: str) -> list[str]:
    """The shell lines of a section, without comments."""
    body = re.split(r"^## ", README, flags=re.MULTILINE)
    chosen = next(part for part in body if part.startswith(section))
    blocks = re.findall(r"```sh\n(.*?)```", chosen, flags=re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
