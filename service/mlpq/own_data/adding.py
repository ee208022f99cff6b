"""Makes the content of an own data set from a source: test rows, missing values, features, scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.own_data import scaling, sources
from mlpq.own_data.content import Content, Features, check_size
from mlpq.own_data.parts import Encoding, Indices, Part, Source
from mlpq.own_data.sources import ReadOptions
from mlpq.own_data.splitting import stratified
from mlpq.own_data.tables import Table, TableEncoding, aligned, unknown_categories

MISSING = ("mean", "drop")
TEXTS_SHOWN = 10  # columns in a note


@dataclass(frozen=True)
class Treatment:
    """What is done to the rows: `test` is a file or a fraction, `scale` None for the kind's own."""

    test: str | None = None
    split_seed: int | None = None
    missing: str | None = None
    scale: str | None = None


@dataclass(frozen=True)
class Added:
    """A new content, and what the user should know of how it was made."""

    content: Content
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Split:
    train: Part
    train_rows: Indices
    test: Part
    test_rows: Indices
    about: dict[str, Any]


def build(source: str, reading: ReadOptions, treatment: Treatment, data_dir: Path) -> Added:
    """The content of a source; raises DataError."""
    found = sources.read(source, reading, data_dir)
    split = _split(found, source, reading, treatment, data_dir)
    classes = _classes(split)
    encoding = split.train.encoding(split.train_rows)
    pixels = (split.train.pixels, split.test.pixels)
    if (pixels[0] is None) != (pixels[1] is None):
        raise DataError(f"only one of {split.train.where} and {split.test.where} has bytes: convert the other")
    how = treatment.scale or ("standardize" if pixels[0] is None else "unit")
    are_kept = pixels[0] is not None and how != "standardize"
    features = len(encoding.is_indicator)
    check_size(len(split.train_rows), len(split.test_rows), features, 1 if are_kept else 4)
    fitted = None
    train_x: Features
    test_x: Features
    if pixels[0] is not None and pixels[1] is not None and are_kept:
        train_x, test_x = pixels[0][split.train_rows], pixels[1][split.test_rows]
    else:
        fitted = scaling.fitted(how, split.train, encoding, split.train_rows)
        train_x = fitted.apply(split.train, encoding, split.train_rows)
        test_x = fitted.apply(split.test, encoding, split.test_rows)
    about = {
        **split.train.about(),
        **encoding.about(),
        **split.about,
        "classes": [found.class_names.get(name, name) for name in classes],
        "scale": scaling.about(how, fitted),
    }
    if encoding.names:
        about["features"] = encoding.names
    if "missing" in about and fitted is not None and about["missing"]["how"] == "mean":
        about["missing"]["mean"] = fitted.mean.tolist()
    unknown = _unknown(encoding, split)
    if unknown:
        about["unknown"] = unknown
    train_y, test_y = _class_indices(split, classes)
    scale = scaling.LARGEST_BYTE if are_kept and how == "unit" else 1
    content = Content(train_x, train_y, test_x, test_y, scale, about)
    notes = _notes(split, how, treatment, unknown)
    return Added(content, (*found.notes, *_text_columns(encoding), *notes, *_same_rows(source, treatment.test)))


def _split(found: Source, source: str, reading: ReadOptions, treatment: Treatment, data_dir: Path) -> _Split:
    """The training and the test rows, without those that are left out."""
    fraction = _fraction(treatment.test)
    if found.test is not None and treatment.test is not None:
        raise DataError(f"{source} has test rows of its own: leave --test out")
    if found.test is None and treatment.test is None:
        raise DataError(f"{source} has no test rows: add --test FILE, or --test 0.2 for a fraction of its rows")
    if fraction is None and treatment.split_seed is not None:
        raise DataError("--split-seed applies to --test with a fraction only")
    rows, incomplete = _rows(found.train, treatment.missing)
    if fraction is not None:
        seed = treatment.split_seed or 0
        train, test = stratified(found.train.labels.codes[rows], fraction, seed)
        if not len(test):
            raise DataError(f"--test {treatment.test} of {len(rows):,} rows leaves none for the test: take more")
        about = _about_missing(treatment.missing, incomplete)
        about["split"] = {"how": "fraction", "fraction": fraction, "seed": seed}
        return _Split(found.train, rows[train], found.train, rows[test], about)
    part = found.test or _other_file(str(treatment.test), found.train, reading, data_dir)
    test_rows, more = _rows(part, treatment.missing)
    about = _about_missing(treatment.missing, incomplete + more)
    return _Split(found.train, rows, part, test_rows, {**about, "split": {"how": "given"}})


def _fraction(test: str | None) -> float | None:
    """The fraction that --test gives; None where it names a file. Raises DataError for other numbers."""
    try:
        fraction = float(test or "")
    except ValueError:
        return None
    if not math.isfinite(fraction) or not 0 < fraction < 1:
        raise DataError(f"--test {test} must be a fraction between 0 and 1, or a file (as ./{test})")
    return fraction


def _other_file(test: str, train: Part, reading: ReadOptions, data_dir: Path) -> Part:
    """All rows of the file with the test rows, with the training rows' features."""
    found = sources.read(test, replace(reading, table=replace(reading.table, of_test=True)), data_dir)
    if found.test is not None:
        raise DataError(f"{test} has training and test rows: name it as the source, without --test")
    part = found.train
    if isinstance(part, Table) and isinstance(train, Table):
        return aligned(part, train)
    if isinstance(part, Table) or isinstance(train, Table) or part.features != train.features:
        raise DataError(f"{test} has other features than {train.where}")
    return part


def _rows(part: Part, missing: str | None) -> tuple[Indices, int]:
    """The rows that are kept, and how many lack a value; raises DataError for such rows without an option for them."""
    lacks, is_unlabeled = part.missing(), part.labels.codes < 0
    if missing == "drop":
        kept = np.flatnonzero(~(lacks | is_unlabeled))
        if not len(kept):
            raise DataError(f"{part.where}: each row lacks a value; --missing drop leaves none")
        return kept, int(np.count_nonzero(lacks | is_unlabeled))
    if is_unlabeled.any():
        row = int(np.flatnonzero(is_unlabeled)[0])
        raise DataError(f"{part.where}: row {row + 1} has no class: correct it, or --missing drop leaves such rows out")
    count = int(np.count_nonzero(lacks))
    if count and missing is None:
        row = int(np.flatnonzero(lacks)[0])
        others = f", and {count - 1:,} more rows lack a value" if count > 1 else ""
        raise DataError(
            f"{part.where}: row {row + 1} has no value in {part.first_missing(row)}{others}: --missing mean takes the "
            "mean of the training rows, --missing drop leaves such rows out"
        )
    return np.arange(len(lacks)), count


def _about_missing(how: str | None, rows: int) -> dict[str, Any]:
    return {"missing": {"how": how, "rows": rows}} if rows else {}


def _classes(split: _Split) -> list[str]:
    """The names of the training rows' classes, in order; raises DataError where the test rows have another one."""
    train, test = split.train.labels.take(split.train_rows), split.test.labels.take(split.test_rows)
    classes = train.used()
    for name in test.used():
        if name not in classes:
            raise DataError(f"{split.test.where} has the class '{name}', which no training row has")
    if len(classes) < 2:
        raise DataError(f"{split.train.where} has only the class '{''.join(classes)}'; at least 2 are needed")
    return classes


def _class_indices(split: _Split, classes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    index = {name: i for i, name in enumerate(classes)}

    def indices(part: Part, rows: Indices) -> NDArray[np.int64]:
        order = np.array([index.get(name, -1) for name in part.labels.names], np.int64)
        return order[part.labels.codes[rows]]

    return indices(split.train, split.train_rows), indices(split.test, split.test_rows)


def _unknown(encoding: Encoding, split: _Split) -> dict[str, int]:
    if isinstance(encoding, TableEncoding) and isinstance(split.test, Table):
        return unknown_categories(encoding, split.test, split.test_rows)
    return {}


def _same_rows(source: str, test: str | None) -> list[str]:
    is_same = test is not None and _fraction(test) is None and sources.is_same(test, source)
    return ["the test rows are the training rows: the source is its own test file"] if is_same else []


def _text_columns(encoding: Encoding) -> list[str]:
    """Which columns were taken as text: numbers and dates in an odd notation look like it."""
    categories = encoding.categories.items() if isinstance(encoding, TableEncoding) else ()
    found = [f"'{name}' ({len(values):,})" for name, values in categories if values is not None]
    more = f" and {len(found) - TEXTS_SHOWN:,} more" if len(found) > TEXTS_SHOWN else ""
    return [f"text, a feature for each value: {', '.join(found[:TEXTS_SHOWN])}{more}"] if found else []


def _notes(split: _Split, how: str, treatment: Treatment, unknown: dict[str, int]) -> list[str]:
    notes = []
    if split.about["split"]["how"] == "fraction":
        fraction, seed = split.about["split"]["fraction"], split.about["split"]["seed"]
        notes.append(f"test rows: {fraction:.4g} of each class, drawn by split seed {seed}")
    if "missing" in split.about:
        rows = split.about["missing"]["rows"]
        done = "left out" if treatment.missing == "drop" else "filled with means of the training rows"
        notes.append(f"rows that lack a value: {rows:,}, {done}")
    for column, count in unknown.items():
        notes.append(f"test rows with a value of '{column}' that no training row has: {count:,}, 0 in its features")
    chosen = "" if treatment.scale else ", by default"
    notes.append(f"scale: {how}{chosen}")
    return notes
