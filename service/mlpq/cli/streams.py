"""Standard output and error of the command: no lost output, and no traceback for what a locale can't print."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TextIO

from mlpq.errors import MlpqError, reason_of

CLOSED_PIPE = 141  # the exit status of a program that SIGPIPE ends
_STANDARD = (0, 1, 2)
# What our texts have beyond ASCII, in one character each, so that tables stay aligned.
_IN_ASCII = {
    "…": ".", "–": "-", "—": "-", "−": "-", "×": "x", "·": ".", "±": "~", "≥": ">", "≤": "<", "→": ">", "“": '"',
    "”": '"', "’": "'", "│": "|", "─": "-", "━": "-", "╸": "-", "╺": "-", "•": "*", "⁻": "-", "²": "2",
}  # fmt: skip


class OutputError(MlpqError):
    """Standard output can't be written; `is_closed_pipe` where its reader, such as head, has exited."""

    def __init__(self, error: OSError) -> None:
        reason = "it is closed" if error.errno == errno.EBADF else reason_of(error)
        super().__init__(f"can't write to standard output, which is incomplete: {reason}")
        self.is_closed_pipe = error.errno == errno.EPIPE


class _StandardFile(io.FileIO):
    """A standard stream whose errors no library handles in its own way.

    Errors of standard error are ignored, except that its reader has exited: nothing is left to report them to.
    """

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if self.fileno() == 2 and error.errno != errno.EPIPE:
                return len(memoryview(data))  # type: ignore[arg-type]
            raise OutputError(error) from None


def set_up() -> None:
    """Replace sys.stdout and sys.stderr; called once, before anything is printed."""
    codecs.register_error("mlpq", _printable)
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:  # closed: another file must not get this number, and writing must fail
            os.dup2(os.open(os.devnull, os.O_RDONLY), number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (open until the process exits)
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def flush() -> None:
    """Write what is buffered; raises OutputError."""
    sys.stdout.flush()


def discard() -> None:
    """Forget what is buffered, which can't be written: Python would try again when it exits."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (open until the process exits)


def _stream(number: int, before: TextIO | None) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    buffer = io.BufferedWriter(_StandardFile(number, "w", closefd=False))
    is_interactive = number == 2 or os.isatty(number)
    return io.TextIOWrapper(buffer, encoding=encoding, errors="mlpq", line_buffering=is_interactive)


def _printable(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors: a similar character, else an escape such as \\u2026."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    replaced = "".join(_IN_ASCII.get(each, each) for each in error.object[error.start : error.end])
    return replaced.encode("ascii", "backslashreplace").decode(), error.end
