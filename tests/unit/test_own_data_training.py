"""Training on own data: floats, bytes, up to 1,000 classes, by each engine; what is recorded and exported of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlpq.errors import DataError
from mlpq.image_records import ResultImages, SparseConfusion
from mlpq.own_data.content import Content, write
from mlpq.own_data.files import path_of
from mlpq.report.script_export import script
from mlpq.spec.job import JobSpec
from mlpq.weights_format import class_bytes, predicted_classes
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.training_state import Trained
from mlpq_workers.trainer.data import load
from mlpq_workers.trainer.result_images import result_images
from tests.support.gang_training import Record, assert_same, train_plain, train_together
from tests.support.kernel_training import assert_equal, train_by_kernel
from tests.support.own_data_specs import floats, pixels, spec_on
from tests.support.result_rows import job_record

CONTENTS = {
    "floats": floats(),
    "pixels": pixels(),
    "256 classes": floats(256, rows=1200),
    "300 classes": floats(300, rows=1200),
}


def loaded(content: Content, spec: JobSpec, folder: Path) -> ImageSet:
    write(content, folder)
    return load(spec.data, folder)


def by_engines(spec: JobSpec, images: ImageSet) -> dict[str, Trained]:
    record = Record()
    plain = train_plain(spec, Data.of(images), observer=record)
    gang = train_together(spec, spec_with(spec, seed=1), data=Data.of(images))
    kernel = train_by_kernel(spec, spec_with(spec, seed=1), data=images)
    return {"plain": plain, "gang": gang.trained("0"), "kernel": kernel.trained("0")}


def spec_with(spec: JobSpec, **changes: object) -> JobSpec:
    return JobSpec.model_validate({**spec.model_dump(), **changes})


@pytest.mark.parametrize("name", CONTENTS)
def test_engines_agree_on_own_data(name: str, tmp_path: Path, one_thread: None) -> None:
    content = CONTENTS[name]
    spec = spec_on(content)
    images = loaded(content, spec, tmp_path)
    assert images.train_x.dtype == content.train_x.dtype
    found = by_engines(spec, images)
    for each in found.values():
        assert each.best.test_total == len(content.test_y)
        assert each.final.predictions is not None
        assert each.final.predictions.classes.dtype.itemsize == class_bytes(content.classes)
        for layer, weight in found["plain"].final.weights.items():
            np.testing.assert_allclose(each.final.weights[layer], weight, rtol=1e-3, atol=1e-5)
    if content.classes < 10:  # more learn nothing in two epochs
        assert found["plain"].best.test_correct > len(content.test_y) / content.classes


@pytest.mark.parametrize("name", CONTENTS)
def test_gangs_give_the_bits_of_jobs_alone_on_own_data(name: str, tmp_path: Path, one_thread: None) -> None:
    spec = spec_on(CONTENTS[name])
    images = loaded(CONTENTS[name], spec, tmp_path)
    others = [spec, *(spec_with(spec, seed=seed) for seed in (1, 2))]
    alone, together = train_by_kernel(spec, data=images), train_by_kernel(*others, data=images, threads=2)
    assert_equal(alone.trained("0"), together.trained("0"))
    alone, together = train_together(spec, data=Data.of(images)), train_together(*others, data=Data.of(images))
    assert_same(alone.trained("0"), together.trained("0"))


def test_missing_damaged_and_other_content_is_one_line(tmp_path: Path) -> None:
    content = CONTENTS["floats"]
    spec = spec_on(content)
    with pytest.raises(DataError, match=r"the data set mine is not on this machine: mlpq data pull it, or copy it to"):
        load(spec.data, tmp_path)
    path = write(content, tmp_path)
    with pytest.raises(DataError, match="has other sizes than the job's spec says"):
        load(replace(spec.data, test=7), tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged"):
        load(spec.data, tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is damaged") as error:
        load(spec.data, tmp_path)
    assert "\n" not in str(error.value)


# --- what is recorded


def recorded(content: Content, folder: Path) -> tuple[ResultImages, Trained]:
    spec = spec_on(content)
    trained = train_by_kernel(spec, data=loaded(content, spec, folder)).trained("0")
    assert trained.final.predictions is not None
    return result_images(trained.final.predictions, content.test_y, content.classes), trained


@pytest.mark.parametrize("classes", [3, 100, 101, 256, 257, 1000])
def test_record_of_any_number_of_classes_adds_up(classes: int, tmp_path: Path) -> None:
    content = floats(classes, rows=3000)
    images, trained = recorded(content, tmp_path)
    assert isinstance(images.confusion, SparseConfusion) == (classes > 100)
    assert images.fits(classes, len(content.test_y))
    assert not images.fits(classes + 1, len(content.test_y))
    sparse = images.sparse
    assert sum(sparse.correct) == trained.best.test_correct
    assert sparse.totals == np.bincount(content.test_y, minlength=classes).tolist()
    assert trained.final.predictions is not None
    stored = trained.final.predictions.classes.tobytes()
    predicted = list(predicted_classes(stored, classes))
    assert sparse.predicted == np.bincount(predicted, minlength=classes).tolist()
    wrong = [(i, j) for i, j in zip(content.test_y.tolist(), predicted, strict=True) if i != j]
    assert sum(pair.images for pair in sparse.pairs) == len(wrong)
    assert {(pair.true, pair.predicted) for pair in sparse.pairs} == set(wrong)
    assert [pair.images for pair in sparse.pairs] == sorted((pair.images for pair in sparse.pairs), reverse=True)


def test_sparse_and_whole_confusions_say_the_same() -> None:
    matrix = [[3, 1, 0], [0, 0, 0], [2, 0, 5]]
    sparse = SparseConfusion.of(matrix)
    assert (sparse.totals, sparse.predicted, sparse.correct) == ([4, 0, 7], [5, 1, 5], [3, 0, 5])
    assert sparse.pairs == [(2, 0, 2), (0, 1, 1)]
    assert sparse.fits(3)
    assert not replace(sparse, correct=[5, 0, 5]).fits(3)
    assert not replace(sparse, pairs=[*sparse.pairs, type(sparse.pairs[0])(3, 0, 1)]).fits(3)


def test_cut_predictions_of_two_bytes_are_refused() -> None:
    assert list(predicted_classes(b"\x01\x02", 256)) == [1, 2]
    assert list(predicted_classes(b"\x01\x02", 257)) == [513]
    with pytest.raises(ValueError, match="predictions"):
        predicted_classes(b"\x01", 257)


# --- the exported script


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_script_reads_the_file_and_gives_the_bits_of_the_plain_engine(
    name: str, tmp_path: Path, one_thread: None
) -> None:
    content = CONTENTS[name]
    spec = spec_on(content, validation=0.1)
    trained = train_plain(spec, Data.of(loaded(content, spec, tmp_path)), observer=Record())
    text = script(job_record(spec, 1, 450), [], {"threads": 1, "torch": "2"}, tmp_path)
    assert len(text.splitlines()) <= 80
    (tmp_path / "job.py").write_text(text)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "job.py"], capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^(\d+) of (\d+) test rows correct", done.stdout, re.MULTILINE)
    assert found is not None
    assert (int(found[1]), int(found[2])) == (trained.best.test_correct, trained.best.test_total)
    path_of(content.sha256, tmp_path).write_bytes(b"")
    done = subprocess.run([sys.executable, "job.py"], capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
