"""Which images arms get wrong: classes, confusion, calibration, churn, and images that every seed gets wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mlpq.analysis.comparison import compare
from mlpq.analysis.experiment_errors import ExperimentErrors, WrongImage
from mlpq.analysis.image_errors import ImageErrors, image_errors, wilson_interval
from mlpq.analysis.params import ComparisonParams
from mlpq.errors import DataError
from mlpq.image_data import read_test_set
from mlpq.image_records import CalibrationBin, ResultImages, SparseConfusion
from mlpq.records import JobRecord
from mlpq.report import error_tables
from mlpq.report.error_section import error_section
from mlpq.spec.datasets import DATASETS
from tests.support.result_rows import failed_job, job_record, specs

DIGITS = DATASETS["digits"]
LABELS = read_test_set(DIGITS, Path("nowhere")).labels


def images(wrong: Sequence[int], taken_for: int = 0, confidence: float = 0.9) -> ResultImages:
    """All images are classified correctly but `wrong`, which are taken for one class."""
    predicted = LABELS.astype(int)
    predicted[list(wrong)] = taken_for
    bits = predicted == LABELS
    bins = [CalibrationBin(0, 0.0, 0)] * 15
    bins[int(confidence * 15)] = CalibrationBin(500, 500 * confidence, int(bits.sum()))
    confusion = np.bincount(LABELS * 10 + predicted, minlength=100).reshape(10, 10).tolist()
    return ResultImages(np.packbits(bits).tobytes(), "ab" * 32, confusion, bins)


NOT_ZEROS = [int(i) for i in np.flatnonzero(LABELS != 0)]
SGD = [NOT_ZEROS[:20], NOT_ZEROS[:10], NOT_ZEROS[5:15]]
ADAM = [NOT_ZEROS[:8], NOT_ZEROS[4:8], NOT_ZEROS[6:9]]
JOBS = [
    job_record(spec, number, 500 - len(wrong))
    for number, (spec, wrong) in enumerate(
        zip(specs(optimizer=["sgd", "adam"], seeds="1..3"), [*SGD, *ADAM], strict=True)
    )
]
IMAGES = {job.id: images(wrong) for job, wrong in zip(JOBS, [*SGD, *ADAM], strict=True)}


def errors(jobs: Sequence[JobRecord] = JOBS, found: Mapping[str, ResultImages] = IMAGES) -> ImageErrors:
    return image_errors(compare(jobs, [], {}, ComparisonParams(by="optimizer")), found)


def test_arms_are_those_of_the_comparison() -> None:
    found = errors()
    assert [arm.label for arm in found.arms] == ["adam", "sgd"]
    adam, sgd = found.arms
    assert sgd.accuracy == pytest.approx(1 - 40 / 1500)
    assert list(adam.jobs) == [1, 2, 3]
    assert (found.without, adam.missing) == ([], 0)


def test_confusion_is_the_sum_over_the_seeds() -> None:
    sgd = errors().arms[1]
    expected = np.sum([np.asarray(images(wrong).confusion) for wrong in SGD], axis=0)
    assert sgd.confusion is not None
    assert sgd.confusion == expected.tolist()
    assert sum(row[0] for row in sgd.confusion[1:]) == 40


def test_accuracy_of_a_class_is_over_its_images_and_seeds() -> None:
    sgd = errors().arms[1]
    for number, each in enumerate(sgd.classes):
        wrong = sum(int(LABELS[image]) == number for seed in SGD for image in seed)
        assert each.images == np.count_nonzero(np.equal(LABELS, number))
        assert each.accuracy == pytest.approx(1 - wrong / (3 * each.images))
        assert each.accuracy is not None
        assert each.interval == wilson_interval(each.accuracy, each.images)
        assert each.taken_for == (0 if wrong else None)
        assert each.taken_share == pytest.approx(wrong / (3 * each.images))


def test_wilson_interval() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for count, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        interval = wilson_interval(count / n, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    # Without the bounds, rounding would exceed them for these numbers of images.
    assert wilson_interval(1.0, 9).high == wilson_interval(1.0, 20).high == 1.0
    assert wilson_interval(0.0, 21).low == 0.0


def test_churn_of_seeds_is_the_mean_over_their_pairs() -> None:
    sgd = errors().arms[1]
    sets = [set(wrong) for wrong in SGD]
    differences = [len(a ^ b) / 500 for a, b in ((sets[0], sets[1]), (sets[0], sets[2]), (sets[1], sets[2]))]
    assert sgd.churn == pytest.approx(sum(differences) / 3)


def test_churn_between_arms_is_the_mean_over_common_seeds() -> None:
    (pair,) = errors().pairs
    differences = [len(set(a) ^ set(b)) / 500 for a, b in zip(ADAM, SGD, strict=True)]
    assert (pair.a, pair.b, pair.seeds) == ("adam", "sgd", [1, 2, 3])
    assert pair.churn == pytest.approx(sum(differences) / 3)


def test_images_that_every_seed_gets_wrong() -> None:
    found = errors()
    adam, sgd = found.arms
    assert sgd.always_wrong == NOT_ZEROS[5:10]
    assert adam.always_wrong == NOT_ZEROS[6:8]
    assert found.always_wrong == {"digits": NOT_ZEROS[6:8]}


def test_calibration_is_summed_over_the_seeds() -> None:
    sgd = errors().arms[1]
    assert sgd.calibration[13] == pytest.approx((1500, 1350.0, 1460))
    assert sgd.calibration_errors == pytest.approx({1: 0.06, 2: 0.08, 3: 0.08})


def test_arm_with_one_seed_has_no_churn() -> None:
    arm = errors(JOBS[:1]).arms[0]
    assert (arm.churn, arm.always_wrong) == (None, SGD[0])


def test_results_without_images_are_left_out() -> None:
    found = errors(found={job.id: IMAGES[job.id] for job in JOBS[:2]})
    assert [(arm.label, list(arm.jobs), arm.missing) for arm in found.arms] == [("sgd", [1, 2], 1)]
    assert found.without == ["adam"]
    assert found.pairs == []


def test_failed_job_is_no_result() -> None:
    assert errors([*JOBS[:2], failed_job(JOBS[2].spec, 2)]).arms[0].missing == 0


def shown(test_set: bool = True) -> ExperimentErrors:
    found = errors()

    def wrong(indices: Sequence[int]) -> list[WrongImage]:
        return [WrongImage(i, int(LABELS[i]) if test_set else None, 0 if test_set else None, 3) for i in indices]

    return ExperimentErrors(
        found,
        {arm.label: wrong(arm.always_wrong) for arm in found.arms},
        {name: wrong(indices) for name, indices in found.always_wrong.items()},
        {"digits": read_test_set(DIGITS, Path("nowhere"))} if test_set else {},
        ["a note"],
    )


def printed(found: ExperimentErrors, width: int = 80) -> str:
    out = io.StringIO()
    error_tables.print_errors(Console(file=out, width=width), found)
    return out.getvalue()


@pytest.mark.parametrize("test_set", [True, False])
def test_text_fits_into_80_columns(test_set: bool) -> None:
    lines = printed(shown(test_set)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "! a note"
    assert "always wrong on digits with every arm: 2 images of 500" in lines
    matrix = lines[lines.index(next(line for line in lines if line.startswith("true class \\ predicted"))) + 2 :]
    assert [line.split()[0] for line in matrix[:10]] == [str(number) for number in range(10)]


def test_json_and_csv_have_all_images() -> None:
    document = json.loads(json.dumps(error_tables.errors_document(shown())))
    assert [arm["arm"] for arm in document["arms"]] == ["adam", "sgd"]
    assert [each["image"] for each in document["arms"][1]["always_wrong"]] == NOT_ZEROS[5:10]
    assert document["arms"][1]["calibration_error"] == pytest.approx(0.22 / 3)
    assert [each["image"] for each in document["always_wrong"]["digits"]] == NOT_ZEROS[6:8]
    heading, *lines = error_tables.errors_csv(shown()).splitlines()
    assert heading == "arm,dataset,image,true,predicted,seeds_predicting"
    assert len(lines) == 7
    assert lines[0] == f"adam,digits,{NOT_ZEROS[6]},{LABELS[NOT_ZEROS[6]]},0,3"


def test_many_classes_have_their_most_frequent_confusions() -> None:
    arm = errors().arms[1]
    many = [[10 * (i == j) + (i == 0 and j == 11) * 6 for j in range(12)] for i in range(12)]
    pairs = SparseConfusion.of(many).pairs
    headings, lines = error_tables.confusion_table(replace(arm, confusion=many, confusions=pairs))
    assert headings == ("true class", "taken for", ">images")
    assert lines == [["0", "11", "2.0"]]


def test_section_has_charts_and_pictures_of_images_on_this_machine() -> None:
    section = error_section(shown(), ["adam", "sgd"])
    assert len(section.charts) == 3
    (wrong,) = section.wrong
    assert wrong.title == "2 images of the 500 of digits that all 6 results get wrong"
    assert wrong.shown[0].caption == f"{NOT_ZEROS[6]}: {LABELS[NOT_ZEROS[6]]}, taken for 0 by 3"
    assert wrong.shown[0].url.startswith("data:image/png;base64,")
    assert error_section(shown(test_set=False), ["adam", "sgd"]).wrong[0].shown == []


def test_data_set_that_is_not_on_this_machine_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mnist is not on this machine"):
        read_test_set(DATASETS["mnist"], tmp_path)


def test_class_names() -> None:
    assert DATASETS["fashion-mnist"].class_name(9) == "Ankle boot"
    assert DATASETS["mnist"].class_name(9) == "9"
    assert all(len(each.class_names) in (0, each.classes) for each in DATASETS.values())


def test_arms_without_a_common_seed_have_no_churn_between_them() -> None:
    apart = [job for job in JOBS if (job.spec.optimizer == "sgd") == (job.spec.seed == 1)]
    found = errors(apart)
    assert len(found.arms) == 2
    assert found.pairs == []
