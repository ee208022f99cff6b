"""Mutate a sample of the places in the pure modules, and print the mutants that all unit tests let pass.

    python -m tests.mutants [--seed N] [--count N] [--only WORD] [--mutant FILE:LINE:COLUMN:KIND] [--processes N]

Unlike `tests.chaos.mutations`, which removes mechanisms that somebody has named, this changes single operators,
constants, conditions and statements, wherever they are. No file of the checkout is changed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.mutants.running import Outcome, Project
    from tests.mutants.sites import Mutant

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
CACHE = ".mutants/lines.json"


def equivalents(file: Path = EQUIVALENT) -> dict[tuple[str, str, str, str], str]:
    """Why a mutant changes nothing that could be observed, by its file, line of code, and old and new text."""
    entries = tomllib.loads(file.read_text()).get("equivalent", [])
    return {(entry["file"], entry["code"], entry["old"], entry["new"]): entry["reason"] for entry in entries}


def key(mutant: Mutant) -> tuple[str, str, str, str]:
    return mutant.file, mutant.code, mutant.old, mutant.new


def chosen(found: Sequence[Mutant], options: argparse.Namespace) -> list[Mutant]:
    if options.mutant:
        return [mutant for mutant in found if mutant.place == options.mutant]
    candidates = [mutant for mutant in found if options.only in mutant.file]
    sample = random.Random(options.seed).sample(candidates, min(options.count, len(candidates)))
    return sorted(sample)


def run(project: Project, options: argparse.Namespace) -> None:
    from tests.mutants.running import Runner  # not at the top: the processes that run tests import this module

    mutants = chosen(project.mutants(), options)
    if not mutants:
        sys.exit(f"no mutant is at {options.mutant or options.only}")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before the processes that run tests load torch
    with tempfile.TemporaryDirectory(prefix="mlpq-mutants-") as folder:
        runner = Runner(project, Path(folder), options.processes)
        for test in runner.measure(project.root / CACHE):
            print(f"left out, since it fails without a mutant: {test}")
        outcomes = []
        for outcome in runner.outcomes(mutants):
            outcomes.append(outcome)
            if options.verbose or options.mutant:
                print(f"{_described(outcome.mutant)}\n    {outcome.outcome} {outcome.killer}", flush=True)
    report(outcomes)


def report(outcomes: Sequence[Outcome]) -> None:
    known = equivalents()
    alive = [outcome for outcome in outcomes if outcome.outcome in ("survived", "no tests")]
    equivalent = [outcome for outcome in alive if key(outcome.mutant) in known]
    survivors = [outcome for outcome in alive if key(outcome.mutant) not in known]
    for title, listed in (("survived", survivors), ("equivalent", equivalent)):
        if listed:
            print(f"\n{title}:")
        for outcome in listed:
            untested = " (no test executes it)" if outcome.outcome == "no tests" else ""
            print(f"{_described(outcome.mutant)}{untested}{_reason(known.get(key(outcome.mutant)))}")
    counts = Counter(outcome.outcome for outcome in outcomes)
    print(
        f"\n{len(outcomes)} mutants: {counts['killed']} killed, {counts['timed out']} timed out, "
        f"{len(equivalent)} equivalent, {len(survivors)} survived ({len(survivors) / len(outcomes):.1%})"
    )


def _described(mutant: Mutant) -> str:
    return f"{mutant.place}\n    {mutant.code}\n    {mutant.old} → {mutant.new}"


def _reason(reason: str | None) -> str:
    return f"\n    {reason}" if reason else ""


def main() -> None:
    from tests.mutants.pure import MLPQ

    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Mutate a sample of pure modules.")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: 1)")
    parser.add_argument("--count", type=int, default=300, help="mutants in the sample (default: 300)")
    parser.add_argument("--only", default="", help="sample only files whose path contains this")
    parser.add_argument("--mutant", default="", help="run this one, FILE:LINE:COLUMN:KIND as printed")
    parser.add_argument("--processes", type=int, default=2, help="that run tests at a time (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="print every mutant, and the test that kills it")
    run(MLPQ, parser.parse_args())


if __name__ == "__main__":
    main()
