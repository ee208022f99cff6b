"""What a report shows of the errors of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlpq import formatting
from mlpq.analysis.experiment_errors import ExperimentErrors, WrongImage
from mlpq.analysis.image_errors import ArmErrors
from mlpq.image_data import TestSet
from mlpq.report import error_charts
from mlpq.report.drawing import PAGE, Chart, Style, for_page
from mlpq.report.error_tables import (
    METHODS,
    arms_table,
    churn_table,
    classes_table,
    classes_title,
    confusion_table,
    rows_table,
    wrong_table,
)
from mlpq.report.tables import Cells
from mlpq.spec.datasets import Dataset

ARMS_DRAWN = 6
PICTURES = 48


@dataclass(frozen=True, slots=True)
class WrongPicture:
    """A test image that every seed gets wrong: its URL, and what it is and what it is taken for."""

    url: str
    caption: str


@dataclass(frozen=True, slots=True)
class WrongPictures:
    """The images of a data set that every seed gets wrong, of which some are shown, if they are on this machine.

    Of rows that are no images, `rows` is a table.
    """

    title: str
    indices: str
    shown: Sequence[WrongPicture]
    rows: Cells | None


@dataclass(frozen=True, slots=True)
class ErrorSection:
    """What the template `errors.html` shows; `classes` has the table of each arm that is drawn."""

    notes: Sequence[str]
    tables: Sequence[tuple[str, Cells]]
    charts: Sequence[str]
    classes: Sequence[tuple[str, Cells]]
    wrong: Sequence[WrongPictures]
    methods: str


def error_section(found: ExperimentErrors, labels: Sequence[str]) -> ErrorSection:
    """The section; `labels` are those of all arms of the comparison, so that colors agree with the other charts."""
    arms = found.errors.arms
    drawn = arms[:ARMS_DRAWN]
    more = (
        [f"{len(arms) - len(drawn)} more arms are not drawn: mlpq errors shows them"] if len(arms) > len(drawn) else []
    )
    tables = (("Errors by arm", arms_table(found)), ("Churn between arms", churn_table(found)))
    return ErrorSection(
        notes=[*found.notes, *more],
        tables=[(title, cells) for title, cells in tables if cells[1]],
        charts=for_page(lambda style: _charts(drawn, labels, style)),
        classes=[each for arm in drawn for each in _class_tables(arm)],
        wrong=[_wrong_pictures(found, name) for name in found.of_all],
        methods=METHODS,
    )


def notebook_charts(found: ExperimentErrors) -> list[tuple[str, Chart]]:
    """The charts with their titles."""
    arms = found.errors.arms[:ARMS_DRAWN]
    titles = ["Reliability", *(f"Confusions of {arm.label}" for arm in arms if _is_drawn(arm))]
    return list(zip(titles, _charts(arms, [arm.label for arm in found.errors.arms], PAGE), strict=True))


def notebook_tables(found: ExperimentErrors) -> list[tuple[str, Cells]]:
    """Tables that can be opened: the classes of each arm, and the images that all of its seeds get wrong."""
    tables = []
    for arm in found.errors.arms:
        tables += _class_tables(arm)
        wrong = found.of_arms[arm.label]
        tables.append((f"Always wrong with {arm.label}", wrong_table(wrong[:PICTURES], arm.dataset)))
    return [each for each in tables if each[1][1]]


def _is_drawn(arm: ArmErrors) -> bool:
    """Whether its confusion matrix is drawn."""
    return arm.confusion is not None and len(arm.confusion) <= error_charts.MOST_DRAWN


def _charts(arms: Sequence[ArmErrors], labels: Sequence[str], style: Style) -> list[Chart]:
    confusions = [error_charts.confusion(arm, style) for arm in arms if _is_drawn(arm)]
    return [error_charts.reliability(arms, labels, style), *confusions]


def _class_tables(arm: ArmErrors) -> list[tuple[str, Cells]]:
    title = classes_title(arm)
    tables = [(f"{title[0].upper()}{title[1:]} of {arm.label}", classes_table(arm))]
    return tables if _is_drawn(arm) else [*tables, (f"Confusions of {arm.label}", confusion_table(arm))]


def _wrong_pictures(found: ExperimentErrors, name: str) -> WrongPictures:
    arms = [arm for arm in found.errors.arms if arm.data == name]
    images, test_set, dataset = found.of_all[name], found.test_sets.get(name), arms[0].dataset
    seeds = sum(len(arm.jobs) for arm in arms)
    count = formatting.count_of(len(images), dataset.unit)
    title = f"{count} of the {dataset.test} of {name} that all {formatting.count_of(seeds, 'result')} get wrong"
    has_pictures = test_set is not None and test_set.pixels is not None
    shown = [_wrong_picture(each, test_set, dataset) for each in images[:PICTURES]] if test_set and has_pictures else []
    rows = rows_table(images[:PICTURES], test_set.rows, dataset) if test_set and test_set.rows else None
    return WrongPictures(title, ", ".join(str(each.image) for each in images), shown, rows)


def _wrong_picture(wrong: WrongImage, test_set: TestSet, dataset: Dataset) -> WrongPicture:
    caption = f"{wrong.image}: {dataset.class_name(int(test_set.labels[wrong.image]))}"
    if wrong.predicted is not None:
        caption += f", taken for {dataset.class_name(wrong.predicted)} by {wrong.seeds}"
    return WrongPicture(error_charts.picture(test_set, wrong.image), caption)
