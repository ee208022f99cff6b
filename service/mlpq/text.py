"""Text that others wrote: what of it may be printed, and how much of it is stored."""

from __future__ import annotations

import re

ERROR_CHARACTERS = 4000  # of an error that is stored or shown

# C0 and C1 without tab and line break, what changes the direction of text, and surrogates, which no encoding has.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without control characters, which a terminal would execute."""
    return _CONTROLS.sub("", text)


def printable_value(value: object) -> object:
    """What a template inserts: text without control characters, and anything else, such as markup, as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def escaped(text: str) -> str:
    r"""The text with each control character replaced by an escape such as \u001b."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def reason_line(error: BaseException) -> str:
    """An error of somebody else's code as one line: its kind and its message."""
    return bounded(printable(" ".join(f"{type(error).__name__}: {error}".split())))


def bounded(text: str) -> str:
    """The text as a database can store it: UTF-8 without null characters, and of at most ERROR_CHARACTERS."""
    if len(text) > ERROR_CHARACTERS:
        half = ERROR_CHARACTERS // 2 - 50
        text = f"{text[:half]} … ({len(text) - 2 * half} characters left out) … {text[-half:]}"
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
