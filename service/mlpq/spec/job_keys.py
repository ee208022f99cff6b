"""A job as the keys of a spec file, the other way round from what a sweep does."""

from __future__ import annotations

from typing import Any

from mlpq.spec.formula import parse_formula
from mlpq.spec.job import JobSpec

# Fields that other keys have, and those that follow from others.
_ELSEWHERE = {
    "seed", "optimizer", "lr", "optimizer_settings", "formula", "plugin", "declaration", "schedule",
    "schedule_settings", "content", "parent",
}  # fmt: skip


def keys_of(spec: JobSpec, experiment: str | None = None, parent_id: str | None = None) -> dict[str, Any]:
    """The keys that a sweep expands to this one spec; `parent_id` is the job that it continues from.

    Keys at their defaults are there too: those of a job that continues from another depend on that one.
    """
    fields = spec.model_dump(mode="json")
    keys: dict[str, Any] = {} if experiment is None else {"experiment": experiment}
    if parent_id is not None:
        keys["continue_from"] = parent_id
    # A list of layers is one model, and none has no layer.
    hidden = [fields["hidden"]] if spec.hidden else "none"
    keys |= {"dataset": spec.data_reference, "hidden": hidden}
    has_rate = spec.formula is None or parse_formula(spec.optimizer, spec.formula).uses_rate
    if spec.formula is not None:
        keys["formula"] = {spec.optimizer: spec.formula}
    keys["optimizer"] = {
        "name": spec.optimizer,
        **({"lr": spec.lr} if has_rate else {}),
        **fields["optimizer_settings"],
    }
    keys["schedule"] = {"name": spec.schedule, **fields["schedule_settings"]}
    others = {name: value for name, value in fields.items() if name not in {*keys, *_ELSEWHERE}}
    return {**keys, **{name: "none" if value is None else value for name, value in others.items()}, "seeds": spec.seed}
