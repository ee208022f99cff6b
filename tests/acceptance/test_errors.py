"""`mlpq errors`, and what `compare` and `report` say about test images, on jobs that a worker trained."""

from __future__ import annotations

import csv
import io
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from sqlalchemy import delete

from mlpq.store import queries
from mlpq.store.image_queries import images_of
from mlpq.store.schema import result_images
from tests.support.installations import EMBEDDED, Site
from tests.unit.test_image_errors import LABELS

SWEEP = ("--experiment", "pair", "--dataset", "digits", "--epochs", 3, "--seeds", "0..3", "--optimizer", "sgd:lr=0.5")


@pytest.fixture(scope="module")
def pair(served: Site) -> Site:
    """A site with two optimizers, four seeds."""
    served.mlpq("submit", *SWEEP, "--optimizer", "adam:lr=0.01", "--wait")
    return served


def test_errors_agree_with_the_results(pair: Site) -> None:
    document = pair.mlpq("errors", "pair", "--by", "optimizer", "--format", "json").json
    results = pair.mlpq("results", "pair", "--format", "json").json
    assert document["notes"] == []
    assert sorted(arm["arm"] for arm in document["arms"]) == ["adam", "sgd"]
    for arm in document["arms"]:
        counts = [row["test_correct"] for row in results if row["optimizer"] == arm["arm"]]
        confusion = arm["confusion"]
        assert sum(confusion[i][i] for i in range(10)) == sum(counts)
        assert [sum(row) for row in confusion] == [4 * np.count_nonzero(np.equal(LABELS, i)) for i in range(10)]
        assert arm["accuracy"] == pytest.approx(sum(counts) / 2000)
        assert sum(each["correct"] for each in arm["calibration"]) == sum(counts)
        for wrong in arm["always_wrong"]:
            assert wrong["true"] == LABELS[wrong["image"]]
            assert wrong["predicted"] != wrong["true"]


def test_bitmap_counts_the_recorded_images(pair: Site) -> None:
    ids = [job.id for job in queries.job_records(pair.store, "pair")]
    found = images_of(pair.store, ids)
    assert {job: images.correct_count for job, images in found.items()} == {
        job: pair.result(job).test_correct for job in ids
    }


def test_errors_in_text_and_csv(pair: Site) -> None:
    out = pair.mlpq("errors", "pair").out
    assert "classes of digits" in out
    assert "true class \\ predicted" in out
    document = pair.mlpq("errors", "pair", "--format", "json").json
    rows = list(csv.DictReader(io.StringIO(pair.mlpq("errors", "pair", "--format", "csv").out)))
    expected = [(arm["arm"], str(each["image"])) for arm in document["arms"] for each in arm["always_wrong"]]
    assert [(row["arm"], row["image"]) for row in rows] == expected


def test_compare_has_both_standard_errors(pair: Site) -> None:
    (found,) = pair.mlpq("compare", "pair", "--format", "json").json["pairs"]
    assert found["standard_error_seeds"] == pytest.approx(found["sd"] / 2)
    assert found["standard_error_images"] >= found["standard_error_seeds"]
    assert math.isfinite(found["standard_error_images"])
    out = pair.mlpq("compare", "pair").out
    assert "new seeds and images" in out
    assert "The verdicts are about new seeds on the same test images." in out


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_report_draws_the_images_that_every_seed_gets_wrong(pair: Site, tmp_path: Path) -> None:
    page_file = tmp_path / "report.html"
    pair.mlpq("report", "pair", "--output", page_file)
    document = pair.mlpq("errors", "pair", "--format", "json").json
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(page_file.as_uri())
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert widths == [8] * min(48, len(document["always_wrong"]["digits"]))
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert problems == []
        browser.close()


def test_results_without_images_are_named(alone: Site) -> None:
    """As those of a migrated database of version 0.1."""
    alone.mlpq("submit", *SWEEP, "--wait")
    ids = [job.id for job in queries.job_records(alone.store, "pair")]
    with alone.store.write() as connection:
        connection.execute(delete(result_images).where(result_images.c.job_id == ids[0]))
    (note,) = alone.mlpq("errors", "pair", "--format", "json").json["notes"]
    assert note.startswith("left out: 1 of 4 results of sgd lr=0.5: versions before 0.2 did not record")
    with alone.store.write() as connection:
        connection.execute(delete(result_images))
    failed = alone.mlpq("errors", "pair", status=2)
    assert "there are no errors to show: versions before 0.2 did not record" in failed.err
    alone.mlpq("report", "pair", "--output", alone.folder / "report.html")


def test_missing_files_of_weights_are_named(alone: Site) -> None:
    alone.mlpq("submit", *SWEEP, "--wait")
    for job in queries.job_records(alone.store, "pair")[:2]:
        Path(alone.result(job.id).weights_file).unlink()
    (note,) = alone.mlpq("errors", "pair", "--format", "json").json["notes"]
    assert "predicted classes of images are those of 2 of 4 results" in note


def test_unknown_experiment_and_field(alone: Site) -> None:
    assert "no experiment is called 'nothing'" in alone.mlpq("errors", "nothing", status=2).err
    assert "the spec has no field 'an optimiser'" in alone.mlpq("errors", "x", "--by", "an optimiser", status=2).err
