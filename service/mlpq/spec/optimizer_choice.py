"""The optimizers that a sweep names, torch's, formulas and plug-ins: entries with the key `name`, and options."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlpq.errors import SpecError
from mlpq.spec.formula import RATE_WITHOUT_USE, Formula, parse_constant, parse_formula
from mlpq.spec.optimizers import OPTIMIZERS, Value, complete, optimizer
from mlpq.spec.parsing import check_count, parse_lr, several
from mlpq.spec.plugin import Plugin, check_names, find, installed

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
    own, plugin = _formula(entry, formulas), _plugin(entry, formulas)
    fields: dict[str, Any] = {"optimizer": name, "formula": formulas.get(name)}
    if own is not None:
        constants = own.complete(settings)
        if rate is None:
            raise SpecError(f"{name} needs a learning rate: write {own.usage}, or --lr")
        return {**fields, "lr": rate, "optimizer_settings": constants}
    if plugin is not None:
        fields |= {"plugin": plugin.package, "declaration": plugin.declaration}
        known_lr, complete_settings = plugin.lr, plugin.declaration.complete(name, settings)
    else:
        known_lr = optimizer(name, [*formulas, *installed()]).lr
        complete_settings = complete(name, settings)
    return {**fields, "lr": known_lr if rate is None else rate, "optimizer_settings": complete_settings}


def check_use(entries: Sequence[Entry], formulas: Formulas, keys: Iterable[str]) -> None:
    """Raise SpecError where one of the keys `lr` and `weight_decay` is of no use to any optimizer, or a name is not
    clear."""
    check_names([str(entry["name"]) for entry in entries], formulas)
    for key in keys:
        if all(key in entry or (key == "lr" and _ignores_rate(entry, formulas)) for entry in entries):
            raise SpecError(f"every optimizer specifies its own {key}: leave --{key.replace('_', '-')} out")


def _values(entry: Entry, name: str, formulas: Formulas) -> tuple[Any, ...]:
    own, value = _formula(entry, formulas), entry[name]
    if name == "lr":
        return tuple(dict.fromkeys(several("lr", parse_lr)(value)))
    if own is not None and name in own.constants:
        return tuple(dict.fromkeys(several(f"{own.name}:{name}", parse_constant(own.name, name))(value)))
    defaults = _defaults(entry, formulas)
    is_pair = defaults is None or isinstance(defaults.get(name), tuple)  # of numbers, as betas
    return tuple(value) if isinstance(value, list) and value and not is_pair else (value,)


def _formula(entry: Entry, formulas: Formulas) -> Formula | None:
    name = str(entry["name"])
    return parse_formula(name, formulas[name]) if name in formulas else None


def _plugin(entry: Entry, formulas: Formulas) -> Plugin | None:
    name = str(entry["name"])
    return None if name in formulas or name in OPTIMIZERS else find(name)


def _defaults(entry: Entry, formulas: Formulas) -> Mapping[str, Value] | None:
    """The defaults of torch's optimizers and of plug-ins; None for others."""
    if (plugin := _plugin(entry, formulas)) is not None:
        return plugin.declaration.defaults
    known = OPTIMIZERS.get(str(entry["name"]))
    return None if known is None else known.defaults


def _ignores_rate(entry: Entry, formulas: Formulas) -> bool:
    own = _formula(entry, formulas)
    return own is not None and not own.uses_rate
