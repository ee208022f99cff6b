"""Splits, missing values and scales of own data sets: beside scikit-learn's, and the same bits everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from mlpq.errors import DataError
from mlpq.own_data import scaling
from mlpq.own_data.parts import Arrays, Labels
from mlpq.own_data.splitting import stratified
from tests.support.own_data import added, kind

RANDOM = np.random.default_rng(3)


def saved(folder: Path, x: Any, y: Any, **test: Any) -> Path:
    np.savez(folder / "k.npz", x=x, y=y, **test)
    return folder / "k.npz"


# --- test rows


@given(
    classes=st.lists(st.integers(0, 4), min_size=4, max_size=200),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_class_gives_its_fraction_to_the_test_rows(classes: list[int], fraction: float, seed: int) -> None:
    y = np.array(classes)
    train, test = stratified(y, fraction, seed)
    assert sorted([*train, *test]) == list(range(len(y)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    for each in np.unique(y):
        rows, drawn = np.count_nonzero(y == each), np.count_nonzero(y[test] == each)
        assert drawn < rows
        assert abs(min(rows * fraction, rows - 1) - drawn) < 1 + 1e-9
    assert len(test) <= round(len(y) * fraction)


def test_drawn_rows_never_change() -> None:
    y = np.arange(20) % 3
    assert stratified(y, 0.3, 0)[1].tolist() == [1, 2, 3, 11, 13, 15]
    assert stratified(y, 0.3, 1)[1].tolist() == [2, 9, 14, 16, 18, 19]


@pytest.mark.parametrize("test", ["0", "1", "1.5", "-0.1", "nan", "inf", "1e-9"])
def test_fraction_must_leave_rows_on_both_sides(tmp_path: Path, test: str) -> None:
    path = saved(tmp_path, np.eye(8), np.arange(8) % 2)
    with pytest.raises(DataError, match=f"--test {test}"):
        added(path, test=test)


def test_source_without_test_rows_needs_an_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add --test FILE, or --test"):
        added(saved(tmp_path, np.eye(8), np.arange(8) % 2))


# --- missing values


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    """A table with missing numbers and texts."""
    frame = pd.DataFrame({"a": RANDOM.normal(size=40), "b": RANDOM.choice(["x", "y"], 40), "kind": np.arange(40) % 2})
    frame.loc[[3, 30], "a"] = np.nan
    frame.loc[[3, 7], "b"] = None
    frame.to_csv(tmp_path / "holes.csv", index=False)
    return tmp_path / "holes.csv"


def test_missing_values_are_the_means_of_the_training_rows(holes: Path) -> None:
    content = added(holes, table=kind(), test=str(holes), missing="mean", scale="none").content
    frame = pd.read_csv(holes)
    known = pd.get_dummies(frame["b"]).astype(float).where(frame["b"].notna())
    expected = SimpleImputer().fit_transform(pd.concat([frame["a"], known], axis=1))
    np.testing.assert_allclose(content.train_x, expected, rtol=1e-6)
    assert content.about["missing"]["how"] == "mean"
    assert content.about["missing"]["rows"] == 6
    assert content.about["missing"]["mean"][1:] == [known["x"].mean(), known["y"].mean()]


def test_rows_with_missing_values_are_left_out(holes: Path) -> None:
    made = added(holes, table=kind(), test="0.5", missing="drop")
    assert len(made.content.train_y) + len(made.content.test_y) == 37
    assert made.content.about["missing"] == {"how": "drop", "rows": 3}
    assert "rows that lack a value: 3, left out" in made.notes


def test_option_for_missing_values_is_no_other_content_where_none_is_missing(tmp_path: Path) -> None:
    path = saved(tmp_path, RANDOM.normal(size=(8, 2)), np.arange(8) % 2)
    hashes = {added(path, test="0.5", missing=how).content.sha256 for how in (None, "mean", "drop")}
    assert len(hashes) == 1


# --- scales


@pytest.mark.parametrize(("scale", "scaler"), [("standardize", StandardScaler()), ("unit", MinMaxScaler())])
def test_features_are_scaled_as_scikit_learn_does_by_training_rows_only(
    tmp_path: Path, scale: str, scaler: Any
) -> None:
    x = RANDOM.normal(5, 3, size=(3000, 7)) * 10.0 ** np.arange(-3, 4)
    x[:, 2] = 0.1  # constant
    test = x[:50] * 2
    path = saved(tmp_path, x, np.arange(3000) % 2, x_test=test, y_test=np.arange(50) % 2)
    content = added(path, scale=scale).content
    np.testing.assert_allclose(content.train_x, scaler.fit_transform(x), rtol=1e-5, atol=1e-6)
    varying = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(content.test_x[:, varying], scaler.transform(test)[:, varying], rtol=1e-5, atol=1e-5)
    assert not content.train_x[:, 2].any()
    assert len(content.about["scale"]["divide"]) == 7


@pytest.mark.parametrize(
    ("scale", "divisor", "dtype"), [("unit", 255, "u1"), ("none", 1, "u1"), ("standardize", 1, "f4")]
)
def test_bytes_stay_bytes_unless_they_are_standardized(tmp_path: Path, scale: str, divisor: int, dtype: str) -> None:
    x = RANDOM.integers(0, 256, (20, 3)).astype(np.uint8)
    content = added(saved(tmp_path, x, np.arange(20) % 2), test="0.5", scale=scale).content
    assert (content.scale, content.train_x.dtype) == (divisor, np.dtype(dtype))


def test_indicators_of_text_are_not_scaled(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2, 3, 5], "b": list("xyxx"), "kind": [0, 1, 0, 1]}).to_csv(tmp_path / "t.csv", index=False)
    content = added(tmp_path / "t.csv", table=kind(), test=str(tmp_path / "t.csv")).content
    assert content.train_x[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    assert abs(content.train_x[:, 0].mean()) < 1e-6


def test_sums_have_the_same_bits_in_every_layout_and_however_they_could_be_vectorized() -> None:
    x = RANDOM.normal(size=(300_001, 5)) * 1e3
    labels = Labels(np.zeros(len(x), np.int64), ("a",))
    rows = np.arange(len(x))
    figures = []
    for array in (x, np.asfortranarray(x), np.concatenate([x, x])[: len(x)]):
        part = Arrays(array, labels, "x")
        found = scaling.fitted("standardize", part, part.encoding(rows), rows)
        figures.append((found.subtract.tobytes(), found.divide.tobytes()))
    assert figures[0] == figures[1] == figures[2]
    expected = [halved_sum([float(value) for value in column]) / len(x) for column in x.T]
    assert np.frombuffer(figures[0][0]).tolist() == expected


def halved_sum(values: list[float]) -> float:
    """The sum in plain Python, in the order that the docs promise."""
    total, step = 0.0, 2**20 // 5
    for start in range(0, len(values), step):
        block = values[start : start + step]
        while len(block) > 1:
            half = (len(block) + 1) // 2
            block = [
                value + block[half + i] if half + i < len(block) else value for i, value in enumerate(block[:half])
            ]
        total = total + block[0] if start else block[0]
    return total


def test_content_has_the_same_hash_on_every_machine(tmp_path: Path) -> None:
    x = (np.arange(600) ** 2 % 997).reshape(100, 6) / 7
    path = saved(tmp_path, x, np.arange(100) % 3)
    hashes = {scale: added(path, test="0.2", split_seed=5, scale=scale).content.sha256[:16] for scale in scaling.SCALES}
    assert hashes == {"unit": "6d0f17d4cae733b7", "standardize": "9b4facfa43d4eaa8", "none": "1b2d6d73e6c20d48"}


def test_value_beyond_32_bits_is_named_by_its_row_and_feature(tmp_path: Path) -> None:
    x = np.ones((8, 3))
    x[2, 1] = 1e300
    with pytest.raises(DataError, match="row 3 has a value in feature 2 that is too large for 32 bits"):
        added(saved(tmp_path, x, np.arange(8) % 2, x_test=x[:2], y_test=np.arange(2)), scale="none")


def test_feature_without_a_value_in_the_training_rows_is_named(tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(8, 3)
    x[:, 2] = np.nan
    with pytest.raises(DataError, match="no training row has a value in feature 3: leave it out"):
        added(saved(tmp_path, x, np.arange(8) % 2), test="0.5", missing="mean")


def test_infinite_value_is_named_by_its_row_and_feature(tmp_path: Path) -> None:
    x = np.ones((8, 3))
    x[6, 2] = np.inf
    with pytest.raises(DataError, match="row 7 is infinite in feature 3"):
        added(saved(tmp_path, x, np.arange(8) % 2), test="0.5")
