"""Schedules, warmup, clipping and smoothing, in combinations that have an effect."""

from __future__ import annotations

from typing import Any

SCHEDULES = (
    "constant", "linear:end_factor=0.1", "cosine", "step:size=1,gamma=0.5", "exponential:gamma=0.7",
    "one-cycle:pct_start=0.4",
)  # fmt: skip
CLIP_NORM = 0.1  # below the norm of most gradients of the tests' networks


def options(number: int, optimizer: str = "sgd") -> dict[str, Any]:
    """The options of that number: none, one or several; without a schedule where the optimizer takes none."""
    schedule = SCHEDULES[number % len(SCHEDULES)]
    found: dict[str, Any] = {}
    if not optimizer.startswith("rprop"):
        found["schedule"] = schedule
        if number % 4 == 1 and not schedule.startswith("one-cycle"):
            found["warmup"] = [0.2, 0.5][number // 4 % 2]
    if number % 3 == 1:
        found["clip_norm"] = CLIP_NORM
    if number % 5 in (1, 2):
        found["label_smoothing"] = 0.1 * (number % 5)
    return found
