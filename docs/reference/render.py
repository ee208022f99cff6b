"""Write python.md, the reference of the Python interface, from its docstrings.

    .venv/bin/python docs/reference/render.py

A test fails where the page differs from what this script writes.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import mlpq
from mlpq.lab.keys import ComparisonKeys, DataOptions, LabSettings

PAGE = Path(__file__).with_name("python.md")
WIDTH = 120
BEGINNING = """\
# The Python interface

`mlpq.Lab` does in Python what the commands do: in scripts, in Jupyter and in programs with a running event loop. What
it returns shows itself in a notebook, and prints as the commands print it. Tables are pandas DataFrames, which need
`pip install 'mlpq[notebook]'`; missing figures are NaN or `pd.NA`, and times are in UTC. `import mlpq` takes
milliseconds: it loads no more until `mlpq.Lab` is used. This page is made from the docstrings, and the
[tutorial in a notebook](../tutorial/optimizers.ipynb) shows the interface at work.

```python
import mlpq

lab = mlpq.Lab()
run = lab.submit(experiment="sweep", dataset="digits", optimizer=["sgd", "adam"], lr=[0.1, 0.01], seeds=range(8))
run.wait()
print(lab.compare("sweep").verdict)
```
"""
CLASSES = (
    "Lab", "Run", "Job", "Comparison", "ProblemsComparison", "Picture", "ErrorAnalysis", "Plan", "Decision",
    "Verifications", "DataSet",
)  # fmt: skip
KEYS = {
    "SweepKeys": "[keys of a spec file](spec-file.md)",
    "ComparisonKeys": "[options of a comparison](#options-of-a-comparison)",
    "DataOptions": "[options of a data set](#options-of-a-data-set)",
    "LabSettings": "[settings](#settings)",
}


def page() -> str:
    """The text of the page."""
    parts = [BEGINNING]
    for name in CLASSES:
        parts += _class(getattr(mlpq, name))
    parts += [*_keys("Options of a comparison", ComparisonKeys), *_keys("Options of a data set", DataOptions)]
    parts += [*_keys("Settings", LabSettings), *_errors()]
    return "\n".join(parts)


def _class(found: type) -> Iterator[str]:
    yield f"## `mlpq.{found.__name__}`\n"
    if found.__name__ == "Lab":
        yield f"`Lab{_signature(found.__init__)}`\n"  # type: ignore[misc]
    yield _described(found)
    for name, member in vars(found).items():
        if name.startswith("_"):
            continue
        yield f"### `{found.__name__}.{name}`\n"
        if isinstance(member, property | cached_property):
            getter = member.fget if isinstance(member, property) else member.func
            yield f"`{name}: {inspect.signature(getter).return_annotation}`, a property\n"  # type: ignore[arg-type]
            yield _described(getter)
        else:
            yield f"`{name}{_signature(member)}`\n"
            yield _described(member)


def _signature(function: Callable[..., Any]) -> str:
    """The parameters without self, and what is returned, as they are written in the source."""
    signature = inspect.signature(function)
    parameters = [each for name, each in signature.parameters.items() if name != "self"]
    shown = str(signature.replace(parameters=parameters))
    shown = re.sub(r"(: |-> )'([^']*)'", r"\1\2", shown)
    return re.sub(r": Unpack\[\w+\]| -> None$", "", shown)


def _described(documented: Any) -> str:
    """The docstring in lines of WIDTH, and what the keyword arguments are."""
    paragraphs = inspect.cleandoc(documented.__doc__).split("\n\n")
    function = documented.__init__ if isinstance(documented, type) else documented
    found = re.findall(r"Unpack\[(\w+)\]", str(inspect.signature(function)))
    paragraphs += [f"The other arguments are the {KEYS[name]}." for name in found]
    return "\n\n".join(_filled(each) for each in paragraphs) + "\n"


def _keys(title: str, found: Any) -> Iterator[str]:
    """A table of the keys of a TypedDict."""
    yield f"## {title}\n"
    yield _filled(inspect.cleandoc(found.__doc__)) + "\n"
    yield "| argument | type |"
    yield "|---|---|"
    for name, kind in found.__annotations__.items():
        yield f"| `{name}` | `{_type(kind)}` |"
    yield ""


def _type(kind: Any) -> str:
    named = {"Texts": "str | Iterable[str]", "Numbers": "float | str | Iterable[float | str]"}
    written = str(getattr(kind, "__forward_arg__", kind))
    return named.get(written, written).replace("|", "\\|")


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield "| exception | meaning |"
    yield "|---|---|"
    for name in mlpq.__all__:
        found = getattr(mlpq, name)
        if isinstance(found, type) and issubclass(found, Exception):
            yield f"| `mlpq.{name}` | {inspect.cleandoc(str(found.__doc__))} |"
    yield ""


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page())
