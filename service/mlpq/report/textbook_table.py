"""The textbook's figures beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from mlpq import formatting
from mlpq.records import EpochMetrics, JobRecord
from mlpq.report.tables import plain_table
from mlpq.spec.presets import TEXTBOOK_FIGURES, TextbookFigure


def textbook_table(records: Sequence[JobRecord], curves: Mapping[str, Sequence[EpochMetrics]]) -> Table | None:
    """The textbook's figures beside those of these jobs, as counts; None where the jobs do not follow its protocol.

    `curves` has the epochs of each job by its id.
    """
    protocol = ("fashion-mnist", 42, 10, 32)
    followed = ((job.spec.dataset, job.spec.seed, job.spec.epochs, job.spec.batch_size) for job in records)
    if any(each != protocol for each in followed):
        return None
    table = plain_table("textbook", ">epochs", ">printed", ">its loop", ">mlpq", ">mlpq %", ">difference")
    for figure in TEXTBOOK_FIGURES:
        epoch = _reached(figure, records, curves)
        cells = ["", "", ""]
        if epoch is not None:
            cells = [
                f"{epoch.test_correct}/{epoch.test_total}",
                formatting.percent(epoch.test_accuracy).removesuffix(" %"),
                f"{epoch.test_correct - figure.counted:+d}".replace("+0", "0"),
            ]
        table.add_row(figure.run, str(figure.epoch), figure.printed, f"{figure.counted}/10000", *cells)
    return table


def _reached(
    figure: TextbookFigure, records: Sequence[JobRecord], curves: Mapping[str, Sequence[EpochMetrics]]
) -> EpochMetrics | None:
    """The epoch that the figure is of; None where no job has reached it."""
    for job in records:
        run = (job.spec.optimizer, job.spec.hidden, job.parent_id is not None)
        if run == (figure.optimizer, figure.hidden, figure.is_continued):
            for epoch in curves[job.id]:
                if epoch.epoch == figure.epoch:
                    return epoch
    return None
