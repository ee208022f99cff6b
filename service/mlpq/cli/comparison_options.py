"""The options that `mlpq compare`, `mlpq plan` and `mlpq report` share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--by", metavar="FIELDS", default="",
        help="Fields that distinguish the sides, as optimizer, or lr, or optimizer,lr [default: each arm is a side].",
    ),
    click.option(
        "--metric", metavar="NAME", default="accuracy", show_default=True,
        help="accuracy or loss (on the test set), validation (the best), or epochs or seconds to reach a --target.",
    ),
    click.option(
        "--target", metavar="PERCENT", default="", help="The accuracy to reach for --metric epochs or seconds, as 85.",
    ),
    click.option(
        "--against", metavar="ARM", default="", help="Compare each arm with this one only, not with each other.",
    ),
    click.option(
        "--choose-seeds", metavar="SEEDS", default="",
        help="Seeds that choose the setting of a side, as 0..4; the others compare [default: the first half].",
    ),
)  # fmt: skip


def comparison_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command gets them as `params`, checked ComparisonParams."""

    @wraps(command)
    def with_params(*, by: str, metric: str, target: str, against: str, choose_seeds: str, **options: Any) -> None:
        from mlpq.analysis.params import ComparisonParams

        params = ComparisonParams(by, metric, target, against, choose_seeds)
        params.parsed_metric()  # invalid options are reported before the database is opened
        params.parsed_by()
        params.parsed_choose_seeds()
        command(params=params, **options)

    for option in reversed(_OPTIONS):
        with_params = option(with_params)
    return with_params
