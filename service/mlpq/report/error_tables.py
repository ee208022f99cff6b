"""The errors of an experiment as tables for the terminal and for pages, as JSON and as CSV."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mlpq import formatting
from mlpq.analysis.experiment_errors import ExperimentErrors, WrongImage
from mlpq.analysis.image_errors import ArmErrors
from mlpq.image_data import FeatureRows
from mlpq.image_records import CALIBRATION_BINS
from mlpq.report.tables import Cells, csv_text, print_tables
from mlpq.spec.datasets import Dataset

MOST_CLASSES = 10  # that a confusion matrix has in a terminal; of more, the most frequent confusions are shown
CLASSES_SHOWN = 40  # of more, the least accurate are shown
CONFUSIONS_SHOWN = 20
IMAGES_SHOWN = 10
FEATURES_SHOWN = 8  # of a row that is no image
METHODS = (
    "n: the seeds whose results say which test images they classify correctly. Intervals are Wilson's, 95 %, for as "
    "many images as the class has: they are about other images, not about other seeds. Calibration error: how far "
    f"confidence and accuracy are apart in {CALIBRATION_BINS} bins of confidence (ECE), mean ± standard deviation over "
    "the seeds. Churn: the share of the images that one seed gets right and another one wrong; between arms, that one "
    "arm gets right and the other one wrong with the same seed. Confusions are counts of images, the mean over the "
    "seeds. Always wrong: every seed is wrong. Images are numbered from 0, in the order of the test set."
)
CSV_HEADING = ("arm", "dataset", "image", "true", "predicted", "seeds_predicting")


def print_errors(out: Console, found: ExperimentErrors) -> None:
    """Print notes, the tables of all arms, those of each, and how the figures are computed."""
    for note in found.notes:
        out.print(f"! {note}", markup=False)
    print_tables(out, [arms_table(found), churn_table(found)])
    for arm in found.errors.arms:
        out.print(f"\n{arm.label}: {classes_title(arm)} of {arm.data}", markup=False, style="bold")
        print_tables(out, [classes_table(arm), confusion_table(arm), reliability_table(arm)])
        _print_wrong(out, f"always wrong with {arm.label}", found.of_arms[arm.label], arm.dataset)
    if len(found.errors.arms) > 1:
        datasets = {arm.data: arm.dataset for arm in found.errors.arms}
        for name, images in found.of_all.items():
            _print_wrong(out, f"always wrong on {name} with every arm", images, datasets[name])
    out.print(f"\n{METHODS}", markup=False, style="dim")


def _print_wrong(out: Console, title: str, images: Sequence[WrongImage], dataset: Dataset) -> None:
    out.print(f"\n{title}: {formatting.count_of(len(images), dataset.unit)} of {dataset.test}", markup=False)
    print_tables(out, [wrong_table(images[:IMAGES_SHOWN], dataset)])
    if len(images) > IMAGES_SHOWN:
        more = ", ".join(str(each.image) for each in images[IMAGES_SHOWN:][:IMAGES_SHOWN])
        rest = len(images) - 2 * IMAGES_SHOWN
        out.print(f"and {more}" + (f", and {rest} more: --format json has all" if rest > 0 else ""), markup=False)


def arms_table(found: ExperimentErrors) -> Cells:
    """One line per arm."""
    headings = ("arm", ">n", ">test %", ">calibration error %", ">churn %", ">always wrong")
    return headings, [
        [
            arm.label, str(len(arm.jobs)), _percent(arm.accuracy), calibration_error(arm),
            "" if arm.churn is None else _percent(arm.churn), str(len(arm.always_wrong)),
        ]
        for arm in found.errors.arms
    ]  # fmt: skip


def churn_table(found: ExperimentErrors) -> Cells:
    """One line per pair of arms."""
    lines = [[f"{pair.a}, {pair.b}", str(len(pair.seeds)), _percent(pair.churn)] for pair in found.errors.pairs]
    return ("between arms, by seed", ">n", ">churn %"), lines


def classes_title(arm: ArmErrors) -> str:
    """ "classes", or "the 40 least accurate of 100 classes"."""
    n = len(arm.classes)
    return "classes" if n <= CLASSES_SHOWN else f"the {CLASSES_SHOWN} least accurate of {n} classes"


def classes_table(arm: ArmErrors) -> Cells:
    """One line per class; of many classes the least accurate, the worst first."""
    lines, shown = [], list(enumerate(arm.classes))
    if len(shown) > CLASSES_SHOWN:
        known = [(i, each) for i, each in shown if each.accuracy is not None]
        shown = sorted(known, key=lambda each: (each[1].accuracy, each[0]))[:CLASSES_SHOWN]
    for i, each in shown:
        interval = "" if each.interval is None else f"{_percent(each.interval.low)} to {_percent(each.interval.high)}"
        most = (
            ""
            if each.taken_for is None
            else f"{arm.dataset.class_name(each.taken_for)} ({_percent(each.taken_share)} %)"
        )
        accuracy = "" if each.accuracy is None else _percent(each.accuracy)
        lines.append([class_label(arm.dataset, i), str(each.images), accuracy, interval, most])
    return ("class", f">{arm.dataset.unit}s", ">accuracy %", ">95 % interval", "most often taken for"), lines


def confusion_table(arm: ArmErrors) -> Cells:
    """The confusion matrix; of many classes the most frequent confusions."""
    n, rows = len(arm.jobs), arm.confusion
    if rows is not None and len(rows) <= MOST_CLASSES:
        lines = [[class_label(arm.dataset, i), *(f"{count / n:.0f}" for count in row)] for i, row in enumerate(rows)]
        return ("true class \\ predicted", *(f">{i}" for i in range(len(rows)))), lines
    most = arm.confusions[:CONFUSIONS_SHOWN]
    lines = [[class_label(arm.dataset, i), class_label(arm.dataset, j), f"{count / n:.1f}"] for i, j, count in most]
    return ("true class", "taken for", f">{arm.dataset.unit}s"), lines


def reliability_table(arm: ArmErrors) -> Cells:
    """One line per bin of confidence that has images."""
    n, lines = len(arm.jobs), []
    for i, each in enumerate(arm.calibration):
        if each.images:
            ends = f"{100 * i / CALIBRATION_BINS:.0f} to {100 * (i + 1) / CALIBRATION_BINS:.0f} %"
            confidence, accuracy = each.confidence / each.images, each.correct / each.images
            lines.append([ends, f"{each.images / n:.1f}", _percent(confidence), _percent(accuracy)])
    return ("confidence", f">{arm.dataset.unit}s", ">mean confidence %", ">accuracy %"), lines


def wrong_table(images: Sequence[WrongImage], dataset: Dataset) -> Cells:
    """One line per image."""
    lines = [
        [
            str(each.image), "" if each.true is None else dataset.class_name(each.true),
            "" if each.predicted is None else f"{dataset.class_name(each.predicted)} ({each.seeds})",
        ]
        for each in images
    ]  # fmt: skip
    return (f">{dataset.unit}", "true class", "most often predicted (seeds)"), lines


def rows_table(images: Sequence[WrongImage], features: FeatureRows, dataset: Dataset) -> Cells:
    """As `wrong_table`, with the first features of each row."""
    headings, lines = wrong_table(images, dataset)
    names = [f">{name}" for name in features.names[:FEATURES_SHOWN]]
    values = [features.row(each.image)[:FEATURES_SHOWN] for each in images]
    return (*headings, *names), [
        [*line, *(f"{value:.6g}" for value in own)] for line, own in zip(lines, values, strict=True)
    ]


def class_label(dataset: Dataset, number: int) -> str:
    """ "9 Ankle boot", or "7" where the classes are digits."""
    name = dataset.class_name(number)
    return name if name == str(number) else f"{number} {name}"


def calibration_error(arm: ArmErrors) -> str:
    """Mean ± standard deviation over the seeds, in percent."""
    errors = [100 * error for error in arm.calibration_errors.values()]
    return formatting.mean_and_sd(statistics.fmean(errors), statistics.stdev(errors) if len(errors) > 1 else None)


def errors_document(found: ExperimentErrors) -> dict[str, Any]:
    """All of it as JSON; shares are fractions, from 0 to 1."""
    return {
        "notes": list(found.notes),
        "arms": [_arm_document(arm, found.of_arms[arm.label]) for arm in found.errors.arms],
        "pairs": [
            {"a": pair.a, "b": pair.b, "seeds": list(pair.seeds), "churn": pair.churn} for pair in found.errors.pairs
        ],
        "always_wrong": {name: [_wrong_document(each) for each in images] for name, images in found.of_all.items()},
        "methods": METHODS,
    }


def errors_csv(found: ExperimentErrors) -> str:
    """A heading and one line for each image that every seed of an arm gets wrong."""
    return csv_text(CSV_HEADING, always_wrong_lines(found))


def always_wrong_lines(found: ExperimentErrors) -> list[list[Any]]:
    """One line for each image that every seed of an arm gets wrong, with the columns of CSV_HEADING."""
    lines = []
    for arm in found.errors.arms:
        for each in found.of_arms[arm.label]:
            names = [None if i is None else arm.dataset.class_name(i) for i in (each.true, each.predicted)]
            lines.append([arm.label, arm.data, each.image, *names, each.seeds])
    return lines


def _arm_document(arm: ArmErrors, wrong: Sequence[WrongImage]) -> dict[str, Any]:
    errors = list(arm.calibration_errors.values())
    return {
        "arm": arm.label,
        "dataset": arm.data,
        "seeds": list(arm.jobs),
        "results_without_images": arm.missing,
        "accuracy": arm.accuracy,
        "confusion": None if arm.confusion is None else [list(row) for row in arm.confusion],
        "confusions": None if arm.confusion is not None else [pair._asdict() for pair in arm.confusions],
        "classes": [
            {
                "class": i, "name": arm.dataset.class_name(i), "images": each.images, "accuracy": each.accuracy,
                "interval": None if each.interval is None else [each.interval.low, each.interval.high],
                "taken_for": each.taken_for,
                "taken_share": each.taken_share,
            }
            for i, each in enumerate(arm.classes)
        ],
        "calibration_error": statistics.fmean(errors),
        "calibration_errors": dict(arm.calibration_errors),
        "calibration": [each._asdict() for each in arm.calibration],
        "churn": arm.churn,
        "always_wrong": [_wrong_document(each) for each in wrong],
    }  # fmt: skip


def _wrong_document(image: WrongImage) -> dict[str, Any]:
    return {"image": image.image, "true": image.true, "predicted": image.predicted, "seeds_predicting": image.seeds}


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
