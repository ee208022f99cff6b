"""A chart that shows itself in a notebook, and can be saved. Altair is loaded when one is drawn: it takes a while."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpq.errors import MlpqError
from mlpq.lab.files import write

if TYPE_CHECKING:
    from mlpq.report.drawing import Chart, Style

SUFFIXES = (".pdf", ".svg", ".png", ".html")


class Picture:
    """A chart of a comparison.

    Notebooks show it without a network. `chart` is the Altair chart, which can be changed and combined.
    """

    def __init__(self, chart: Chart, title: str, style: Style) -> None:
        self.chart = chart
        self.title = title
        self._style = style

    def save(self, file: str | PathLike[str]) -> Path:
        """Write the chart to a .pdf, .svg, .png or .html file; returns its path. Raises MlpqError."""
        from mlpq.report.drawing import PAGE, picture, printed

        path = Path(file)
        if path.suffix not in SUFFIXES:
            names = " or ".join(f"NAME{suffix}" for suffix in SUFFIXES)
            raise MlpqError(f"the suffix of '{file}' is not a supported format: name the file {names}")
        if self._style is PAGE or path.suffix == ".html":
            return write(path, picture([self.chart], path.suffix, self.title))
        return write(path, printed(self.chart, path.suffix, self._style))

    def __repr__(self) -> str:
        return f"<Picture: {self.title}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        from mlpq.report.drawing import png_and_size, specification

        content, width, height = png_and_size(self.chart, self._style)
        found = specification(self.chart, self._style)
        data = {
            "text/plain": repr(self),
            "image/png": content,
            f"application/vnd.vegalite.v{_version(found)}+json": found,
        }
        return data, {"image/png": {"width": width, "height": height}}


def _version(found: dict[str, Any]) -> str:
    """The major version of Vega-Lite, "6"."""
    return str(found["$schema"]).rpartition("/v")[2].partition(".")[0]
