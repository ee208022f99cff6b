"""Reads spec files: YAML or JSON, of which every value is kept as it is typed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mlpq.errors import SpecError
from mlpq.spec.parsing import MAX_JOBS

MAX_BYTES = 4_000_000  # of a file: 100,000 seeds with ten digits each have less than half of that
MAX_VALUES = 2 * MAX_JOBS
MAX_DEPTH = 10  # a spec needs four levels
PYTHONS_PARSER = 100_000  # characters up to which YAML is parsed in Python; in C it is faster, but positions are vague
NULL = ("", "~", "null", "Null", "NULL")
TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")


def read(given: str | os.PathLike[str] | None, stream: IO[bytes] | None = None) -> dict[str, object]:
    """The keys of a YAML or JSON file, or of a stream of that name; a file's experiment defaults to its name.

    Values are text, null, lists or mappings; in JSON also true and false. Raises SpecError with one line, which names
    the position where it can.
    """
    if given is None:
        return {}
    file = os.fspath(given)
    text = _text(file, stream)
    document = _from_json(file, text) if file.endswith(".json") else _from_yaml(file, text)
    if not isinstance(document, dict):
        raise SpecError(f"{file} must contain keys and values, as 'optimizer: [sgd, adam]'")
    name = {"experiment": Path(file).stem} if stream is None else {}
    return {**name, **document}


def _text(file: str, stream: IO[bytes] | None) -> str:
    """The content of a file or stream, of which no more than MAX_BYTES are read: it may be endless, as /dev/zero."""
    try:
        with open(file, "rb") if stream is None else nullcontext(stream) as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"can't read {file}: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise SpecError(f"{file} is no spec file: it is larger than {MAX_BYTES // 10**6} MB; write seeds as 0..99999")
    try:
        return raw.decode("utf-8-sig")  # Windows programs begin files with a byte order mark
    except UnicodeDecodeError:
        raise SpecError(f"{file} is not text: a spec file is YAML or JSON in UTF-8") from None


def _from_json(file: str, text: str) -> object:
    """The document; numbers are text, so that 1.10 is not 1.1."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise SpecError(f"{file}: '{key}' is given twice")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SpecError(f"{file} {place} is not valid JSON: {error.msg}") from None
    except RecursionError:
        raise SpecError(f"{file} is no spec file: its lists are nested too deeply") from None


def _from_yaml(file: str, text: str) -> object:
    import yaml

    in_python = len(text) <= PYTHONS_PARSER or not yaml.__with_libyaml__
    try:
        return _document(yaml.parse(text, Loader=yaml.BaseLoader if in_python else yaml.CBaseLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{file}{place} is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise SpecError(f"{file} is no spec file: its lists are nested too deeply") from None


@dataclass
class _Mapping:
    """A mapping whose last key may still lack its value."""

    entries: dict[str, object] = field(default_factory=dict)
    key: str | None = None


def _document(events: Iterable[Any]) -> object:
    """The only document of a stream of YAML events.

    Neither YAML's implicit types (1.10, 010, no, 2024_01_15, 1:30) nor its tags apply: a scalar is the text that was
    typed, except that a plain null is None. Aliases are rejected: a few of them expand to gigabytes. Raises YAMLError.
    """
    import yaml

    root: list[object] = []
    open_: list[list[object] | _Mapping] = [root]
    for count, event in enumerate(events):
        if isinstance(event, yaml.AliasEvent):
            raise _problem(f"the alias *{event.anchor} is not supported: write its value out", event)
        if isinstance(event, yaml.DocumentStartEvent) and root:
            raise _problem("there is a second document: submit each in a file of its own", event)
        if isinstance(event, yaml.ScalarEvent):
            _add(open_[-1], event, _scalar(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.tag is not None:
                raise _problem(f"the tag {event.tag} is not supported: remove it", event)
            if len(open_) > MAX_DEPTH:
                raise _problem(f"a spec has no more than {MAX_DEPTH} levels", event)
            new: list[object] | _Mapping = _Mapping() if isinstance(event, yaml.MappingStartEvent) else []
            _add(open_[-1], event, new.entries if isinstance(new, _Mapping) else new)
            open_.append(new)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
        if count > MAX_VALUES:
            raise _problem(f"more than {MAX_VALUES} values; write seeds as 0..99999", event)
    return root[0] if root else None


def _scalar(event: Any) -> str | None:
    if event.tag not in TEXT_TAGS:
        raise _problem(f"the tag {event.tag} is not supported: write the value without it", event)
    is_plain = event.implicit[0] and event.tag is None
    return None if is_plain and event.value in NULL else str(event.value)


def _add(container: list[object] | _Mapping, event: Any, value: object) -> None:
    """Append a value to a list; in a mapping it is a key or the value of the last key."""
    import yaml

    if isinstance(container, list):
        container.append(value)
    elif container.key is not None:
        container.entries[container.key] = value
        container.key = None
    else:
        if not isinstance(event, yaml.ScalarEvent):
            raise _problem("a key must be text; render templates such as {{ name }} first, or quote them", event)
        if event.value in container.entries:
            raise _problem(f"'{event.value}' is given twice", event)
        container.key = event.value


def _problem(text: str, event: Any) -> Exception:
    import yaml

    return yaml.MarkedYAMLError(None, None, text, event.start_mark)
