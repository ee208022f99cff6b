"""A comparison of jobs that are not finished gives advice that fits them."""

from __future__ import annotations

from mlpq.analysis.comparison import compare
from mlpq.analysis.fairness import notes
from mlpq.analysis.params import ComparisonParams
from tests.support.result_rows import job_record, specs


def test_settings_of_queued_jobs_with_a_validation_split_are_chosen_later() -> None:
    swept = [*specs(optimizer="sgd", lr="0.1,0.01", validation=0.1), *specs(optimizer="adam", validation=0.1)]
    queued = [job_record(spec, number) for number, spec in enumerate(swept)]
    found = notes(compare(queued, [], {}, ComparisonParams("optimizer", "accuracy", "", "")))
    assert any(
        note.startswith("no setting was chosen, since no seed has a validation figure in every") for note in found
    )
    assert not any("--validation" in note for note in found)
