"""The look of charts, and their files."""

from __future__ import annotations

import struct
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import altair
import vl_convert
from altair.utils import schemapi

schemapi.DEBUG_MODE = False  # validating each point against the schema of Vega-Lite takes most of the time

Chart = Any  # altair's chart classes have no common type

PADDING = 8  # pixels
WIDTH = 560  # pixels, a column of text
# Okabe and Ito's colors, which color-blind people can distinguish, without yellow, which is too light for lines.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ([1, 0], [6, 3], [2, 2])
LOOKS = len(COLORS) * len(DASHES)  # lines of a chart that can be told apart
PNG_SCALE = 2  # pixels of a PNG per pixel of the chart, for dense screens
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ background: #fff; margin: 1rem auto; max-width: 46rem }}
svg {{ height: auto; max-width: 100%; overflow: visible }}
</style>
{body}
</html>
"""


def picture(drawn: Sequence[Chart], suffix: str, title: str) -> bytes:
    """The charts below each other, as the bytes of a file with that suffix: .png, .svg or .html."""
    whole = altair.vconcat(*drawn, spacing=28).resolve_scale(color="independent", strokeDash="independent")
    if suffix == ".png":
        return bytes(vl_convert.vegalite_to_png(specification(whole), scale=PNG_SCALE))
    text = svg(whole) if suffix == ".svg" else PAGE.format(title=escape(title), body=svg(whole))
    return text.encode()


def svg(chart: Chart, room: int = 0) -> str:
    """The chart as an SVG element, with `room` more pixels at the left, for labels in a font wider than Arial."""
    found = specification(chart)
    found["config"]["padding"] = {"left": PADDING + room, "right": PADDING, "top": PADDING, "bottom": PADDING}
    return str(vl_convert.vegalite_to_svg(found))


def colors(labels: Sequence[str], among: Sequence[str] = ()) -> tuple[Any, Any]:
    """The color and dash channels for these labels.

    A label has the color of its place in `among`, where that has all of them, so that charts agree; dashes distinguish
    labels whose colors repeat.
    """
    known = among if set(labels) <= set(among) else labels
    places = [list(known).index(label) for label in labels]
    legend = altair.Legend(
        orient="bottom", offset=8, columns=3 if max(map(len, labels)) < 24 else 2, labelLimit=WIDTH,
        symbolType="stroke", symbolStrokeWidth=2, symbolOpacity=1,
    )  # fmt: skip
    return tuple(
        channel("arm:N", title=None, scale=altair.Scale(domain=list(labels), range=looks), legend=legend)
        for channel, looks in (
            (altair.Color, [COLORS[i % len(COLORS)] for i in places]),
            (altair.StrokeDash, [DASHES[i // len(COLORS) % len(DASHES)] for i in places]),
        )
    )  # type: ignore[return-value]


def titled(layers: Chart, title: str, caption: str, height: Any) -> Chart:
    """The chart with a title and a caption, which says what is drawn and n."""
    about = altair.TitleParams(
        title, subtitle=textwrap.wrap(caption, 92), anchor="start", frame="group", fontSize=14, subtitleColor="#555"
    )
    return layers.properties(title=about, width=WIDTH, height=height)


def n_of(counts: Sequence[int]) -> str:
    """ "n = 10", or "n = 8 to 10"."""
    least, most = min(counts), max(counts)
    return f"n = {least}" if least == most else f"n = {least} to {most}"


def png_and_size(chart: Chart) -> tuple[bytes, int, int]:
    """The chart as a PNG for dense screens, and the width and height in pixels in which it should be shown."""
    content = bytes(vl_convert.vegalite_to_png(specification(chart), scale=PNG_SCALE))
    width, height = struct.unpack(">II", content[16:24])  # of the first chunk
    return content, width // PNG_SCALE, height // PNG_SCALE


def specification(chart: Chart) -> dict[str, Any]:
    """The chart as Vega-Lite, with the look of all charts."""
    config = {
        "background": "white",
        "font": "Arial, Liberation Sans, Helvetica, sans-serif",  # equally wide, so that text keeps its place elsewhere
        "padding": PADDING,
        "view": {"strokeWidth": 0},
        "axis": {"gridColor": "#e5e5e5", "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"},
    }
    return {**chart.to_dict(validate=False), "config": config}
