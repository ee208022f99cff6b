"""One chart of a comparison as a file, for an article or a slide, as wide as it is printed."""

from __future__ import annotations

import re

from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.errors import NotFoundError, SpecError, nearest
from mlpq.report.charts import named_chart
from mlpq.report.drawing import Chart, Style, paper, printed, slides
from mlpq.report.race_chart import race_chart

CHARTS = ("curves", "differences", "rates", "best-of-k", "race")
SUFFIXES = (".pdf", ".svg", ".png")
STYLES = {"paper": (paper, 3.35), "slides": (slides, 10.0)}  # and how wide they are by default, in inches
LEAST_INCHES, MOST_INCHES = 1.5, 40.0
_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # TeX's points
_NAMES = {"best-of-k": "tuning"}  # of charts on pages
_NEEDS = {
    "curves": "no job has finished an epoch",
    "differences": "no two arms have two common seeds",
    "rates": "no optimizer has several learning rates",
    "best-of-k": "no optimizer has several settings with a validation split",
    "race": "no question is registered, or its first look is to come: mlpq decide",
}


def style_of(name: str = "paper", width: str | None = None) -> Style:
    """The style of that name, `width` wide, as "3.35in", "8.5cm", "85mm" or "242pt"; raises SpecError."""
    if name not in STYLES:
        raise SpecError(f"unknown style '{name}'{nearest(name, STYLES)}")
    make, inches = STYLES[name]
    return make(inches if width is None else _parsed(width))


def check_chart(name: str) -> None:
    """Raise SpecError unless that is one of the CHARTS."""
    if name not in CHARTS:
        raise SpecError(f"unknown chart '{name}'{nearest(name, CHARTS)}")


def figure(compared: ExperimentComparison, chart: str, style: Style) -> Chart:
    """The chart of that name in CHARTS, of the question that was registered last if it is the race.

    `compared` has the curves. Raises SpecError for another name, and NotFoundError where there is nothing to draw.
    """
    check_chart(chart)
    if chart == "race":
        labels = [side.label for side in compared.comparison.sides]
        drawn = [found for state in compared.questions if (found := race_chart(state, labels, style)) is not None]
        found = drawn[-1] if drawn else None
    else:
        found = named_chart(compared, _NAMES.get(chart, chart), style)
    if found is None:
        raise NotFoundError(f"there is no chart {chart} of {compared.experiment}: {_NEEDS[chart]}")
    return found


def figure_file(compared: ExperimentComparison, chart: str, suffix: str, style: Style) -> bytes:
    """The same as the bytes of a file with one of the SUFFIXES, in black on white; raises SpecError, NotFoundError."""
    if suffix not in SUFFIXES:
        raise SpecError(f"'{suffix}' is not a format of one chart: {', '.join(SUFFIXES)}")
    return printed(figure(compared, chart, style), suffix, style)


def _parsed(width: str) -> float:
    """A width in inches."""
    found = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,6})?)\s*(in|cm|mm|pt)\s*", width)
    if found is None:
        raise SpecError(f"the width '{width}' is not a length: give a number and in, cm, mm or pt, as 3.35in")
    inches = float(found[1]) * _INCHES[found[2]]
    if not LEAST_INCHES <= inches <= MOST_INCHES:
        raise SpecError(f"the width {width} is not between {LEAST_INCHES:g} and {MOST_INCHES:g} inches")
    return inches
