"""The keyword arguments of the Python interface, and their values as the command line has them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TypedDict, Unpack

from mlpq.analysis.params import ComparisonParams
from mlpq.spec.parsing import MAX_JOBS

Texts = str | Iterable[str]
Numbers = float | str | Iterable[float | str]
NumbersOrNone = float | str | Iterable[float | str | None] | None
Options = str | Mapping[str, object] | Iterable[str | Mapping[str, object]]


class LabSettings(TypedDict, total=False):
    """Settings, by the names of their environment variables without MLPQ_; None is the environment's value."""

    home: str | PathLike[str] | None
    database_url: str | None
    broker_url: str | None
    data_dir: str | PathLike[str] | None
    artifacts_dir: str | PathLike[str] | None
    threads: int | None
    checkpoint_seconds: int | None
    log_format: str | None
    kernel: str | None


class SweepKeys(TypedDict, total=False):
    """The keys of a spec file. Each value may be text as it is typed, a Python value, or several in any iterable."""

    experiment: str
    dataset: Texts
    hidden: int | str | Iterable[int | str | Iterable[int]]
    activation: Texts
    bias: bool | str | Iterable[bool | str]
    initialisation: Texts
    formula: str | Mapping[str, str] | Iterable[str]
    optimizer: Options
    lr: Numbers
    weight_decay: Numbers
    l1: Numbers
    dropout: Numbers
    schedule: Options
    warmup: Numbers
    clip_norm: NumbersOrNone
    label_smoothing: Numbers
    epochs: Numbers
    batch_size: Numbers
    validation: Numbers
    patience: NumbersOrNone
    seeds: Numbers
    zip: Texts | Iterable[Iterable[str]]
    continue_from: str
    device: str
    world_size: int | str
    priority: int
    attempts: int
    sweeps: Iterable[Mapping[str, object]]


class ComparisonKeys(TypedDict, total=False):
    """The options of a comparison, as of `mlpq compare`."""

    by: Texts
    metric: str
    target: float | str
    against: str
    choose_seeds: Numbers


class DataOptions(TypedDict, total=False):
    """How a source is read, as by `mlpq data add`; `test` is a file, or a fraction of each class, as 0.2."""

    target: str
    text: Texts
    ignore: Texts
    header: bool
    missing: str
    test: float | str | PathLike[str]
    split_seed: int
    scale: str
    size: tuple[int, int]
    gray: bool


def plain(value: object) -> object:
    """A value as a spec file has it: ranges, arrays, sets and other iterables become lists.

    No more is read of an iterable than shows that it is too long for one submission.
    """
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):  # of numpy and of pandas
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(each) for each in itertools.islice(value, MAX_JOBS + 1)]
    return value


def params_of(**keys: Unpack[ComparisonKeys]) -> ComparisonParams:
    """The checked options of a comparison; raises SpecError."""
    params = ComparisonParams(
        by=_joined(keys.get("by", "")),
        metric=keys.get("metric", "accuracy"),
        target=_joined(keys.get("target", "")),
        against=keys.get("against", ""),
        choose_seeds=_joined(keys.get("choose_seeds", "")),
    )
    params.parsed_metric()
    params.parsed_by()
    params.parsed_choose_seeds()
    return params


def _joined(value: object) -> str:
    found = plain(value)
    return ",".join(map(str, found)) if isinstance(found, list) else str(found)
