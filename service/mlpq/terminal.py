"""Standard output and error of the command: what it prints controls no terminal, whoever wrote it into the database."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from mlpq.text import printable


class PrintableStream:
    """A text stream without control characters; `raw` is the stream that it writes to."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        self.raw.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def guard() -> None:
    """Strip control characters from all that this process prints, except what rich styles: see `raw`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, PrintableStream):
            setattr(sys, name, PrintableStream(stream))


def raw(stream: TextIO) -> TextIO:
    """The stream behind a guarded one, for a writer that strips control characters itself and adds its own."""
    return stream.raw if isinstance(stream, PrintableStream) else stream
