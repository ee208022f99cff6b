"""Parsers of user input: each takes text, a number or a list, and raises ValueError with the message to show."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mlpq.errors import nearest
from mlpq.jobs import MAX_WORLD_SIZE, VERIFY
from mlpq.spec.schedules import CONSTANT, complete_schedule

T = TypeVar("T")

# Limits, checked before anything is stored: an oversized spec must not crash a worker.
MAX_LAYERS = 32
MAX_WIDTH = 16_384
MAX_PARAMETERS = 50_000_000  # 200 MB of float32; Adam needs four times that
MAX_EPOCHS = 10_000
MAX_BATCH = 100_000
MAX_SEED = 2**32 - 1  # torch's CPU generator uses 32 bits: larger seeds could collide
MAX_JOBS = 100_000


def whole(name: str, low: int, high: int) -> Callable[[object], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(value: object) -> int:
        text = str(value).strip().replace("_", "")
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d{1,20}", text) or not low <= int(text) <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, not {_quoted(value)}")
        return int(text)

    return parse


def real(name: str, rule: str, test: Callable[[float], bool]) -> Callable[[object], float]:
    """A parser of finite numbers that pass `test`; `rule` describes the test in the message."""

    def parse(value: object) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(str(value))
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not test(number):
            raise ValueError(f"{name} must be a number {rule}, not {_quoted(value)}{_point_for_comma(value)}")
        return number + 0.0  # -0.0 becomes 0.0: one canonical form

    return parse


def one_of(name: str, choices: Iterable[str]) -> Callable[[object], str]:
    """A parser of one of several words."""

    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError(f"unknown {name} {_quoted(value)}{nearest(word, choices)}")
        return word

    return parse


def several(name: str, parse: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """A parser of "a,b,c", of a list of these, or of one value; it requires at least one."""

    def parse_all(value: object) -> tuple[T, ...]:
        try:
            parsed = tuple(parse(part) for part in _parts(value))
        except ValueError as error:
            raise ValueError(f"{error}{_point_for_comma(value)}") from None
        if not parsed:
            raise ValueError(f"{name} is empty: give at least one value")
        return parsed

    return parse_all


def parse_hidden(value: object) -> tuple[int, ...]:
    """Widths of the hidden layers from "1000,500,100", a list, a number, or "none"."""
    parts = [] if value is None else _parts(value)
    if not parts and not isinstance(value, str):
        return ()
    if len(parts) == 1 and str(parts[0]).lower() in ("none", "[]", "()"):
        return ()
    width = whole("hidden", 1, MAX_WIDTH)
    if len(parts) == 1 and re.fullmatch(r"\d+(\s*[xX×*/;:-]\s*\d+|\s+\d+)+", str(parts[0])):
        widths_typed = ",".join(re.findall(r"\d+", str(parts[0])))
        raise ValueError(f"hidden takes no {_quoted(parts[0])}: write {widths_typed} for the widths of the layers")
    widths = tuple(width(part) for part in parts)
    if not 1 <= len(widths) <= MAX_LAYERS:
        raise ValueError(f"hidden takes 1 to {MAX_LAYERS} layers or 'none', not {len(widths)}")
    return widths


def parse_hidden_layers(value: object) -> tuple[tuple[int, ...], ...]:
    """The hidden layers of one or of several models: what `parse_hidden` takes, or a list with widths of models."""
    if isinstance(value, (list, tuple)) and any(isinstance(part, (list, tuple)) or "," in str(part) for part in value):
        return tuple(parse_hidden(part) for part in value)
    return (parse_hidden(value),)


def parse_seeds(value: object) -> tuple[int, ...]:
    """Seeds from "42", "1,2,3", "0..9" (both ends included), a number or a list."""
    seed = whole("seeds", 0, MAX_SEED)
    seeds: dict[int, None] = {}
    count = 0
    for part in _parts(value):
        if span := re.fullmatch(r"(\d+)\s*(?:-|–|:|to|\.\.\.|…)\s*(\d+)", str(part)):
            raise ValueError(f"seeds takes no {_quoted(part)}: write {span[1]}..{span[2]} for all of them")
        first, dots, last = str(part).partition("..")
        low = seed(first)
        high = seed(last) if dots else low
        if high < low:
            raise ValueError(f"the seed range '{part}' is empty: write the smaller seed first, as {high}..{low}")
        if high - low >= MAX_JOBS:
            raise ValueError(f"the seed range '{part}' is longer than {MAX_JOBS} jobs")
        count += high - low + 1
        if count > MAX_JOBS:
            raise ValueError(f"more than {MAX_JOBS} seeds, which is the limit of jobs in one submission: split it")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    if not seeds:
        raise ValueError("seeds is empty: give at least one, as 42 or 0..9")
    return tuple(seeds)


def parse_zip(value: object) -> tuple[tuple[str, ...], ...]:
    """Groups of keys from "lr,batch_size", a list of keys, or a list of such groups; no key is in two groups."""
    is_one = not isinstance(value, (list, tuple)) or not any(isinstance(part, (list, tuple)) for part in value)
    parts: Iterable[object] = [value] if is_one else value  # type: ignore[assignment]
    groups = [tuple(str(name).strip().replace("-", "_") for name in _parts(part)) for part in parts if part is not None]
    for group in groups:
        if len(group) < 2:
            raise ValueError("zip takes two or more keys whose values advance together, as lr,batch_size")
    for name, count in Counter(name for group in groups for name in group).items():
        if count > 1:
            raise ValueError(f"zip names {_quoted(name)} twice")
    return tuple(groups)


def parse_world_size(value: object) -> int | None:
    """A number of processes, or None for "auto"."""
    if value is None or str(value).strip().lower() == "auto":
        return None
    try:
        return whole("world_size", 1, MAX_WORLD_SIZE)(value)
    except ValueError as error:
        raise ValueError(f"{error}; or auto") from None


def parse_experiment(value: object) -> str:
    """The name of an experiment: printable, 1 to 100 characters."""
    is_text = isinstance(value, (str, int, float)) and not isinstance(value, bool)  # true is not the name "True"
    name = str(value).strip() if is_text else ""
    if not 1 <= len(name) <= 100 or not name.isprintable() or name in (".", ".."):  # browsers resolve these in URLs
        raise ValueError(f"the name of an experiment has 1 to 100 printable characters, not {_quoted(value)}")
    if name == VERIFY:
        raise ValueError(f"'{VERIFY}' is reserved for mlpq verify: give --experiment another name")
    return name


def parse_flag(name: str) -> Callable[[object], bool]:
    """A parser of true and false."""

    def parse(value: object) -> bool:
        word = str(value).strip().lower()
        if word not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, not {_quoted(value)}")
        return word == "true"

    return parse


parse_lr = real("lr", "above 0", lambda x: x > 0)


def parse_optimizers(value: object) -> tuple[dict[str, Any], ...]:
    """Optimizers from "sgd:lr=0.1,momentum=0.9", a mapping {"name": "sgd", "lr": 0.1}, or a list of these."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    if not entries:
        raise ValueError("optimizer is empty: give at least one, as sgd or adam:lr=0.01")
    return tuple(_optimizer_entry(entry) for entry in entries)


def parse_schedules(value: object) -> tuple[dict[str, Any], ...]:
    """Schedules from "step:size=10,gamma=0.1", a mapping {"name": "step", "size": 10}, or a list of these."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    if not entries:
        raise ValueError("schedule is empty: give at least one, as cosine or step:size=10")
    return tuple(_schedule_entry(entry) for entry in entries)


def _schedule_entry(entry: object) -> dict[str, Any]:
    options = _named_options("schedule", CONSTANT if entry is None else entry, "step", "size=10")
    name = options.pop("name")
    return {"name": name, **complete_schedule(name, options)}


def _optimizer_entry(entry: object) -> dict[str, Any]:
    options = _named_options("optimizer", entry, "sgd", "lr=0.1")
    if "lr" in options:
        several("lr", parse_lr)(options["lr"])
    return options


def _named_options(kind: str, entry: object, example: str, setting_example: str) -> dict[str, Any]:
    """The name and the options of "name:option=value,…" or of a mapping, options as they are given."""
    if isinstance(entry, Mapping):
        options = {str(key): value for key, value in entry.items()}
        if "name" not in options:
            key, _, text = setting_example.partition("=")
            article = "an" if kind[0] in "aeiou" else "a"
            shown = f"{{name: {example}, {key}: {text}}}"
            raise ValueError(f"{article} {kind} given as a mapping needs the key 'name', as {shown}")
    else:
        name, _, rest = str(entry).partition(":")
        options = {"name": name.strip()}
        for setting in _parts(rest):
            key, equals, text = str(setting).partition("=")
            if not equals:
                raise ValueError(
                    f"'{setting}' in '{entry}' is not a setting: write option=value, as {example}:{setting_example}"
                )
            if key.strip() in options:
                raise ValueError(f"'{key.strip()}' is given twice in '{entry}'")
            options[key.strip()] = text.strip()
    name = str(options["name"]).lower()
    if "," in name:
        raise ValueError(f"one {kind} per option: {' '.join(f'--{kind} {part}' for part in name.split(','))}")
    return {**options, "name": name}


def _parts(value: object) -> list[object]:
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")] if value.strip() else []
        if "" in parts:
            raise ValueError(f"{_quoted(value)} has a comma with nothing before or after it: remove the comma")
        return list(parts)
    if isinstance(value, (list, tuple)):
        return [part for each in value for part in (_parts(each) if isinstance(each, str) and "," in each else [each])]
    return [value]


def _point_for_comma(value: object) -> str:
    """The advice for a number with a decimal comma; empty for other values."""
    for typed in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(typed, str) and re.fullmatch(r"\s*0,\d+\s*", typed):
            return f"; decimals need a point: {typed.strip().replace(',', '.')}"
    return ""


def _quoted(value: object) -> str:
    text = "null" if value is None else str(value)
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}…'"
