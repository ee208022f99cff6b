"""How much room text takes in a chart, and where long labels break: no label is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Widths of Arial's characters, in sizes of the font; of others more than most have.
_WIDTHS = {
    **dict.fromkeys(" ijlIft.,:;|!'()[]/-", 0.31),
    **dict.fromkeys("rckszvxy", 0.51),
    **dict.fromkeys("mwMW@%", 0.87),
}
_CAPITAL, _OTHERS, _NOT_ASCII = 0.72, 0.57, {"−": 0.6, "–": 0.57, "±": 0.57, "×": 0.6, "·": 0.34}
_FULL = 1.0


def text_width(text: str, size: float) -> float:
    """How wide a line of text is, in the unit of `size`; rather too much than too little."""
    return size * sum(map(_character_width, text))


def _character_width(character: str) -> float:
    if not character.isascii():
        return _NOT_ASCII.get(character, _FULL)
    return _WIDTHS.get(character, _CAPITAL if character.isupper() else _OTHERS)


def wrapped(text: str, room: float, size: float) -> list[str]:
    """The text in lines that are at most `room` wide, broken between words, and longer words after a sign."""
    lines, line = [], ""
    for part in _parts(text, room, size):
        if line and text_width((line + part).rstrip(), size) > room:
            lines.append(line.rstrip())
            line = ""
        line += part
    return [*lines, line.rstrip()]


def _parts(text: str, room: float, size: float) -> list[str]:
    """The text in parts between which it may break, each with the space after it."""
    parts = []
    for word in re.findall(r" *[^ ]+ *| +", text):
        pieces = [word] if text_width(word.strip(), size) <= room else re.findall(r"[^,=/_-]*[,=/_-]?", word)
        for piece in filter(None, pieces):
            while text_width(piece.rstrip(), size) > room and len(piece) > 1:
                fitting = next(n for n in range(len(piece) - 1, 0, -1) if n == 1 or text_width(piece[:n], size) <= room)
                parts.append(piece[:fitting])
                piece = piece[fitting:]
            parts.append(piece)
    return parts


@dataclass(frozen=True, slots=True)
class PairLabels:
    """Labels of pairs of arms, of as many `lines` each; where they are numbers, `key` says what these mean."""

    labels: Sequence[str]
    lines: int
    key: Sequence[str]


def pair_labels(pairs: Sequence[tuple[str, str]], room: float, size: float) -> PairLabels:
    """ "A − B" in one line or two, separated by a line break, if all fit into `room`; else numbers."""
    whole = [f"{a} − {b}" for a, b in pairs]
    if all(text_width(label, size) <= room for label in whole):
        return PairLabels(whole, 1, ())
    halves = [(a, f"− {b}") for a, b in pairs]
    if all(text_width(half, size) <= room for both in halves for half in both):
        return PairLabels([f"{a}\n{b}" for a, b in halves], 2, ())
    return PairLabels([str(i) for i in range(1, len(pairs) + 1)], 1, [f"{i}: {w}" for i, w in enumerate(whole, 1)])
