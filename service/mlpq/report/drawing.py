"""The look of charts, and their files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import altair
import vl_convert
from altair.utils import schemapi

from mlpq.report.chart_text import text_width, wrapped

schemapi.DEBUG_MODE = False  # validating each point against the schema of Vega-Lite takes most of the time

Chart = Any  # altair's chart classes have no common type

# Okabe and Ito's colors, which color-blind people can distinguish, without yellow, which is too light for lines.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ([1, 0], [6, 3], [2, 2])
# In print neighbors differ in their dashes too: a copy may be without colors.
PRINT_DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 1])
LOOKS = len(COLORS) * len(DASHES)  # lines of a chart that can be told apart
PNG_SCALE = 2  # pixels of a PNG per pixel of the chart, for dense screens
PRINT_DPI, POINTS_PER_INCH = 300, 72
AXIS_ROOM = 5.5  # left of the data, in sizes of the labels
LEADING = 1.25  # from one line of text to the next, in sizes of its font
PAGE_FILE = """<!doctype html>
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


@dataclass(frozen=True, slots=True)
class Style:
    """The size and the type of a chart, in pixels of a page, or in points on paper and slides.

    `width` is that of the data or, where the chart `fits`, of all with axes and legend. `height` is that of the data
    in most charts. The sizes of type are those of `labels` and the legend, of the `axes`' titles, of the `caption` and
    of the `title`; 0 for a chart without a title, whose caption is below it. `line` is the width of lines. In print
    neighbors differ by more than their colors.
    """

    width: float
    height: float
    labels: float = 11
    axes: float = 12
    caption: float = 11
    title: float = 14
    line: float = 2
    padding: float = 8
    fits: bool = True
    is_print: bool = False

    @property
    def label_room(self) -> float:
        """How wide labels at the left of a chart may be."""
        return 0.42 * self.width if self.fits else 330

    @property
    def text_share(self) -> float:
        """How much of the width text may take, by the widths of Arial: a browser may show a wider font."""
        return 1.0 if self.is_print else 0.88 if self.fits else 1.05

    def step(self, lines: int) -> Any:
        """The height of a row whose label has as many lines."""
        return altair.Step(round((lines * LEADING + 0.9) * self.labels, 1))


PAGE = Style(width=560, height=220, fits=False)  # a column of text
PHONE = Style(width=330, height=210, labels=12, axes=12, caption=12, padding=2)


def paper(inches: float) -> Style:
    """A figure of an article, whose type is of 7 to 8 points at any width."""
    width = round(POINTS_PER_INCH * inches, 2)
    height = max(96, min(0.5 * width, 240))
    return Style(width, height, 8, 8, 7, 0, line=1.1, padding=1, is_print=True)


def slides(inches: float) -> Style:
    """A slide, with type of 18 points and more."""
    width = round(POINTS_PER_INCH * inches, 2)
    return Style(width, min(0.42 * width, 320), 18, 20, 18, 26, line=3.5, padding=4)


def picture(drawn: Sequence[Chart], suffix: str, title: str) -> bytes:
    """The charts of a page below each other, as the bytes of a file with that suffix: .png, .svg, .pdf or .html."""
    whole = altair.vconcat(*drawn, spacing=28).resolve_scale(color="independent", strokeDash="independent")
    if suffix == ".png":
        return bytes(vl_convert.vegalite_to_png(specification(whole, PAGE), scale=PNG_SCALE))
    if suffix == ".pdf":
        return bytes(vl_convert.vegalite_to_pdf(specification(whole, PAGE)))
    text = svg(whole) if suffix == ".svg" else PAGE_FILE.format(title=escape(title), body=svg(whole))
    return text.encode()


def printed(chart: Chart, suffix: str, style: Style) -> bytes:
    """A chart on paper or a slide, as wide as its style says, as the bytes of a file: .pdf, .svg or .png."""
    found = specification(chart, style)
    if suffix == ".pdf":
        return bytes(vl_convert.vegalite_to_pdf(found))
    if suffix == ".png":
        return bytes(vl_convert.vegalite_to_png(found, ppi=PRINT_DPI))
    text = str(vl_convert.vegalite_to_svg(found))
    return re.sub(
        r'(<svg[^>]*?) width="([\d.]+)" height="([\d.]+)"', r'\1 width="\2pt" height="\3pt"', text, count=1
    ).encode()


def svg(chart: Chart, room: int = 0, style: Style = PAGE) -> str:
    """The chart as an SVG element, with `room` more pixels at the left, for labels in a font wider than Arial."""
    found = specification(chart, style)
    sides = {"left": style.padding + room, "right": style.padding, "top": style.padding, "bottom": style.padding}
    found["config"]["padding"] = sides
    return str(vl_convert.vegalite_to_svg(found))


def for_page(draw: Callable[[Style], Sequence[Chart]]) -> list[str]:
    """The charts that `draw` returns for a style as HTML: each for a page and for a phone, of which CSS shows one.

    The identifiers in both differ, since they are in one document.
    """
    found = []
    for number, (page, phone) in enumerate(zip(draw(PAGE), draw(PHONE), strict=True)):
        both = (("on-page", svg(page)), ("on-phone", svg(phone, style=PHONE)))
        found.append("".join(f'<div class="{name}">{_distinct(each, f"{name}-{number}")}</div>' for name, each in both))
    return found


def _distinct(drawn: str, prefix: str) -> str:
    """The SVG with other identifiers than all other charts of a document."""
    return re.sub(r'(\bid="|url\(#)', rf"\g<1>{prefix}-", drawn)


def colors(labels: Sequence[str], among: Sequence[str] = (), style: Style = PAGE) -> tuple[Any, Any]:
    """The color and dash channels for these labels.

    A label has the color and the order of its place in `among`, where that has all of them, so that charts agree;
    dashes distinguish labels whose colors repeat.
    """
    known = list(among if set(labels) <= set(among) else labels)
    ordered = sorted(labels, key=known.index)
    places = [known.index(label) for label in ordered]
    legend = _legend(ordered, style)
    dashes = PRINT_DASHES if style.is_print else DASHES
    strides = [place if style.is_print else place // len(COLORS) for place in places]
    return tuple(
        channel("arm:N", title=None, scale=altair.Scale(domain=ordered, range=looks), legend=legend)
        for channel, looks in (
            (altair.Color, [COLORS[i % len(COLORS)] for i in places]),
            (altair.StrokeDash, [dashes[i % len(dashes)] for i in strides]),
        )
    )  # type: ignore[return-value]


def _legend(labels: Sequence[str], style: Style) -> Any:
    """A legend below the chart, in as many columns as fit; labels that are wider than the chart take several lines."""
    symbol = 1.75 * style.labels
    around = symbol + 1.5 * style.labels
    # The legend begins where the data does.
    width = style.text_share * (style.width - (AXIS_ROOM * style.labels if style.fits else 0))
    room = width - around
    lines = {label: wrapped(label, room, style.labels) for label in labels}
    widest = max(text_width(line, style.labels) for label in labels for line in lines[label])
    columns = max(1, min(len(labels), 4, int(width / (widest + around))))
    return altair.Legend(
        orient="bottom", offset=0.7 * style.labels, columns=columns, labelLimit=0, symbolType="stroke",
        symbolStrokeWidth=style.line, symbolSize=symbol**2, symbolOpacity=1, columnPadding=style.labels,
        rowPadding=0, labelExpr=label_lines(lines),
    )  # fmt: skip


def label_lines(lines: Mapping[str, Sequence[str]]) -> str:
    """The expression of Vega that has for each label its lines."""
    return f"({json.dumps(lines)})[datum.label]"


def titled(layers: Chart, title: str, caption: str, height: Any, style: Style = PAGE, key: Sequence[str] = ()) -> Chart:
    """The chart with a title and a caption, which says what is drawn and n; `key` are further lines of the caption."""
    room = style.text_share * style.width
    texts = [text.replace("n = ", "n\0=\0").replace(" %", "\0%") for text in (caption, *key)]
    lines = [line.replace("\0", " ") for text in texts for line in wrapped(text, room, style.caption)]
    common: dict[str, Any] = {"anchor": "start", "frame": "bounds" if style.fits else "group"}
    if style.title:
        about = altair.TitleParams(
            title if not style.fits else wrapped(title, room, 1.1 * style.title), subtitle=lines,
            fontSize=style.title, subtitleFontSize=style.caption, subtitleColor="#555", **common,
        )  # fmt: skip
    else:
        about = altair.TitleParams(
            lines, orient="bottom", fontSize=style.caption, fontWeight="normal", lineHeight=LEADING * style.caption,
            offset=0.5 * style.caption, **common,
        )  # fmt: skip
    return layers.properties(title=about, width=style.width, height=height)


def strip(last: float, count: int) -> list[float]:
    """Where bars are drawn, one for each of `count` arms, to the right of what ends at `last`."""
    step = last * min(0.035, 0.3 / count)
    return [last + step * at for at in range(1, count + 1)]


def even_ticks(last: int) -> list[int]:
    """About six round numbers up to `last`, or all from 1."""
    if last <= 6:
        return list(range(1, last + 1))
    step = next(step for step in (each * 10**power for power in range(9) for each in (1, 2, 5)) if last / step <= 6)
    return list(range(step, last + 1, step))


def n_of(counts: Sequence[int]) -> str:
    """ "n = 10", or "n = 8 to 10"."""
    least, most = min(counts), max(counts)
    return f"n = {least}" if least == most else f"n = {least} to {most}"


def png_and_size(chart: Chart, style: Style) -> tuple[bytes, int, int]:
    """The chart as a PNG for dense screens, and the width and height in pixels in which it should be shown."""
    content = bytes(vl_convert.vegalite_to_png(specification(chart, style), scale=PNG_SCALE))
    width, height = struct.unpack(">II", content[16:24])  # of the first chunk
    return content, width // PNG_SCALE, height // PNG_SCALE


def specification(chart: Chart, style: Style = PAGE) -> dict[str, Any]:
    """The chart as Vega-Lite, with the look of all charts."""
    fit = {"autosize": {"type": "fit-x", "contains": "padding"}} if style.fits else {}
    config = {
        "background": "white",
        "font": "Arial, Liberation Sans, Helvetica, sans-serif",  # equally wide, so that text keeps its place elsewhere
        "padding": style.padding,
        "view": {"strokeWidth": 0},
        "axis": {
            "gridColor": "#e5e5e5",
            "labelFontSize": style.labels,
            "labelLimit": 0,
            "titleFontSize": style.axes,
            "titleFontWeight": "normal",
        },
        "axisX": {"labelOverlap": True, "tickCount": max(3, round(style.width / (5 * style.labels)))},
        "legend": {"labelFontSize": style.labels},
        "line": {"strokeWidth": style.line},
        "rule": {"strokeWidth": 0.75 * style.line},
        "point": {"size": 15 * style.line},
    }
    return {**chart.to_dict(validate=False), **fit, "config": config}
