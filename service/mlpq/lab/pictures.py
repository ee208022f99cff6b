"""A chart that shows itself in a notebook, and can be saved. Altair is loaded when one is drawn: it takes a while."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpq.errors import MlpqError
from mlpq.lab.files import write

if TYPE_CHECKING:
    from mlpq.report.drawing import Chart

SUFFIXES = (".png", ".svg", ".html")


class Picture:
    """A chart of a comparison or of a run.

    Notebooks show it without a network. `chart` is the Altair chart, which can be changed and combined.
    """

    def __init__(self, chart: Chart, title: str) -> None:
        self.chart = chart
        self.title = title

    def save(self, file: str | PathLike[str]) -> Path:
        """Write the chart to a .png, .svg or .html file; returns its path. Raises MlpqError."""
        from mlpq.report.drawing import picture

        path = Path(file)
        if path.suffix not in SUFFIXES:
            raise MlpqError(f"the suffix of '{file}' is not a supported format: name the file {' or '.join(_names())}")
        return write(path, picture([self.chart], path.suffix, self.title))

    def __repr__(self) -> str:
        return f"<Picture: {self.title}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        from mlpq.report.drawing import png_and_size, specification

        content, width, height = png_and_size(self.chart)
        found = specification(self.chart)
        data = {
            "text/plain": repr(self),
            "image/png": content,
            f"application/vnd.vegalite.v{_version(found)}+json": found,
        }
        return data, {"image/png": {"width": width, "height": height}}


def _names() -> list[str]:
    return [f"NAME{suffix}" for suffix in SUFFIXES]


def _version(found: dict[str, Any]) -> str:
    """The major version of Vega-Lite, "6"."""
    return str(found["$schema"]).rpartition("/v")[2].partition(".")[0]
