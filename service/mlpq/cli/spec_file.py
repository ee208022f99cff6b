"""Reads the FILE of `mlpq submit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlpq.errors import SpecError


def read(file: str | None) -> dict[str, object]:
    """The keys of a YAML or JSON file ("-" is standard input); the experiment defaults to the name of the file.

    Raises SpecError with one line that names the position.
    """
    if file is None:
        return {}
    import yaml

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        document = json.loads(text) if file.endswith(".json") else yaml.load(text, _loader())
    except OSError as error:
        raise SpecError(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{file} is not text: a spec file is YAML or JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SpecError(f"{file} {place} is not valid JSON: {error.msg}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{file}{place} is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{file} contains an invalid value: {error}") from None
    if not isinstance(document, dict):
        raise SpecError(f"{file} must contain keys and values, as 'optimizer: [sgd, adam]'")
    name = {"experiment": Path(file).stem} if file != "-" else {}
    return {**name, **{str(key): value for key, value in document.items()}}


def _loader() -> Any:
    """YAML's safe loader, with an error for duplicate keys, of which it silently keeps the last."""
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return UniqueKeys
