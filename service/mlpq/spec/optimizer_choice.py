"""The optimizers that a sweep names, torch's and formulas: entries with the key `name`, and options as given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlpq.errors import SpecError
from mlpq.spec.formula import RATE_WITHOUT_USE, Formula, parse_constant, parse_formula
from mlpq.spec.optimizers import OPTIMIZERS, complete, optimizer
from mlpq.spec.parsing import check_count, parse_lr, several

Entry = Mapping[str, Any]
Formulas = Mapping[str, str]  # statements by the name of the optimizer


def alternatives(entries: Sequence[Entry], formulas: Formulas) -> list[dict[str, Any]]:
    """The entries with one value of each option; raises SpecError.

    An entry may have several learning rates, and several values of an option. Each with a learning rate of its own has
    it as the option `lr`.
    """
    found: list[dict[str, Any]] = []
    for entry in entries:
        values = {name: _values(entry, name, formulas) for name in entry if name != "name"}
        own = _formula(entry, formulas)
        if own is not None and not own.uses_rate:
            if "lr" in entry:
                raise SpecError(f"the formula of {own.name} does not read lr: leave lr out")
            values["lr"] = (RATE_WITHOUT_USE,)
        names = sorted(values, key=lambda name: name != "lr")  # the rates vary slowest
        check_count(len(found) + math.prod(map(len, values.values())))
        for chosen in itertools.product(*(values[name] for name in names)):
            found.append({"name": entry["name"], **dict(zip(names, chosen, strict=True))})
    return found


def resolved(entry: Entry, lr: float | None, weight_decay: float | None, formulas: Formulas) -> dict[str, Any]:
    """The fields of a spec for one of the `alternatives`; raises SpecError.

    `lr` and `weight_decay` are for an entry that does not specify its own; None where the sweep has none.
    """
    options = dict(entry)
    name = str(options.pop("name"))
    rate = options.pop("lr", lr)
    settings = options if weight_decay is None else {"weight_decay": weight_decay, **options}
    own = _formula(entry, formulas)
    if own is None:
        known, complete_settings = optimizer(name, formulas), complete(name, settings)
        rate = known.lr if rate is None else rate
    else:
        complete_settings = {**own.complete(settings)}
        if rate is None:
            raise SpecError(f"{name} needs a learning rate: write {own.usage}, or --lr")
    return {"optimizer": name, "lr": rate, "optimizer_settings": complete_settings, "formula": formulas.get(name)}


def check_use(entries: Sequence[Entry], formulas: Formulas, keys: Iterable[str]) -> None:
    """Raise SpecError where one of the keys `lr` and `weight_decay` is of no use to any optimizer."""
    for key in keys:
        if all(key in entry or (key == "lr" and _ignores_rate(entry, formulas)) for entry in entries):
            raise SpecError(f"every optimizer specifies its own {key}: leave --{key.replace('_', '-')} out")


def _values(entry: Entry, name: str, formulas: Formulas) -> tuple[Any, ...]:
    own, value = _formula(entry, formulas), entry[name]
    if name == "lr":
        return tuple(dict.fromkeys(several("lr", parse_lr)(value)))
    if own is not None and name in own.constants:
        return tuple(dict.fromkeys(several(f"{own.name}:{name}", parse_constant(own.name, name))(value)))
    known = OPTIMIZERS.get(str(entry["name"]))
    is_pair = known is None or isinstance(known.defaults.get(name), tuple)  # of numbers, as betas
    return tuple(value) if isinstance(value, list) and value and not is_pair else (value,)


def _formula(entry: Entry, formulas: Formulas) -> Formula | None:
    name = str(entry["name"])
    return parse_formula(name, formulas[name]) if name in formulas else None


def _ignores_rate(entry: Entry, formulas: Formulas) -> bool:
    own = _formula(entry, formulas)
    return own is not None and not own.uses_rate
