"""Tables at every width of a terminal: nothing that identifies a row is dropped, and no figure is cut."""

from __future__ import annotations

import io
import random
import string
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from mlpq.analysis.arms import arms
from mlpq.analysis.comparison import compare
from mlpq.analysis.labels import arm_labels
from mlpq.analysis.params import ComparisonParams
from mlpq.records import JobRecord
from mlpq.report import query_output
from mlpq.report.comparison_tables import pairs_table, sides_table
from mlpq.report.tables import (
    arms_table,
    jobs_table,
    plain_table,
    print_tables,
    results_lines,
    results_table,
    workers_table,
)
from mlpq.spec.job import JobSpec
from mlpq.worker_records import WorkerRecord
from tests.support.result_rows import SUBMITTED, job_record, specs, with_figures

WIDTHS = st.integers(20, 200)
WORDS = st.text(string.ascii_letters + string.digits + "-_é数", min_size=1, max_size=30)
NAMES = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)
SEEDS = st.integers(0, 4_294_967_295)
FIGURES = st.sampled_from(["15 ms", "0.4 s", "1:02:03", "86.91 (42)", "450/500", "10000", ""])


def drawn(width: int, *parts: RenderableType) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in parts:
        console.print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def letters(texts: list[str]) -> Counter[str]:
    return Counter("".join("".join(texts).split()))


def check(lines: list[str], width: int, cells: list[str], figures: list[str]) -> None:
    assert max(map(cell_len, lines), default=0) <= width
    assert letters(cells) <= letters(lines)  # nothing is dropped
    assert "…" not in "".join(lines)
    for figure in figures:
        assert any(figure in line for line in lines), figure


@settings(deadline=None)
@given(width=WIDTHS, rows=st.lists(st.tuples(NAMES, NAMES, FIGURES, FIGURES), min_size=1, max_size=4), headings=NAMES)
def test_no_cell_is_dropped_and_no_figure_is_cut(
    width: int, rows: list[tuple[str, str, str, str]], headings: str
) -> None:
    table = plain_table("job", headings, ">time", ">a long heading of figures")
    for row in rows:
        table.add_row(*row)
    check(
        drawn(width, table), width, [cell for row in rows for cell in row], [cell for row in rows for cell in row[2:]]
    )


@settings(deadline=None)
@given(width=WIDTHS, host=WORDS, device=NAMES)
def test_workers_fit_whatever_their_hosts_and_devices_are_called(width: int, host: str, device: str) -> None:
    beat, name = SUBMITTED + timedelta(seconds=1), f"{host}:4711:0a1b"
    worker = WorkerRecord(name, "cuda", device, 2, 1, 31, 12, SUBMITTED, beat, beat + timedelta(seconds=4))
    check(drawn(width, workers_table([worker])), width, [name, f"cuda: {device}"], ["31", "12", "4.0 s"])


def records(chosen: list[JobSpec], seed: int) -> list[JobRecord]:
    """Jobs that took some milliseconds, with a result each."""
    found = []
    for number, spec in enumerate(chosen):
        job = job_record(spec, number, random.Random(seed + number).randint(300, 499))
        found.append(with_figures(job, train_seconds=0.015))
    return found


SWEEPS = st.fixed_dictionaries(
    {
        "optimizer": st.sampled_from(
            [["sgd:momentum=0.9"], ["sgd", "adamw:weight_decay=0.0123456"], ["adam", "nadam"]]
        ),
        "hidden": st.sampled_from([[32], [1000, 500, 250, 100], [64, 64, 64, 64, 64, 64]]),
        "lr": st.sampled_from([[0.1], [0.1, 0.012345678]]),
        "epochs": st.sampled_from([1, 10_000]),
        "seeds": st.lists(SEEDS, min_size=2, max_size=3, unique=True),
    }
)


@settings(deadline=None, max_examples=50)
@given(width=WIDTHS, sweep=SWEEPS, name=NAMES, seed=st.integers(0, 9))
def test_jobs_and_results_name_every_job_at_any_width(width: int, sweep: dict[str, Any], name: str, seed: int) -> None:
    jobs = [replace(job, experiment=name) for job in records(specs(**sweep), seed)]
    _, cells = results_lines(jobs)
    seeds = [str(job.spec.seed) for job in jobs]
    flat = [cell for line in cells for cell in line]
    check(drawn(width, results_table(jobs)), width, flat, [*seeds, "15 ms", *(line[0] for line in cells)])
    check(drawn(width, jobs_table(jobs)), width, [name] * len(jobs), [*seeds, *(line[0] for line in cells)])
    found = arms(jobs)
    check(drawn(width, arms_table(found)), width, arm_labels(found), ["15 ms"])


@settings(deadline=None, max_examples=50)
@given(width=WIDTHS, sweep=SWEEPS, seed=st.integers(0, 9))
def test_a_comparison_names_every_arm_and_seed_at_any_width(width: int, sweep: dict[str, Any], seed: int) -> None:
    compared = compare(records(specs(**sweep), seed), (), {}, ComparisonParams())
    for headings, lines in (sides_table(compared), pairs_table(compared)):
        out = io.StringIO()
        print_tables(Console(file=out, width=width), [(headings, lines)])
        cells = [cell for line in lines for cell in line]
        figures = [cell for line in lines for cell in line[1:] if len(cell) < width - 2]
        check([line.rstrip() for line in out.getvalue().splitlines()], width, cells, figures)


@settings(deadline=None)
@given(width=WIDTHS, row=st.dictionaries(NAMES, NAMES | SEEDS | st.none(), min_size=1, max_size=12))
def test_the_result_of_a_query_is_complete_at_any_width(width: int, row: dict[str, Any]) -> None:
    table = plain_table(*(">" * isinstance(value, int) + name for name, value in row.items()))
    table.row_name = "row"
    cells = ["" if value is None else str(value) for value in row.values()]
    table.add_row(*cells)
    figures = [str(value) for value in row.values() if isinstance(value, int)]
    check(drawn(width, table), width, [*row, *cells], figures)


def test_a_table_that_does_not_fit_is_a_list_of_names_and_values() -> None:
    (spec,) = specs(seeds=4_294_967_295, optimizer="sgd:momentum=0.9", hidden=[1000, 500])
    assert drawn(40, results_table(records([spec], 1))) == [
        "job: 00000000",
        "model: MLP 1000,500 sigmoid",
        "optimizer: sgd lr=0.001 momentum=0.9",
        "seed: 4294967295",
        "epochs: 10",
        "correct: 334/500",
        "test %: 66.80",
        "time: 15 ms",
    ]


def test_headings_of_queries_are_not_interpreted_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    query_output.write(["[red]x[/red]", ">"], [{"[red]x[/red]": "1", ">": "2"}], "table")
    assert "[red]x[/red]" in capsys.readouterr().out


LABELED: dict[str, tuple[Any, Any]] = {
    "batch_size": (32, 64),
    "epochs": (5, 6),
    "validation": (0.1, 0.1234567),
    "patience": (3, 4),
    "dataset": ("digits", "mnist"),
    "lr": (0.1234567, 0.1234568),
    "dropout": (0.1234567, 0.1234568),
    "hidden": ([32], [16]),
    "activation": ("relu", "tanh"),
    "initialisation": ("torch", "truncated-normal"),
    "bias": (True, False),
    "l1": (0.1234567, 0.1234568),
    "optimizer": ("sgd:momentum=0.1234567", "sgd:momentum=0.1234568"),
}


@pytest.mark.parametrize("field", LABELED)
def test_jobs_and_arms_that_differ_in_one_field_have_different_lines(field: str) -> None:
    base = {"dataset": "digits", "validation": 0.2, "patience": 2, "seeds": 1}
    pair = [specs(**{**base, field: value})[0] for value in LABELED[field]]
    assert pair[0] != pair[1]
    jobs = [job_record(spec, 1, 400) for spec in pair]  # with the same id and figures
    _, lines = results_lines(jobs)
    assert lines[0] != lines[1]
    for table in (jobs_table(jobs), results_table(jobs), arms_table(arms(jobs))):
        _, _, one, other = drawn(200, table)
        assert one != other


def test_settings_that_all_rows_share_are_not_shown() -> None:
    jobs = records(specs(optimizer=["sgd", "adam"], batch_size=64, seeds="0..1"), 1)
    assert "settings" not in drawn(200, results_table(jobs))[0]


def test_jobs_that_continue_from_different_jobs_show_from_which() -> None:
    (spec,) = specs()
    jobs = [job_record(spec, number, 400, parent_id=f"{number}{number:07}-rest") for number in (1, 2)]
    lines = drawn(200, results_table(jobs))
    assert "continued from 10000001" in lines[2]
    assert "continued from 20000002" in lines[3]
