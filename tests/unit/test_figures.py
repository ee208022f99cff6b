"""One chart a file: as wide as it is printed, with type of 7 to 9 points, and nothing cut or outside of it."""

from __future__ import annotations

import io
import itertools
import re
import xml.etree.ElementTree as ET
from functools import cache

import pytest
from PIL import Image

from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.errors import NotFoundError, SpecError
from mlpq.report.charts import named_charts
from mlpq.report.drawing import COLORS, PHONE, PRINT_DASHES, svg
from mlpq.report.figures import CHARTS, figure, figure_file, style_of
from tests.support.charted_arms import charted

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"
WIDTH = 3.35 * 72  # points
SHAPES = ((2, False), (8, False), (20, False), (8, True))  # arms, and whether their names are long


@cache
def experiment(arms: int, has_long_names: bool, chart: str) -> ExperimentComparison:
    if chart in ("rates", "best-of-k"):
        return charted(2 * min(arms, 10), 3, has_long_names, "optimizer,momentum", rates=2)
    return charted(arms, 8, has_long_names)


def texts(drawn: str) -> list[tuple[str, float]]:
    """Each text of a drawing with the size of its type."""
    found = []
    for element in ET.fromstring(drawn).iter(f"{SVG}text"):
        size = re.search(r"([\d.]+)px", element.get("font-size", "") or element.get("style", ""))
        lines = ["".join(span.itertext()) for span in element.iter(f"{SVG}tspan")] or ["".join(element.itertext())]
        found += [(line, float(size[1]) if size else 0.0) for line in lines]
    return found


def ink(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("L")


def is_white(image: Image.Image, box: tuple[int, int, int, int]) -> bool:
    return image.crop(box).getextrema()[0] > 250  # type: ignore[operator]


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize(("arms", "has_long_names"), SHAPES)
def test_a_chart_is_as_wide_as_asked_with_legible_type_and_all_names(
    chart: str, arms: int, has_long_names: bool
) -> None:
    compared = experiment(arms, has_long_names, chart)
    drawn = figure_file(compared, chart, ".svg", style_of("paper", "3.35in")).decode()
    assert re.search(r'<svg[^>]* width="241.2pt"', drawn)
    found = texts(drawn)
    assert found
    assert all(7 <= size <= 9 for text, size in found if text.strip()), found
    assert "…" not in "".join(text for text, _ in found)
    whole = "".join("".join(text.split()) for text, _ in found)
    if chart in ("curves", "differences", "race"):
        for side in compared.comparison.sides:
            assert "".join(side.label.split()) in whole
    assert "n=" in whole
    image = ink(figure_file(compared, chart, ".png", style_of("paper", "3.35in")))
    assert abs(image.width - 1005) <= 1
    # Type that is cut at an edge leaves ink in the last column of pixels; the axes' lines end before it.
    assert is_white(image, (0, 0, 1, image.height))
    assert is_white(image, (image.width - 1, 0, image.width, image.height))


def test_a_pdf_is_as_wide_as_asked() -> None:
    content = figure_file(charted(2, 3), "curves", ".pdf", style_of("paper", "8.5cm"))
    box = re.search(rb"MediaBox \[0 0 ([\d.]+)", content)
    assert box is not None
    assert float(box[1]) == pytest.approx(8.5 / 2.54 * 72, abs=0.1)


def test_slides_have_large_type() -> None:
    drawn = figure_file(charted(2, 3), "curves", ".svg", style_of("slides")).decode()
    assert 'width="720pt"' in drawn
    assert min(size for text, size in texts(drawn) if text.strip()) >= 18


def _looks(chart: object) -> dict[str, tuple[str, str]]:
    """The color and the dashes of each arm in the scales of a chart."""
    found: dict[str, dict[str, object]] = {"color": {}, "strokeDash": {}}

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for channel, looks in found.items():
                scale = node.get(channel, {}).get("scale") if isinstance(node.get(channel), dict) else None
                if scale:
                    looks.update(zip(scale["domain"], map(str, scale["range"]), strict=True))
            for each in node.values():
                walk(each)
        if isinstance(node, list):
            for each in node:
                walk(each)

    walk(chart.to_dict(validate=False))  # type: ignore[attr-defined]
    return {arm: (str(found["color"][arm]), str(found["strokeDash"][arm])) for arm in found["color"]}


def test_arms_have_the_same_colors_and_order_in_every_chart() -> None:
    compared = charted(8, 8)
    curves = _looks(figure(compared, "curves", style_of()))
    race = _looks(figure(compared, "race", style_of()))
    assert list(curves) == [side.label for side in compared.comparison.sides]
    assert race == {arm: curves[arm] for arm in race}
    assert [arm for arm in curves if arm in race] == list(race)


def test_neighbors_in_print_differ_in_color_and_in_dashes() -> None:
    looks = list(_looks(figure(charted(20, 3), "curves", style_of())).values())
    assert len({*looks}) == 20 <= len(COLORS) * len(PRINT_DASHES)
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in itertools.pairwise(looks))


@pytest.mark.parametrize("width", ["3.35", "in", "0in", "1e3in", "-3in", "3 miles", "50in", "1mm"])
def test_widths_that_are_no_lengths_are_refused(width: str) -> None:
    with pytest.raises(SpecError, match=re.escape(width)):
        style_of("paper", width)


def test_unknown_charts_styles_and_formats_are_refused() -> None:
    compared = charted(2, 2)
    with pytest.raises(SpecError, match="did you mean 'curves'"):
        figure(compared, "curve", style_of())
    with pytest.raises(SpecError, match="slides"):
        style_of("slide")
    with pytest.raises(SpecError, match=r"\.pdf"):
        figure_file(compared, "curves", ".html", style_of())


def test_a_chart_that_the_jobs_do_not_allow_says_what_is_missing() -> None:
    with pytest.raises(NotFoundError, match="no optimizer has several learning rates"):
        figure(charted(2, 2), "rates", style_of())


def test_charts_for_a_phone_are_drawn_for_its_width() -> None:
    for name, chart in named_charts(charted(4, 3, by="optimizer,momentum", rates=2), PHONE).items():
        drawn = svg(chart, style=PHONE)
        width = re.search(r'<svg[^>]* width="([\d.]+)"', drawn)
        assert width is not None
        assert float(width[1]) == PHONE.width, name
        assert min(size for text, size in texts(drawn) if text.strip()) >= 12, name
