"""The optimizers of jobs in an exported script: torch's, formulas as classes, and imports of plug-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlpq.report.formula_script import class_name, formula_call, formula_class
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS, Value, arguments, muon_arguments

TAKEN = {"DataLoader", "FILE", "FILES", "MuonWithAdamW", "Path", "TensorDataset"}  # by the script
MUON = """\
class MuonWithAdamW(optim.Optimizer):
    def __init__(self, params, muon, adamw):
        params = list(params)
        super().__init__(params, {})
        matrices, biases = ([p for p in params if p.dim() == d] for d in (2, 1))
        self.parts = [optim.Muon(matrices, **muon), optim.AdamW(biases, **adamw)]
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self):
        for part in self.parts:
            part.step()"""


def optimizer_call(spec: JobSpec, chain: Sequence[JobSpec]) -> str:
    """An expression that makes the optimizer of a job; `chain` are the specs of all jobs of the script."""
    if (own := spec.own_optimizer) is not None:
        return formula_call(spec, own, _class_name(spec, chain))
    defaults = spec.optimizer_defaults
    settings = arguments(defaults, spec.optimizer_settings)
    if spec.declaration is not None:  # its class may have other defaults, or none
        return f"{_imported_name(spec, chain)}(model.parameters(), {_keywords({'lr': spec.lr, **settings})})"
    settings = {"lr": spec.lr, **{name: value for name, value in settings.items() if value != defaults[name]}}
    if spec.optimizer == "muon":
        return _muon_call(spec, settings)
    return f"optim.{OPTIMIZERS[spec.optimizer].torch_name}(model.parameters(), {_keywords(settings)})"


def optimizer_classes(chain: Sequence[JobSpec]) -> str:
    """The classes that the script needs: one for each formula that differs, and for Muon with biases."""
    found: dict[str, str] = {}
    for spec in chain:
        if (own := spec.own_optimizer) is not None:
            name = _class_name(spec, chain)
            found.setdefault(name, formula_class(spec, own, name))
        elif spec.optimizer == "muon" and spec.bias:
            found["MuonWithAdamW"] = MUON
    return "".join(f"\n\n\n{text}" for text in found.values()) + ("\n" if found else "")


def imports(chain: Sequence[JobSpec]) -> str:
    """Lines that import the classes of plug-ins, each below its package and version."""
    lines = {}
    for spec in chain:
        if spec.declaration is not None:
            name, declared = _imported_name(spec, chain), spec.declaration
            as_name = "" if name == declared.class_name else f" as {name}"
            lines[name] = f"\n# of {spec.plugin}\nfrom {declared.module} import {declared.class_name}{as_name}"
    return "".join(lines.values())


def _muon_call(spec: JobSpec, settings: Mapping[str, Value]) -> str:
    muon, adamw = muon_arguments(settings)
    if not spec.bias:
        return f"optim.Muon(model.parameters(), {_keywords(muon)})"
    adamw = {"lr": spec.optimizer_settings["adamw_lr"], **adamw}
    return f"MuonWithAdamW(model.parameters(), dict({_keywords(muon)}), dict({_keywords(adamw)}))"


def _keywords(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def _imported_name(spec: JobSpec, chain: Sequence[JobSpec]) -> str:
    """The name of a plug-in's class, with a number where the script has something else of that name."""
    assert spec.declaration is not None, "only a plug-in is imported"
    name = spec.declaration.class_name
    paths = dict.fromkeys(each.declaration.class_path for each in chain if each.declaration is not None)
    same = [path for path in paths if path.partition(":")[2] == name]
    taken = {*TAKEN, *(class_name(each) for each in chain if each.formula is not None)}
    is_clear = len(same) == 1 and name[0].isupper() and name not in taken
    return name if is_clear else f"{name}{same.index(spec.declaration.class_path) + 1}"


def _class_name(spec: JobSpec, chain: Sequence[JobSpec]) -> str:
    """The name of the class of a spec's formula, with a number where the chain has several of that name."""
    name = class_name(spec)
    found = dict.fromkeys(_structure(each) for each in chain if class_name(each) == name)
    return name if len(found) < 2 else f"{name}{list(found).index(_structure(spec)) + 1}"


def _structure(spec: JobSpec) -> tuple[object, ...]:
    """Equal for specs whose formulas one class has; the operations depend on the exponents among the constants."""
    return spec.formula, spec.program and spec.program.operations
