"""All about one job, for `mlpq show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from mlpq import formatting
from mlpq.report.grades import print_history
from mlpq.report.tables import Cells, plain_table, print_tables

Row = Mapping[str, Any]


def print_job(
    out: Console, row: Row, curve: Sequence[Row], attempts: Sequence[Row], verifications: Sequence[Row] = ()
) -> None:
    """What the job is, what came of it, its curve, its attempts, what they ran on, and how it was verified."""
    facts = plain_table("", "")
    facts.show_header = False
    for name, value in facts_of(row):
        facts.add_row(Text(name, style="bold"), value)
    out.print(facts)
    print_tables(out, (curve_table(curve), attempts_table(attempts)))
    if attempts:
        out.print("\nenvironment of the last attempt")
        for name, value in (attempts[-1]["environment"] or {}).items():
            out.print(f"  {name}: {value}", markup=False, soft_wrap=True)
    if verifications:
        out.print()
        print_history(out, verifications)


def facts_of(row: Row) -> list[tuple[str, str]]:
    """What the job is and what came of it, as names and words."""
    ranks = f" and world size {row['requested_world_size']}" if row["requested_world_size"] else ""
    placement = f"asked for {row['requested_device']}{ranks}, priority {row['priority']}"
    early = f", stops after {row['patience']} epochs without a lower loss" if row["patience"] else ""
    facts = [
        ("job", row["id"]),
        ("experiment", row["experiment"]),
        ("status", formatting.status(row) + (f": {row['error']}" if row["error"] else "")),
        ("model", f"{formatting.model(row)} on {row['dataset']}"),
        ("optimizer", formatting.optimizer(row)),
        ("training", f"{row['epochs']} epochs, batch size {row['batch_size']}, seed {row['seed']}"),
        ("validation", f"{row['validation']:g} of the training data{early}" if row["validation"] else ""),
        ("goes on from", row["parent_id"] or ""),
        ("device", placement if row["device"] is None else f"{_ran_on(row)} ({placement})"),
        ("engine", f"gang of {row['gang_size']}" if row["engine"] == "gang" else row["engine"] or ""),
        ("test", _figures(row)),
        ("best epoch", f"{row['best_epoch']} of {row['epochs_run']} run" if row["epochs_run"] else ""),
        ("time", formatting.seconds(row["train_seconds"])),
        ("spec hash", row["spec_hash"]),
        ("weights", f"{row['weights_sha256']} in {row['weights_file']}" if row["weights_sha256"] else ""),
        ("submitted", f"{row['created_at']:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return [(name, value) for name, value in facts if value]


def _ran_on(row: Row) -> str:
    return f"{row['device']} by {row['world_size']} processes" if row["world_size"] > 1 else str(row["device"])


def _figures(row: Row) -> str:
    if row["test_correct"] is None:
        return ""
    return f"{formatting.count(row['test_correct'], row['test_total'])} ({formatting.percent(row['test_accuracy'])})"


def curve_table(curve: Sequence[Row]) -> Cells:
    """One line an epoch."""
    validated = bool(curve) and curve[0]["validation_loss"] is not None
    extra = (">validation loss", ">validation") if validated else ()
    lines = []
    for epoch in curve:
        held_out = [_loss(epoch["validation_loss"]), _part(epoch, "validation")] if validated else []
        lines.append([
            str(epoch["epoch"]), _loss(epoch["train_loss"]), *held_out, _loss(epoch["test_loss"]),
            _part(epoch, "test"), formatting.seconds(epoch["seconds"]),
        ])  # fmt: skip
    return (">epoch", ">train loss", *extra, ">test loss", ">test", ">time"), lines


def attempts_table(attempts: Sequence[Row]) -> Cells:
    """One line an attempt."""
    lines = [
        [str(attempt["attempt"]), attempt["worker"], attempt["device"], f"{attempt['started_at']:%Y-%m-%d %H:%M:%S}",
         attempt["outcome"] or "running", attempt["error"] or ""]
        for attempt in attempts
    ]  # fmt: skip
    return (">attempt", "worker", "device", "started (UTC)", "outcome", "error"), lines


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _part(epoch: Row, side: str) -> str:
    correct, total = epoch[f"{side}_correct"], epoch[f"{side}_total"]
    return f"{formatting.count(correct, total)} ({formatting.percent(correct / total)})"
