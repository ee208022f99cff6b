"""The test rows of an own data set, as error pages show them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.image_data import FeatureRows, TestSet
from mlpq.own_data.content import Content, read
from mlpq.own_data.files import is_here
from mlpq.spec.datasets import Dataset

COLORS = 3


def read_own_test_set(dataset: Dataset, data_dir: Path) -> TestSet:
    """The test set on this machine; raises DataError where it is not here or damaged."""
    assert dataset.sha256 is not None, "of an own data set"
    if not is_here(dataset.sha256, data_dir):
        raise DataError(f"{dataset.name} is not on this machine")
    content = read(dataset.sha256, data_dir)
    pixels = _pixels(content)
    if pixels is not None:
        return TestSet(pixels, content.test_y, content.scale if content.scale > 1 else 255)
    return TestSet(None, content.test_y, 1, _rows(content))


def _pixels(content: Content) -> NDArray[np.uint8] | None:
    """Pixels, where the rows are gray or colored images of bytes."""
    shape = content.about.get("shape")
    if content.test_x.dtype != np.uint8 or not isinstance(shape, list):
        return None
    are_sizes = all(isinstance(each, int) and each > 0 for each in shape) and math.prod(shape) == content.features
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == COLORS)
    return content.test_x.astype(np.uint8, copy=False).reshape(-1, *shape) if are_sizes and is_image else None


def _rows(content: Content) -> FeatureRows:
    names, scale = content.about.get("features"), content.about.get("scale")
    if not isinstance(names, list) or len(names) != content.features:
        names = [str(i) for i in range(content.features)]
    figures = [_figures(scale, which, content.features) for which in ("subtract", "divide")]
    if any(each is None for each in figures):
        return FeatureRows(list(map(str, names)), content.test_x)
    return FeatureRows(list(map(str, names)), content.test_x, *figures)


def _figures(scale: Any, which: str, features: int) -> Any:
    found = scale.get(which) if isinstance(scale, dict) else None
    is_right = isinstance(found, list) and len(found) == features and all(isinstance(x, int | float) for x in found)
    return np.array(found, np.float64) if is_right else None
