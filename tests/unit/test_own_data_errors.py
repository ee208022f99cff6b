"""What is shown of errors on own data: rows of tables, colored images, many classes, and classes without test rows."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlpq import image_data
from mlpq.analysis.comparison import compare
from mlpq.analysis.experiment_errors import ExperimentErrors, WrongImage
from mlpq.analysis.image_errors import ArmErrors, ImageErrors, image_errors
from mlpq.analysis.params import ComparisonParams
from mlpq.errors import DataError
from mlpq.own_data.content import Content, write
from mlpq.own_data.test_rows import read_own_test_set
from mlpq.report import error_tables
from mlpq.report.error_section import error_section
from mlpq_workers.engine.training_state import Predictions
from mlpq_workers.trainer.result_images import result_images
from tests.support.own_data_specs import floats, pixels, spec_on
from tests.support.result_rows import job_record


def arm_on(content: Content) -> ArmErrors:
    """An arm of three seeds that take every seventh row for the class after its own."""
    jobs, images = [], {}
    for seed in (1, 2, 3):
        predicted = (content.test_y + (np.arange(len(content.test_y)) % 7 == 0)) % content.classes
        confidences = np.full(len(predicted), 0.9, np.float32)
        spec = spec_on(content, seeds=seed)
        jobs.append(job_record(spec, seed, 0))
        found = Predictions.of(predicted, confidences, content.classes)
        images[jobs[-1].id] = result_images(found, content.test_y, content.classes)
    total = len(content.test_y)
    jobs = [replace(job, result=replace(job.result, test_total=total)) for job in jobs if job.result is not None]
    (arm,) = image_errors(compare(jobs, [], {}, ComparisonParams()), images).arms
    return arm


def shown(arm: ArmErrors, test_set: image_data.TestSet) -> ExperimentErrors:
    wrong = [WrongImage(row, int(test_set.labels[row]), 0, 3) for row in arm.always_wrong]
    errors = ImageErrors([arm], [], [], {arm.data: arm.always_wrong})
    return ExperimentErrors(errors, {arm.label: wrong}, {arm.data: wrong}, {arm.data: test_set}, [])


def stored(content: Content, folder: Path) -> image_data.TestSet:
    write(content, folder)
    return read_own_test_set(spec_on(content).data, folder)


def scaled(content: Content) -> Content:
    """As if the features had been standardized from others."""
    n = content.features
    scale = {"how": "standardize", "subtract": [10.0] * n, "divide": [2.0] * n}
    return replace(content, about={**content.about, "scale": scale})


def test_rows_of_a_table_are_listed_in_the_units_of_the_source(tmp_path: Path) -> None:
    content = scaled(floats(features=12))
    test_set = stored(content, tmp_path)
    assert (test_set.pixels, test_set.labels.tolist()) == (None, content.test_y.tolist())
    arm = arm_on(content)
    (wrong,) = error_section(shown(arm, test_set), [arm.label]).wrong
    assert wrong.title == "29 rows of the 200 of mine that all 3 results get wrong"
    assert wrong.shown == []
    assert wrong.rows is not None
    headings, lines = wrong.rows
    assert headings[:3] == (">row", "true class", "most often predicted (seeds)")
    assert headings[3:] == tuple(f">f{i}" for i in range(8))
    first = content.test_x[arm.always_wrong[0], 0] * 2.0 + 10.0
    assert float(lines[0][3]) == pytest.approx(float(first), rel=1e-4)


def test_features_without_names_have_numbers(tmp_path: Path) -> None:
    content = floats()
    rows = stored(
        replace(content, about={"classes": content.about["classes"], "scale": {"how": "none"}}), tmp_path
    ).rows
    assert rows is not None
    assert list(rows.names) == ["0", "1", "2", "3", "4"]
    assert rows.row(3) == pytest.approx(content.test_x[3].tolist())


def test_images_of_bytes_have_pictures_in_color(tmp_path: Path) -> None:
    content = pixels()
    test_set = stored(content, tmp_path)
    assert test_set.pixels is not None
    assert test_set.pixels.shape == (200, 4, 4, 3)
    arm = arm_on(content)
    (wrong,) = error_section(shown(arm, test_set), [arm.label]).wrong
    assert wrong.rows is None
    picture = Image.open(io.BytesIO(base64.b64decode(wrong.shown[0].url.partition(",")[2])))
    assert (picture.mode, picture.size) == ("RGB", (4, 4))
    assert np.array_equal(np.asarray(picture).reshape(-1), content.test_x[arm.always_wrong[0]])


def test_file_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mine is not on this machine"):
        read_own_test_set(spec_on(floats()).data, tmp_path)


@pytest.mark.parametrize("classes", [60, 300])
def test_many_classes_are_shown_by_the_worst_of_them(classes: int, tmp_path: Path) -> None:
    content = floats(classes, rows=3000)
    arm = arm_on(content)
    assert arm.accuracy == pytest.approx(1 - 143 / 1000)
    assert (arm.confusion is None) == (classes > 100)
    assert error_tables.classes_title(arm) == f"the 40 least accurate of {classes} classes"
    _, lines = error_tables.classes_table(arm)
    shares = [float(line[2]) for line in lines]
    assert len(lines) == 40
    assert shares == sorted(shares)
    headings, pairs = error_tables.confusion_table(arm)
    assert headings == ("true class", "taken for", ">rows")
    assert len(pairs) == 20
    found = shown(arm, stored(content, tmp_path))
    section = error_section(found, [arm.label])
    assert len(section.charts) == 1  # no matrix is drawn
    assert [title for title, _ in section.classes][1] == f"Confusions of {arm.label}"
    (document,) = error_tables.errors_document(found)["arms"]
    pairs_or_matrix = (document["confusion"] is None, document["confusions"] is None)
    assert pairs_or_matrix == (classes > 100, classes <= 100)
    assert len(json.dumps(document)) < 500_000


def test_class_without_test_rows_has_no_accuracy() -> None:
    content = floats(rows=30)
    lacking = replace(content, test_y=np.where(content.test_y == 2, 0, content.test_y))
    arm = arm_on(lacking)
    assert [each.accuracy is None for each in arm.classes] == [False, False, True]
    assert error_tables.classes_table(arm)[1][2][1:4] == ["0", "", ""]
    assert error_tables.confusion_table(arm)[1][2][1:] == ["0", "0", "0"]


def test_confusions_of_other_classes_sum_over_the_seeds() -> None:
    content = floats(150, rows=3000)
    arm = arm_on(content)
    wrong = int((np.arange(len(content.test_y)) % 7 == 0).sum())
    assert sum(pair.images for pair in arm.confusions) == 3 * wrong
    assert all(pair.predicted == (pair.true + 1) % 150 for pair in arm.confusions)
