"""What a person sees: arms with n and spread, the source's figures beside ours, and the same rows in every format."""

from __future__ import annotations

import csv
import io
import json
import statistics
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.table import Table

from mlpq import formatting
from mlpq.analysis.arms import arms
from mlpq.analysis.summary import summarize
from mlpq.report.job_details import print_job
from mlpq.report.tables import (
    arms_table,
    console,
    jobs_table,
    plan_table,
    results_markdown,
    results_table,
    textbook_table,
    to_csv,
    to_json,
)
from mlpq.spec.job import Sweep
from mlpq.spec.presets import FIGURES, preset_jobs
from mlpq.store.queries import COLUMNS
from tests.support.result_rows import row, specs


def shown(table: Table) -> str:
    out = console()
    with out.capture() as capture:
        out.print(table)
    return capture.get()


def test_a_summary_has_n_mean_and_the_sample_standard_deviation() -> None:
    summary = summarize([0.1, 0.2, 0.6])
    assert (summary.n, summary.least, summary.most) == (3, 0.1, 0.6)
    assert summary.mean == pytest.approx(0.3)
    assert summary.sd == pytest.approx(statistics.stdev([0.1, 0.2, 0.6]))
    assert summarize([0.5]).sd is None


def test_an_arm_holds_the_jobs_that_differ_only_in_the_seed() -> None:
    some = specs(optimizer=["sgd", "adam"], seeds="0..2")
    found = arms([row(spec, number, 400 + number) for number, spec in enumerate(some)])
    assert [(arm.first["optimizer"], len(arm.rows), arm.accuracy.n) for arm in found if arm.accuracy] == [
        ("sgd", 3, 3),
        ("adam", 3, 3),
    ]
    assert found[0].accuracy is not None
    assert found[0].accuracy.mean == pytest.approx(401 / 500)


def test_a_spec_that_ran_several_times_counts_once() -> None:
    """Its runs are one sample: counting them again would narrow the spread."""
    first, second = specs(seeds="1,2")
    rows = [row(first, 1, 400), row(second, 2, 450), row(first, 3, 400), row(first, 4, 400)]
    (arm,) = arms(rows)
    assert arm.accuracy is not None
    assert (len(arm.rows), arm.accuracy.n) == (2, 2)
    assert arm.accuracy.mean == pytest.approx(0.85)


def test_a_retry_that_succeeded_stands_for_the_failure_before_it() -> None:
    (spec,) = specs()
    (arm,) = arms([row(spec, 1, status="failed"), row(spec, 2, 400)])
    assert (len(arm.rows), arm.accuracy and arm.accuracy.n) == (1, 1)


def test_a_success_stands_although_a_later_run_failed() -> None:
    (spec,) = specs()
    (arm,) = arms([row(spec, 1, 400), row(spec, 2, status="failed")])
    assert (len(arm.rows), arm.accuracy and arm.accuracy.n) == (1, 1)


def test_unfinished_jobs_are_counted_but_not_averaged() -> None:
    one, two = specs(seeds="1,2")
    (arm,) = arms([row(one, 1, 400), row(two, 2)])
    assert (len(arm.rows), arm.accuracy and arm.accuracy.n) == (2, 1)
    assert "1 of 2" in shown(arms_table([arm]))


def test_jobs_of_different_initialisations_are_different_arms() -> None:
    some = [*specs(seeds="0..1"), *specs(seeds="0..1", initialisation="truncated-normal")]
    text = shown(arms_table(arms([row(spec, number, 400) for number, spec in enumerate(some)])))
    assert "MLP 32 sigmoid, sgd" in text
    assert "MLP 32 sigmoid, truncated-normal, sgd" in text
    assert "truncated-normal" in shown(plan_table(some))


def test_going_on_from_different_arms_makes_different_arms() -> None:
    parents = specs(optimizer=["sgd:lr=0.1", "sgd:lr=0.2"], seeds="0")
    rows = [row(parent, number, 300) for number, parent in enumerate(parents)]
    for number, parent in enumerate(parents):
        (child,) = Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": 0}).jobs(parent)
        rows.append(row(child, 10 + number, 400, parent_id=rows[number]["id"]))
    found = arms(rows)
    assert len(found) == 4
    assert "adam lr=0.001, on from sgd lr=0.2" in shown(arms_table(found))


def test_jobs_that_go_on_from_one_arm_elsewhere_are_one_arm() -> None:
    """Their parents differ, but only in the seed: the mean over them must not go unshown."""
    parents = [row(spec, number, 300) for number, spec in enumerate(specs(seeds="0..2"))]
    children = [
        row(child, 10 + number, 400, parent_id=parents[number]["id"])
        for number, parent in enumerate(specs(seeds="0..2"))
        for child in Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": number}).jobs(parent)
    ]
    (arm,) = arms(children, ancestors=parents)
    assert arm.accuracy is not None
    assert arm.accuracy.n == 3
    assert "on from sgd lr=0.001" in shown(arms_table([arm]))


def test_what_people_typed_is_no_markup() -> None:
    (spec,) = specs()
    for name in ("[/red]x", "[bold]b[link]"):
        assert name in shown(jobs_table([row(spec, 1, 400, experiment=name)]))


def test_no_mean_is_shown_without_n_and_spread() -> None:
    rows = [row(spec, number, 400 + 10 * number) for number, spec in enumerate(specs(seeds="0..2"))]
    text = shown(arms_table(arms(rows)))
    assert "82.00 ± 2.00" in text
    assert "mean ± sd" in text
    assert " n " in text


def protocol() -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """The textbook's jobs as rows with the source's very counts, and the curve of each."""
    _, some = preset_jobs("textbook", {})
    counts = [[7867] * 10, [6404] * 10, [8400, 8450, 8502, *[8600] * 6, 8705]]
    rows = [row(spec, number, counts[number][-1], test_total=10_000) for number, spec in enumerate(some)]
    rows[2]["parent_id"] = rows[1]["id"]
    curves = {
        found["id"]: [
            {"epoch": epoch + 1, "test_correct": correct, "test_total": 10_000} for epoch, correct in enumerate(curve)
        ]
        for found, curve in zip(rows, counts, strict=True)
    }
    return rows, curves


def test_the_sources_figures_stand_beside_ours_as_counts() -> None:
    rows, curves = protocol()
    curves[rows[1]["id"]][-1]["test_correct"] = 6401
    table = textbook_table(rows, curves)
    assert table is not None
    text = shown(table)
    for figure in FIGURES:
        assert figure.printed in text
        assert f"{figure.counted}/10000" in text
    assert "6401/10000" in text
    assert [line.split()[-1] for line in text.splitlines()[2:]] == ["0", "-3", "0", "0"]
    assert "87.05" in text


def test_a_figure_that_was_not_reached_is_left_blank() -> None:
    rows, curves = protocol()
    curves[rows[2]["id"]] = curves[rows[2]["id"]][:2]
    table = textbook_table(rows, curves)
    assert table is not None
    text = shown(table)
    assert "8502/10000" in text
    assert "87.05" not in text


@pytest.mark.parametrize("change", [{"dataset": "digits"}, {"seed": 1}, {"epochs": 2}, {"batch_size": 64}])
def test_the_sources_figures_are_not_claimed_for_another_protocol(change: dict[str, object]) -> None:
    rows, curves = protocol()
    assert textbook_table([rows[0], {**rows[1], **change}, rows[2]], curves) is None


def rows_of_every_kind() -> list[dict[str, Any]]:
    (plain,) = specs()
    (odd,) = specs(hidden="16,8", bias=False, optimizer="adam:betas=0.8/0.99", dropout="0.1", validation="0.2",
                   initialisation="truncated-normal")  # fmt: skip
    (deep,) = specs(hidden="none", optimizer="sgd:momentum=0.9")
    return [
        row(plain, 1, 450),
        row(odd, 2),
        row(deep, 3, status="failed", outcome="diverged", error='the loss became "nan", | in epoch 1'),
    ]


def test_json_is_a_list_of_objects_with_nulls() -> None:
    rows = json.loads(to_json(rows_of_every_kind()))
    assert [list(found) for found in rows] == [list(found) for found in rows_of_every_kind()]
    assert rows[1]["test_correct"] is None
    assert rows[1]["hidden"] == [16, 8]
    assert json.loads(to_json([])) == []


def test_csv_has_a_heading_and_one_line_a_job() -> None:
    found = list(csv.DictReader(io.StringIO(to_csv(rows_of_every_kind(), COLUMNS))))
    assert tuple(found[0]) == COLUMNS
    assert [line["hidden"] for line in found] == ["32", "16,8", "none"]
    assert [line["bias"] for line in found] == ["true", "false", "true"]
    assert [line["test_correct"] for line in found] == ["450", "", ""]
    assert json.loads(found[1]["optimizer_settings"])["betas"] == [0.8, 0.99]
    assert found[2]["error"] == 'the loss became "nan", | in epoch 1'


def test_markdown_is_two_tables_with_as_many_cells_in_every_line() -> None:
    for table in results_markdown(rows_of_every_kind(), [], None).split("\n\n"):
        lines = table.splitlines()
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
        assert set(lines[1]) == set("| -")
        assert len(lines) == 5


def test_tables_say_what_is_not_the_default_and_what_became_of_a_job() -> None:
    text = shown(results_table(rows_of_every_kind()))
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


def test_a_plan_shows_one_line_an_arm() -> None:
    text = shown(plan_table(specs(optimizer=["sgd", "adam"], seeds="0..9")))
    assert text.count("0..9") == 2
    assert "2,410" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0412, "41 ms"), (0.3, "0.3 s"), (9.94, "9.9 s"), (59.4, "59 s"), (185, "3:05"), (3723, "1:02:03")],
)
def test_seconds_are_written_short(value: float | None, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(
    ("values", "text"), [([42], "42"), ([1, 2], "1,2"), ([0, 1, 2, 3], "0..3"), ([3, 1], "3,1"), ([1, 3, 5], "1,3,5")]
)
def test_seeds_are_written_as_they_are_typed(values: list[int], text: str) -> None:
    assert formatting.seeds(values) == text


@pytest.mark.parametrize(
    ("engine", "gang_size", "told"), [("gang", 8, "gang of 8"), ("gang", 1, "gang of 1"), ("plain", 1, "plain")]
)
def test_what_is_shown_of_a_job_says_which_engine_trained_it(engine: str, gang_size: int, told: str) -> None:
    (spec,) = specs()
    placed = {"device": "cpu", "world_size": 1, "engine": engine, "gang_size": gang_size, "best_epoch": 10}
    shown_row = row(spec, 1, 400, created_at=datetime.now(UTC), **placed)
    out = console()
    with out.capture() as capture:
        print_job(out, shown_row, [], [])
    (line,) = [line for line in capture.get().splitlines() if line.strip().startswith("engine")]
    assert line.split(maxsplit=1)[1].strip() == told
