"""Tables of jobs and arms in every format: n and spread with each mean, and the textbook's figures beside ours."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.table import Table

from mlpq import formatting
from mlpq.analysis.arms import arms, group_specs
from mlpq.analysis.summary import summarize
from mlpq.jobs import Engine, Outcome
from mlpq.records import EpochMetrics, JobRecord
from mlpq.report.job_details import print_job
from mlpq.report.markup import MARKDOWN
from mlpq.report.tables import (
    arms_table,
    console,
    jobs_csv,
    jobs_json,
    jobs_table,
    plan_table,
    results_markup,
    results_table,
)
from mlpq.report.textbook_table import textbook_table
from mlpq.results_view import COLUMNS
from mlpq.spec.presets import TEXTBOOK_FIGURES, preset_jobs
from mlpq.spec.sweep import Sweep
from tests.support.result_rows import curve, failed_job, job_record, specs, with_figures


def shown(table: Table) -> str:
    out = console()
    with out.capture() as capture:
        out.print(table)
    return capture.get()


def test_a_summary_has_n_mean_and_sample_standard_deviation() -> None:
    summary = summarize([0.1, 0.2, 0.6])
    assert (summary.n, summary.least, summary.most) == (3, 0.1, 0.6)
    assert summary.mean == pytest.approx(0.3)
    assert summary.sd == pytest.approx(statistics.stdev([0.1, 0.2, 0.6]))
    assert summarize([0.5]).sd is None


def test_jobs_that_differ_only_in_the_seed_are_one_arm() -> None:
    some = specs(optimizer=["sgd", "adam"], seeds="0..2")
    found = arms([job_record(spec, number, 400 + number) for number, spec in enumerate(some)])
    assert [(arm.spec.optimizer, len(arm.records), arm.accuracy.n) for arm in found if arm.accuracy] == [
        ("sgd", 3, 3),
        ("adam", 3, 3),
    ]
    assert found[0].accuracy is not None
    assert found[0].accuracy.mean == pytest.approx(401 / 500)


def test_a_spec_that_ran_several_times_counts_once() -> None:
    """Its runs are one sample: counting each would narrow the spread."""
    first, second = specs(seeds="1,2")
    runs = [(first, 400), (second, 450), (first, 400), (first, 400)]
    (arm,) = arms([job_record(spec, number, correct) for number, (spec, correct) in enumerate(runs)])
    assert arm.accuracy is not None
    assert (len(arm.records), arm.accuracy.n) == (2, 2)
    assert arm.accuracy.mean == pytest.approx(0.85)


def test_a_successful_retry_replaces_the_failure_before_it() -> None:
    (spec,) = specs()
    (arm,) = arms([failed_job(spec, 1), job_record(spec, 2, 400)])
    assert (len(arm.records), arm.accuracy and arm.accuracy.n) == (1, 1)


def test_a_success_is_kept_after_a_later_failure() -> None:
    (spec,) = specs()
    (arm,) = arms([job_record(spec, 1, 400), failed_job(spec, 2)])
    assert (len(arm.records), arm.accuracy and arm.accuracy.n) == (1, 1)


def test_unfinished_jobs_are_counted_but_not_averaged() -> None:
    one, two = specs(seeds="1,2")
    (arm,) = arms([job_record(one, 1, 400), job_record(two, 2)])
    assert (len(arm.records), arm.accuracy and arm.accuracy.n) == (2, 1)
    assert "1 of 2" in shown(arms_table([arm]))


def test_jobs_with_different_initializations_are_different_arms() -> None:
    some = [*specs(seeds="0..1"), *specs(seeds="0..1", initialisation="truncated-normal")]
    text = shown(arms_table(arms([job_record(spec, number, 400) for number, spec in enumerate(some)])))
    assert "initialisation=torch" in text
    assert "initialisation=truncated-normal" in text
    assert "truncated-normal" in shown(plan_table(group_specs(some)))


def test_jobs_that_continue_from_different_arms_are_different_arms() -> None:
    parents = specs(optimizer=["sgd:lr=0.1", "sgd:lr=0.2"], seeds="0")
    records = [job_record(parent, number, 300) for number, parent in enumerate(parents)]
    for number, parent in enumerate(parents):
        (child,) = Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": 0}).jobs(parent)
        records.append(job_record(child, 10 + number, 400, parent_id=records[number].id))
    found = arms(records)
    assert len(found) == 4
    assert "adam lr=0.001, continued from lr=0.2" in shown(arms_table(found))


def test_jobs_that_continue_from_one_arm_elsewhere_are_one_arm() -> None:
    """Their parents differ only in the seed."""
    parents = [job_record(spec, number, 300) for number, spec in enumerate(specs(seeds="0..2"))]
    children = [
        job_record(child, 10 + number, 400, parent_id=parents[number].id)
        for number, parent in enumerate(specs(seeds="0..2"))
        for child in Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": number}).jobs(parent)
    ]
    (arm,) = arms(children, ancestors=parents)
    assert arm.accuracy is not None
    assert arm.accuracy.n == 3
    assert "continued from sgd lr=0.001" in shown(arms_table([arm]))


def test_names_are_not_interpreted_as_markup() -> None:
    (spec,) = specs()
    for name in ("[/red]x", "[bold]b[link]"):
        assert name in shown(jobs_table([job_record(spec, 1, 400, experiment=name)]))


def test_no_mean_is_shown_without_n_and_spread() -> None:
    records = [job_record(spec, number, 400 + 10 * number) for number, spec in enumerate(specs(seeds="0..2"))]
    text = shown(arms_table(arms(records)))
    assert "82.00 ± 2.00" in text
    assert "mean ± sd" in text
    assert " n " in text


def protocol() -> tuple[list[JobRecord], dict[str, list[EpochMetrics]]]:
    """The textbook's jobs with exactly the textbook's counts, and the curve of each."""
    _, some = preset_jobs("textbook", {})
    counts = [[7867] * 10, [6404] * 10, [8400, 8450, 8502, *[8600] * 6, 8705]]
    records = [
        with_figures(job_record(spec, number, counts[number][-1]), test_total=10_000)
        for number, spec in enumerate(some)
    ]
    records[2] = replace(records[2], parent_id=records[1].id)
    curves = {job.id: curve(correct, total=10_000) for job, correct in zip(records, counts, strict=True)}
    return records, curves


def test_the_textbook_table_has_both_counts_and_their_difference() -> None:
    records, curves = protocol()
    curves[records[1].id][-1] = replace(curves[records[1].id][-1], test_correct=6401)
    table = textbook_table(records, curves)
    assert table is not None
    text = shown(table)
    for figure in TEXTBOOK_FIGURES:
        assert figure.printed in text
        assert f"{figure.counted}/10000" in text
    assert "6401/10000" in text
    assert [line.split()[-1] for line in text.splitlines()[2:]] == ["0", "-3", "0", "0"]
    assert "87.05" in text


def test_an_epoch_that_was_not_reached_is_blank_in_the_textbook_table() -> None:
    records, curves = protocol()
    del curves[records[2].id][2:]
    table = textbook_table(records, curves)
    assert table is not None
    text = shown(table)
    assert "8502/10000" in text
    assert "87.05" not in text


@pytest.mark.parametrize("change", [{"dataset": "digits"}, {"seed": 1}, {"epochs": 2}, {"batch_size": 64}])
def test_another_protocol_has_no_textbook_table(change: Mapping[str, object]) -> None:
    records, curves = protocol()
    records[1] = replace(records[1], spec=records[1].spec.model_copy(update=change))
    assert textbook_table(records, curves) is None


def various_jobs() -> list[JobRecord]:
    """One that succeeded, one that is queued and one that diverged, each with other settings."""
    (plain,) = specs()
    (odd,) = specs(hidden="16,8", bias=False, optimizer="adam:betas=0.8/0.99", dropout="0.1", validation="0.2",
                   initialisation="truncated-normal")  # fmt: skip
    (linear,) = specs(hidden="none", optimizer="sgd:momentum=0.9")
    return [
        job_record(plain, 1, 450),
        job_record(odd, 2),
        failed_job(linear, 3, Outcome.DIVERGED, error='the loss became "nan", | in epoch 1'),
    ]


def test_json_is_a_list_of_objects_with_nulls() -> None:
    documents = json.loads(jobs_json(various_jobs()))
    assert [tuple(document) for document in documents] == [COLUMNS] * 3
    assert documents[1]["test_correct"] is None
    assert documents[1]["hidden"] == [16, 8]
    assert documents[0]["created_at"] == "2026-03-02T09:30:00+00:00"
    assert [document["status"] for document in documents] == ["succeeded", "queued", "failed"]
    assert json.loads(jobs_json([])) == []


def test_csv_has_a_heading_and_one_line_per_job() -> None:
    lines = list(csv.DictReader(io.StringIO(jobs_csv(various_jobs()))))
    assert tuple(lines[0]) == COLUMNS
    assert [line["hidden"] for line in lines] == ["32", "16,8", "none"]
    assert [line["bias"] for line in lines] == ["true", "false", "true"]
    assert [line["test_correct"] for line in lines] == ["450", "", ""]
    assert [line["outcome"] for line in lines] == ["succeeded", "", "diverged"]
    assert lines[0]["created_at"] == "2026-03-02T09:30:00.000000+00:00"
    assert json.loads(lines[1]["optimizer_settings"])["betas"] == [0.8, 0.99]
    assert lines[2]["error"] == 'the loss became "nan", | in epoch 1'


def test_markdown_is_two_tables_with_equally_many_cells_in_every_line() -> None:
    for table in results_markup(various_jobs(), [], None, MARKDOWN).split("\n\n"):
        lines = table.splitlines()
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
        assert set(lines[1]) == set("| -")
        assert len(lines) == 5


def test_tables_show_what_is_not_at_its_default_and_the_status() -> None:
    text = shown(results_table(various_jobs()))
    for piece in (
        "450/500",
        "90.00",
        "logistic",
        "no bias",
        "truncated-normal",
        "betas=0.8/0.99",
        "momentum=0.9",
        "diverged",
        "queued",
    ):
        assert piece in text


def test_a_plan_has_one_line_per_arm() -> None:
    text = shown(plan_table(group_specs(specs(optimizer=["sgd", "adam"], seeds="0..9"))))
    assert text.count("0..9") == 2
    assert "2,410" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0412, "41 ms"), (0.3, "0.3 s"), (9.94, "9.9 s"), (59.4, "59 s"), (185, "3:05"), (3723, "1:02:03")],
)
def test_seconds_are_short(value: float | None, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(
    ("values", "text"), [([42], "42"), ([1, 2], "1,2"), ([0, 1, 2, 3], "0..3"), ([3, 1], "3,1"), ([1, 3, 5], "1,3,5")]
)
def test_seeds_are_formatted_as_they_are_typed(values: list[int], text: str) -> None:
    assert formatting.seeds(values) == text


@pytest.mark.parametrize(
    ("engine", "gang_size", "text"),
    [(Engine.GANG, 8, "gang of 8"), (Engine.GANG, 1, "gang of 1"), (Engine.PLAIN, 1, "plain")],
)
def test_the_details_of_a_job_name_its_engine(engine: Engine, gang_size: int, text: str) -> None:
    (spec,) = specs()
    out = console()
    with out.capture() as capture:
        print_job(out, with_figures(job_record(spec, 1, 400), engine=engine, gang_size=gang_size), [], [])
    (line,) = [line for line in capture.get().splitlines() if line.strip().startswith("engine")]
    assert line.split(maxsplit=1)[1].strip() == text
