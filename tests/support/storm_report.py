"""The report of a kill storm."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """The results of a storm; the lists of job ids must be empty."""

    seed: int
    lease: float
    done: Counter[str]
    seconds: float
    jobs: int
    lost: list[str]
    unacknowledged: list[str]
    twice: list[str]
    broken_curves: list[str]
    wrong: list[str]
    outcomes: Counter[str]
    resumed: int
    fenced: int
    recovery: list[float]

    @property
    def flaws(self) -> dict[str, list[str]]:
        names = ("lost", "unacknowledged", "twice", "broken_curves", "wrong")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def table(self) -> str:
        percentiles = statistics.quantiles(self.recovery, n=100) if len(self.recovery) > 1 else [0.0] * 99
        rows = [
            ("seed", self.seed),
            ("minutes", f"{self.seconds / 60:.1f}"),
            ("lease, s", f"{self.lease:.0f}"),
            ("jobs acknowledged", self.jobs),
            *sorted(self.done.items()),
            *((f"attempts {outcome}", count) for outcome, count in sorted(self.outcomes.items())),
            ("attempts resumed from a checkpoint", self.resumed),
            ("fence rejections", self.fenced),
            ("recovery p50 / p99, s", f"{percentiles[49]:.1f} / {percentiles[98]:.1f}"),
            ("**lost**", len(self.lost)),
            ("**recorded twice**", len(self.twice)),
            ("**jobs of unacknowledged submissions**", len(self.unacknowledged)),
            ("**broken learning curves**", len(self.broken_curves)),
            ("**wrong weights**", len(self.wrong)),
        ]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
