"""The options of a comparison as they were typed."""

from __future__ import annotations

from dataclasses import dataclass

from mlpq.analysis.grouping import Fields, parse_by
from mlpq.analysis.metrics import Metric, metric
from mlpq.errors import SpecError
from mlpq.spec.parsing import parse_seeds


@dataclass(frozen=True, slots=True)
class ComparisonParams:
    """The options of `mlpq compare` as text; empty where they were not given."""

    by: str = ""
    metric: str = "accuracy"
    target: str = ""
    against: str = ""
    choose_seeds: str = ""

    def given(self) -> dict[str, str]:
        """The options that are not at their defaults, for a URL or a command."""
        typed = {
            "by": self.by, "metric": self.metric, "target": self.target, "against": self.against,
            "choose-seeds": self.choose_seeds,
        }  # fmt: skip
        return {name: value for name, value in typed.items() if value and (name, value) != ("metric", "accuracy")}

    def parsed_metric(self) -> Metric:
        """Raises SpecError."""
        try:
            target = float(self.target.replace(",", ".")) if self.target else None
        except ValueError:
            raise SpecError(f"the target '{self.target}' is not a number: type percent, as 85") from None
        return metric(self.metric, target)

    def parsed_choose_seeds(self) -> tuple[int, ...]:
        """The seeds that choose settings, sorted; empty for the default. Raises SpecError."""
        if not self.choose_seeds:
            return ()
        if not self.by:
            raise SpecError("--choose-seeds chooses between the settings of a side: add --by optimizer")
        try:
            return tuple(sorted(parse_seeds(self.choose_seeds)))
        except ValueError as error:
            raise SpecError(f"--choose-seeds: {error}") from None

    def parsed_by(self) -> Fields:
        """Raises SpecError."""
        return parse_by(self.by)
