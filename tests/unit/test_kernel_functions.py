"""The kernel's exp, log, sigmoid and tanh: their errors in units in the last place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlpq_workers.kernel import build
from tests.support.kernel_builds import DOUBLE, compiled
from tests.support.kernel_exercise import builds

Values = NDArray[Any]
FUNCTIONS: dict[str, tuple[int, Callable[[Values], Values], tuple[float, float], float]] = {
    "exp": (0, np.exp, (-87, 0), 1.1),
    "log": (1, np.log, (1, 20_000), 1.0),
    "sigmoid": (2, lambda x: 1 / (1 + np.exp(-x)), (-87, 87), 2.5),
    "tanh": (3, np.tanh, (-20, 20), 1.6),
    "exp of any": (4, np.exp, (-87, 88.7), 1.1),
    "log of any": (5, np.log, (1e-3, 1e6), 1.0),
}


def applied(number: int, x: Values, name: str = "auto", library: Path | None = None) -> Values:
    # The vectors must start at a cache line.
    memory = np.zeros(2 * len(x) + 64, x.dtype)
    start = -memory.ctypes.data % 64 // x.itemsize
    source, target = memory[start : start + len(x)], memory[start + len(x) : start + 2 * len(x)]
    source[:] = x
    build(name, library).functions.apply(number, source.ctypes.data, target.ctypes.data, len(x))
    return target.copy()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_a_few_units_in_the_last_place(name: str) -> None:
    number, exact, (low, high), limit = FUNCTIONS[name]
    x = np.linspace(low, high, 2**20, dtype=np.float32)
    expected = exact(x.astype(np.float64))
    error = np.abs(applied(number, x).astype(np.float64) - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert error.max() <= limit
    small = np.float32(2.0) ** np.linspace(-60, 0, 2**12, dtype=np.float32)
    if name in ("sigmoid", "tanh"):
        for x in (small, -small):
            expected = exact(x.astype(np.float64))
            error = np.abs(applied(number, x) - expected) / np.spacing(np.abs(expected).astype(np.float32))
            assert error.max() <= limit


@pytest.mark.parametrize("name", FUNCTIONS)
def test_builds_agree_to_the_bit(name: str) -> None:
    number, _, (low, high), _ = FUNCTIONS[name]
    x = np.linspace(low, high, 2**16, dtype=np.float32)
    first, *others = [applied(number, x, each.name) for each in builds()]
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_precision_is_exact_to_1e_14(name: str) -> None:
    number, exact, (low, high), _ = FUNCTIONS[name]
    x = np.linspace(low, min(high, 700), 2**14)
    found = applied(number, x, "plain", compiled("gcc", *DOUBLE))
    assert np.allclose(found, exact(x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [-np.inf, -1000, -88, 0, np.nan], [0, 0, 0, 1, np.nan]),
        ("sigmoid", [-np.inf, -1000, 0, 1000, np.inf, np.nan], [0, 0, 0.5, 1, 1, np.nan]),
        ("tanh", [-np.inf, -1000, 0, 1000, np.inf, np.nan], [-1, -1, 0, 1, 1, np.nan]),
        ("exp of any", [-np.inf, -1000, -88, 0, 88.8, 1000, np.inf, np.nan], [0, 0, 0, 1, *[np.inf] * 3, np.nan]),
        (
            "log of any",
            [-np.inf, -1, -0.0, 0, 1, np.inf, np.nan],
            [np.nan, np.nan, -np.inf, -np.inf, 0, np.inf, np.nan],
        ),
    ],
)
def test_limits_and_nan(name: str, x: list[float], expected: list[float]) -> None:
    padded = np.zeros(16, np.float32)
    padded[: len(x)] = x
    for each in builds():
        found = applied(FUNCTIONS[name][0], padded, each.name)[: len(x)]
        assert np.array_equal(found, np.array(expected, np.float32), equal_nan=True)
