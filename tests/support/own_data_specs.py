"""Own data sets of a few rows, and specs that train on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlpq.own_data.content import Content
from mlpq.spec.data_content import DataContent
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep


def floats(classes: int = 3, rows: int = 600, features: int = 5) -> Content:
    """Rows of floats around the centers of their classes; every class has training rows."""
    draws = np.random.default_rng(classes)
    centers = draws.normal(0, 2, (classes, features))
    y = np.arange(rows) % classes
    x = (centers[y] + draws.normal(0, 1, (rows, features))).astype(np.float32)
    n = rows * 2 // 3
    about = {"classes": [f"class {i}" for i in range(classes)], "features": [f"f{i}" for i in range(features)]}
    return Content(x[:n], y[:n], x[n:], y[n:], 1, about)


def pixels(rows: int = 600, side: int = 4, colors: int = 3) -> Content:
    """Colored images of two classes."""
    draws = np.random.default_rng(0)
    y = np.arange(rows) % 2
    x = (draws.integers(0, 128, (rows, side * side * colors)) + 100 * y[:, None]).astype(np.uint8)
    n = rows * 2 // 3
    return Content(x[:n], y[:n], x[n:], y[n:], 255, {"classes": ["dark", "light"], "shape": [side, side, colors]})


def spec_on(content: Content, name: str = "mine", **keys: Any) -> JobSpec:
    """The one job of a sweep on this content."""
    sizes = DataContent(
        sha256=content.sha256,
        features=content.features,
        classes=content.classes,
        train=len(content.train_y),
        test=len(content.test_y),
    )
    document = {"dataset": name, "hidden": "16", "activation": "relu", "epochs": 2, "lr": 0.1, **keys}
    (spec,) = Sweep.parse(document).jobs(contents={name: sizes})
    return spec
