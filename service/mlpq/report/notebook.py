"""What objects of the Python interface show in a notebook: HTML without scripts, styles and links to other files.

So it looks the same in a running notebook, in one that is not trusted, and where notebooks are only displayed.
"""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from mlpq.report import tables
from mlpq.report.tables import Cells
from mlpq.text import printable_value

if TYPE_CHECKING:
    from mlpq.report.drawing import Chart

ROOM = 40  # pixels at the left of charts: images are cut where labels are in a font wider than Arial
TEXT_WIDTH = 100  # columns of the text of an object, where the terminal is not narrower


@dataclass(frozen=True, slots=True)
class Output:
    """What is shown of an object, from the top to the bottom; `folded` are tables that can be opened.

    The first of the `verdicts` is shown in bold; `charts` are by their alternative texts.
    """

    title: str
    verdicts: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Sequence[tuple[str, Cells]] = ()
    charts: Sequence[tuple[str, Chart]] = ()
    folded: Sequence[tuple[str, Cells]] = ()
    below: str = ""


def html(output: Output) -> str:
    """The HTML of an object."""
    loader = PackageLoader("mlpq.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, finalize=printable_value)
    images = [(title, _image(chart)) for title, chart in output.charts]
    return environment.get_template("notebook.html").render(output=output, images=images)


def text(print_: Callable[[Console], None]) -> str:
    """What `print_` prints, without a line break at its end."""
    file = io.StringIO()
    width = min(TEXT_WIDTH, shutil.get_terminal_size((TEXT_WIDTH, 24)).columns)
    # Without escape sequences, whatever FORCE_COLOR says, which Jupyter sets for its kernels.
    options: dict[str, Any] = {"force_terminal": False, "force_jupyter": False, "highlight": False, "emoji": False}
    print_(tables.PrintableConsole(file=file, width=width, **options))
    return file.getvalue().rstrip("\n")


def _image(chart: Chart) -> str:
    """The address of an image, which holds the whole image."""
    from mlpq.report.drawing import svg  # Altair takes a while to load

    return "data:image/svg+xml;base64," + base64.b64encode(svg(chart, ROOM).encode()).decode()
