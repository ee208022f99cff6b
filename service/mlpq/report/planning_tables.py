"""How many seeds a comparison needs, as a table for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mlpq.analysis.metrics import Metric
from mlpq.analysis.planning import SeedsNeeded
from mlpq.report.tables import Cells, plain_table

HEADINGS = ("arms", ">seeds now", ">sd of differences (95 %)", ">seeds needed (95 %)")


def needs_table(found: Sequence[SeedsNeeded], metric: Metric) -> Table:
    """One line per pair of arms."""
    headings, lines = needs_cells(found, metric)
    table = plain_table(*headings)
    for line in lines:
        table.add_row(*line)
    return table


def needs_cells(found: Sequence[SeedsNeeded], metric: Metric) -> Cells:
    """The same as text."""
    lines = []
    for need in found:
        ends = f"{metric.text(need.sd_range.low)} to {metric.text(need.sd_range.high)}"
        lines.append([
            f"{need.pair.a.label} − {need.pair.b.label}", str(len(need.pair.seeds)), f"{metric.text(need.sd)} ({ends})",
            f"{need.needed} ({need.range[0]} to {need.range[1]})",
        ])  # fmt: skip
    return HEADINGS, lines


def needs_document(found: Sequence[SeedsNeeded]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "a": need.pair.a.label, "b": need.pair.b.label, "seeds": list(need.pair.seeds), "sd": need.sd,
            "sd_interval": [need.sd_range.low, need.sd_range.high], "seeds_needed": need.needed,
            "seeds_needed_interval": list(need.range),
        }
        for need in found
    ]  # fmt: skip
