"""Which test images the arms of an experiment get wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from mlpq.analysis.experiment_errors import ExperimentErrors
from mlpq.lab.frames import frame
from mlpq.report import error_tables
from mlpq.report.notebook import Output, html, text

if TYPE_CHECKING:
    import pandas as pd

ARM_COLUMNS = ("arm", "dataset", "n", "accuracy", "calibration_error", "churn", "always_wrong")
PAIR_COLUMNS = ("a", "b", "n", "churn")
CLASS_COLUMNS = (
    "arm", "dataset", "class", "name", "images", "accuracy", "low", "high", "taken_for", "taken_share"
)  # fmt: skip
CONFUSION_COLUMNS = ("arm", "dataset", "true", "predicted", "images_per_seed")


class ErrorAnalysis:
    """What the arms of an experiment get wrong, as `mlpq errors` shows it.

    All shares are fractions, from 0 to 1. In a notebook it shows the tables, the calibration and the confusions.
    """

    def __init__(self, found: ExperimentErrors) -> None:
        self._found = found

    @property
    def notes(self) -> list[str]:
        """What is missing, such as results that do not say which images they classify correctly."""
        return list(self._found.notes)

    @property
    def arms(self) -> pd.DataFrame:
        """One row for each arm over its `n` seeds, with the number of images that every seed gets wrong.

        `churn` is the share of the images that one seed gets right and another one wrong.
        """
        rows = [{**row, "n": len(row["seeds"]), "always_wrong": len(row["always_wrong"])} for row in self._arms]
        return frame(rows, ARM_COLUMNS)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of arms: the share of the images that one gets right and the other one wrong."""
        rows = error_tables.errors_document(self._found)["pairs"]
        return frame([{**row, "n": len(row["seeds"])} for row in rows], PAIR_COLUMNS)

    @property
    def classes(self) -> pd.DataFrame:
        """One row for each class of each arm: its accuracy with Wilson's 95 % interval, from `low` to `high`.

        `taken_for` is the class that its wrong images are most often taken for, in the share `taken_share` of them all.
        """
        rows = []
        for arm, row in zip(self._found.errors.arms, self._arms, strict=True):
            for each in row["classes"]:
                low, high = each["interval"] or (None, None)
                taken_for = None if each["taken_for"] is None else arm.dataset.class_name(each["taken_for"])
                own = {"arm": arm.label, "dataset": arm.data, "low": low, "high": high, "taken_for": taken_for}
                rows.append({**each, **own})
        return frame(rows, CLASS_COLUMNS)

    @property
    def confusions(self) -> pd.DataFrame:
        """One row for each class that is taken for another one in an arm, the most frequent first."""
        rows = []
        for arm in self._found.errors.arms:
            for each in arm.confusions:
                true, predicted = arm.dataset.class_name(each.true), arm.dataset.class_name(each.predicted)
                values = (arm.label, arm.data, true, predicted, each.images / len(arm.jobs))
                rows.append(dict(zip(CONFUSION_COLUMNS, values, strict=True)))
        return frame(rows, CONFUSION_COLUMNS)

    @property
    def always_wrong(self) -> pd.DataFrame:
        """One row for each image that every seed of an arm gets wrong, by its place in the test set, from 0.

        `true` is missing where the data set is not on this machine, and `predicted` where no file of weights is.
        """
        heading = error_tables.CSV_HEADING
        rows = [dict(zip(heading, line, strict=True)) for line in error_tables.always_wrong_lines(self._found)]
        return frame(rows, heading)

    @property
    def _arms(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = error_tables.errors_document(self._found)["arms"]
        return rows

    def __repr__(self) -> str:
        return text(self._print)

    def _print(self, out: Console) -> None:
        error_tables.print_errors(out, self._found)

    def _repr_html_(self) -> str:
        from mlpq.report.error_section import notebook_charts, notebook_tables

        own = [("", error_tables.arms_table(self._found)), ("", error_tables.churn_table(self._found))]
        return html(
            Output(
                "Which test images does each arm get wrong?",
                notes=self.notes,
                tables=[each for each in own if each[1][1]],
                charts=notebook_charts(self._found),
                folded=notebook_tables(self._found),
                below=error_tables.METHODS,
            )
        )
