"""The charts and pictures of errors, for pages: reliability, confusion, and images that every seed gets wrong."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import altair
import numpy as np
from altair import Axis, Data, Scale, X, Y

from mlpq.analysis.image_errors import ArmErrors
from mlpq.image_data import TestSet
from mlpq.report.chart_text import text_width, wrapped
from mlpq.report.drawing import PAGE, Chart, Style, colors, label_lines, n_of, titled
from mlpq.report.error_tables import class_label

DARKEST = 25  # percent of a class that are taken for another one
SQUARE = 26  # pixels of a cell of the confusion matrix, at most
LABEL_SHARE = 0.28  # of the width of a page, for the names of classes
LEGIBLE_CLASSES = 15  # in a matrix with numbers
MOST_DRAWN = 40  # classes of a matrix
GRAY, TRUECOLOR = 0, 2  # of PNG


def reliability(arms: Sequence[ArmErrors], among: Sequence[str], style: Style = PAGE) -> Chart:
    """Accuracy against confidence, a line for each arm; colors are those in `among`."""
    points = [
        {
            "arm": arm.label,
            "confidence": 100 * each.confidence / each.images,
            "accuracy": 100 * each.correct / each.images,
        }
        for arm in arms
        for each in arm.calibration
        if each.images
    ]
    color, dash = colors([arm.label for arm in arms], among, style)
    ends = Scale(domain=[0, 100])
    diagonal = altair.Chart(Data(values=[{"at": 0}, {"at": 100}])).mark_line(color="#888", strokeDash=[4, 3])
    layers = altair.layer(
        diagonal.encode(X("at:Q"), Y("at:Q")),
        altair.Chart(Data(values=points)).mark_line(point=True).encode(
            X("confidence:Q", title="confidence (%)", scale=ends), Y("accuracy:Q", title="accuracy (%)", scale=ends),
            color, dash,
        ),
    )  # fmt: skip
    n = n_of([len(arm.jobs) for arm in arms])
    caption = f"By bin of confidence, over all seeds, {n}. Below the dashed line an arm is overconfident."
    return titled(layers, "Reliability", caption, 1.36 * style.height, style)


def confusion(arm: ArmErrors, style: Style = PAGE) -> Chart:
    """The confusion matrix of an arm: in which share of its images a class is predicted as each class."""
    n, rows = len(arm.jobs), arm.confusion or ()
    labels = [class_label(arm.dataset, i) for i in range(len(rows))]
    lines = {label: wrapped(label, LABEL_SHARE * PAGE.width, style.labels) for label in labels}
    left = max(text_width(line, style.labels) for each in lines.values() for line in each) + 3 * style.labels
    square = min(SQUARE, (style.width - left) / len(rows)) if style.fits else SQUARE
    cells = [
        {
            "true": labels[i], "predicted": labels[j], "share": round(100 * count / max(1, sum(row)), 1),
            "count": f"{count / n:.0f}" if count / n >= 0.5 else "", "kind": "correct" if i == j else "wrong",
        }
        for i, row in enumerate(rows)
        for j, count in enumerate(row)
    ]  # fmt: skip
    x = X(
        "predicted:N",
        title="predicted",
        sort=labels,
        axis=Axis(labelAngle=-90 if style.fits else -40, labelExpr=label_lines(lines)),
    )
    y = Y("true:N", title="true class", sort=labels, axis=Axis(labelExpr=label_lines(lines)))
    scale = Scale(range=["#ffffff", "#d55e00"], domain=[0, DARKEST], clamp=True, interpolate="rgb")
    shade = altair.Color("share:Q", title=None, scale=scale, legend=None)
    base = altair.Chart(Data(values=cells))
    wrong, correct = (base.transform_filter(f"datum.kind == '{kind}'") for kind in ("wrong", "correct"))
    layers = [wrong.mark_rect().encode(x, y, shade), correct.mark_rect(color="#d7e6f2").encode(x, y)]
    if len(rows) <= LEGIBLE_CLASSES:
        layers.append(
            base.mark_text(fontSize=min(11, 0.55 * square), color="#000", aria=False).encode(
                x, y, altair.Text("count:N")
            )
        )
    caption = f"Images of each class (rows) by what they are predicted as, mean over the seeds, n = {n}. Blue: correct."
    return titled(altair.layer(*layers), f"Confusions of {arm.label}", caption, altair.Step(square), style)


def picture(test_set: TestSet, image: int) -> str:
    """A test image as the URL of a PNG that contains it; the test set has pixels."""
    assert test_set.pixels is not None, "rows that are no images have no picture"
    pixels = (test_set.pixels[image].astype(np.uint16) * 255 // test_set.white).astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(_png(pixels)).decode()}"


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """Values from 0 to 255, gray [height, width] or with three colors, as a PNG file (ISO/IEC 15948)."""
    height, width = pixels.shape[:2]
    kind = GRAY if pixels.ndim == 2 else TRUECOLOR
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
