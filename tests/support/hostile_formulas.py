"""Texts that no formula may be, by families: what would execute, what would take long, and what only looks right."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator

OPEN, CLOSE = "(", ")"
DUNDERS = ("__import__", "__builtins__", "__class__", "__subclasses__", "__globals__", "__dict__", "__getattribute__")
CALLS = ("eval", "exec", "open", "print", "compile", "getattr", "globals", "input", "breakpoint", "__import__", "sgn")
STATEMENTS = (
    "import os", "from os import system", "del p", "global p", "raise p", "return p", "pass", "while 1: p = p",
    "for g in p: p = g", "if g > 0: p = 0", "with g: p = g", "try: p = g", "def f(): p = g", "class f: p = g",
    "assert p", "yield p", "async p", "p: float = g", "p, g = g, p", "p = g = 0", "p = (p := g)", "*p = g", "@g",
)  # fmt: skip
SIGNS = "@&|~^%!?$`\\'\"[]{}:."
LOOKALIKES = "−×÷·∗²³√≤≥≠αβγηθλμπ′ｐ１（）＝；\u00a0\u200b\u202e\u0000\u0007\u2028е"


def _name(draw: random.Random) -> str:
    return "".join(draw.choices(string.ascii_lowercase, k=draw.randint(1, 6))) + "_"


def _term(draw: random.Random) -> str:
    return draw.choice(["p", "g", "t", "lr", "m", "0.5", "2", "sqrt(g)", "abs(p - g)", "g**2"])


def attribute(draw: random.Random) -> str:
    chain = ".".join([draw.choice("pgm"), *draw.choices([*DUNDERS, "data", "T", "sum()"], k=draw.randint(1, 40))])
    return f"p = p - lr*{chain}"


def call(draw: random.Random) -> str:
    arguments = draw.choice(["", "g", "'os'", "g, p", "*g", "**g", "x=g", "lambda: g", "g for g in p"])
    return f"p = p - {draw.choice(CALLS)}({arguments})"


def wrong_arguments(draw: random.Random) -> str:
    function = draw.choice(["sqrt", "abs", "sign", "exp", "log", "tanh", "min", "max", "where", "norm"])
    count = {"min": 2, "max": 2, "where": 3}.get(function, 1)
    given = draw.choice([n for n in (0, 1, 2, 3, 4, 200) if n != count])
    return f"p = p - {function}({', '.join(['g'] * given)})"


def huge_power(draw: random.Random) -> str:
    exponent = draw.choice(["65", "1e9", "-1000", "99999999999", "9**9", "64 + 1", "(2 - 999)", "1e308*10"])
    tower = "**".join(["9"] * draw.randint(3, 30))
    return draw.choice([f"p = p - g**({exponent})", f"p = p - {tower}*g", f"p = p - (g*{_term(draw)})**{tower}"])


def deep(draw: random.Random) -> str:
    depth = draw.randint(51, 900)
    opened = draw.choice(["(", "-", "- -", "sqrt(", "min(g, ", "g**", "(g + ", "where(g, p, "])
    return f"p = {opened * depth}g{CLOSE * (opened.count(OPEN) * depth)}"[:1990]


def long(draw: random.Random) -> str:
    return draw.choice(
        [
            "p = p" + " - g" * draw.randint(500, 5000),
            "p = p - g" + " " * draw.randint(2000, 100_000),
            "; ".join(["p = p - g"] * draw.randint(200, 2000)),
            f"p = p - {'x' * draw.randint(41, 1900)}",
            f"p = p - {'1' * draw.randint(41, 1900)}",
            f"p = p - 1e{'9' * draw.randint(3, 30)}",
            f"p = p - 0.{'0' * draw.randint(400, 1900)}1",
            "; ".join([f"u = {' + '.join(['g'] * 40)}", *["u = u*g + g/u"] * 100, "p = p - u"]),
            "p = " + "+".join(f"x{i}" for i in range(300)),
        ]
    )


def unicode(draw: random.Random) -> str:
    text = list(f"p = p - lr*({_term(draw)} + {_term(draw)})")
    character = draw.choice(
        [draw.choice(LOOKALIKES), chr(draw.randint(0x80, 0xD7FF)), chr(draw.randint(0x10000, 0x1FFFF))]
    )
    text.insert(draw.randrange(len(text) + 1), character)
    return "".join(text)


def statement(draw: random.Random) -> str:
    parts = [draw.choice(STATEMENTS), f"p = p - lr*{_term(draw)}"]
    draw.shuffle(parts)
    return draw.choice(["; ", "\n"]).join(parts)


def sign(draw: random.Random) -> str:
    text = list(f"p = p - lr*({_term(draw)} + {_term(draw)})")
    text.insert(draw.randrange(len(text) + 1), draw.choice(SIGNS) * draw.randint(1, 3))
    return "".join(text)


def unbalanced(draw: random.Random) -> str:
    text = f"p = p - lr*({_term(draw)} + ({_term(draw)} - 1))"
    places = [i for i, character in enumerate(text) if character in "()"]
    at = draw.choice(places)
    return text[:at] + text[at + 1 :] if draw.random() < 0.5 else text[:at] + draw.choice("()") + text[at:]


def no_operator(draw: random.Random) -> str:
    left, right = _term(draw), _term(draw)
    return draw.choice([
        f"p = p - {left} {right}", f"p = p - 2{_name(draw)}", f"p = p - {left} if g else {right}", f"p = p - {left} *",
        f"p = p - ({left} and {right})", f"p = p - not {left}", f"p = {left} < {right} < p", f"p == {left}",
        f"p -= {left}", f"p = p -/ {left}", f"p = p // {left}", f"p = p - {left}, {right}", f"= p - {left}",
        f"p = p - lambda {left}", f"p = p - {left}({right})", f"p = p <> {left}", f"{left} = p = g",
    ])  # fmt: skip


def wrong_names(draw: random.Random) -> str:
    name = _name(draw)
    return draw.choice([
        f"t = t + 1; p = p - t*{_term(draw)}", f"lr = 0.1; p = p - lr*{_term(draw)}", f"{name} = g", f"sqrt = {name}",
        f"{name} = g; p = p - {_term(draw)}", "g = g/2; p = p - g/norm(g)", "p = p - g; p = p/norm(p)",
        f"p = p - norm({name})", f"p = p - norm(g + {name})", "norm(g) = 1; p = p - g", "0.5 = p",
        "None = g; p = p - g",
        "; ".join([*(f"{name}{i} = {name}{i} + g" for i in range(draw.randint(9, 60))), "p = p - g"]),
    ])  # fmt: skip


def noise(draw: random.Random) -> str:
    return "p = p - " + "".join(draw.choices(string.printable, k=draw.randint(20, 1900))) + draw.choice(SIGNS)


FAMILIES: tuple[Callable[[random.Random], str], ...] = (
    attribute, call, wrong_arguments, huge_power, deep, long, unicode, statement, sign, unbalanced, no_operator,
    wrong_names, noise,
)  # fmt: skip


def hostile_formulas(count: int) -> Iterator[tuple[str, str]]:
    """So many texts with the names of their families, the same each time."""
    draw = random.Random(19)
    for number in range(count):
        family = FAMILIES[number % len(FAMILIES)]
        yield family.__name__, family(draw)
