"""Optimizers of installed packages in the plain engine: others' code, and its state in checkpoints."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlpq import plugins
from mlpq.errors import MlpqError
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import arguments
from mlpq.spec.plugin import Declaration, checked
from mlpq.text import reason_line

STRUCTURE, CPU_GENERATOR, CUDA_GENERATOR = "structure", "cpu generator", "cuda generator"


def build_plugin(spec: JobSpec, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a spec that names a package, from the class that the installed package declares.

    The package must be installed in the spec's version, and declare what the spec has. Raises MlpqError where it is
    not, and whatever the class does.
    """
    found = plugins.declared(spec.optimizer)
    if found is None or found.package != spec.plugin:
        raise MlpqError(f"{spec.plugin} is not installed here, or has no optimizer {spec.optimizer}")
    declaration = checked(found).declaration
    if declaration != spec.declaration:
        raise MlpqError(f"{spec.plugin} declares {spec.optimizer} otherwise here than where the job was submitted")
    settings = arguments(declaration.defaults, spec.optimizer_settings)
    optimizer: torch.optim.Optimizer = load_class(declaration)(parameters, lr=spec.lr, **settings)
    return optimizer


def load_class(declaration: Declaration) -> Any:
    """The declared class; raises whatever its module raises."""
    try:
        module = importlib.import_module(declaration.module)
    except SystemExit as error:
        raise MlpqError(f"{declaration.module} exits where it is imported: {error}") from None
    found = getattr(module, declaration.class_name, None)
    if not isinstance(found, type) or not issubclass(found, torch.optim.Optimizer):
        raise MlpqError(f"{declaration.class_path} is not a class that is a torch.optim.Optimizer")
    return found


def seed_generators(spec: JobSpec, dropout: torch.Generator) -> None:
    """Seed torch's default generators, which a plug-in may draw from: the CPU's as a plain script leaves it."""
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(spec.seed)
    torch.set_rng_state(dropout.get_state())


def take_plugin_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A copy on the CPU of what `state_dict` returns, and of the default generators; raises MlpqError.

    Tensors are taken as their bytes, whatever their type.
    """
    tensors: list[Tensor] = []
    try:
        structure = json.dumps(_to_json(optimizer.state_dict(), tensors))
    except Exception as error:  # it is others' code
        raise MlpqError(f"the state of the optimizer can't be saved: {reason_line(error)}") from None
    taken = {str(i): tensor for i, tensor in enumerate(tensors)}
    taken[STRUCTURE] = torch.from_numpy(np.frombuffer(structure.encode(), np.uint8).copy())
    taken[CPU_GENERATOR] = torch.get_rng_state()
    if _on_cuda(optimizer):
        taken[CUDA_GENERATOR] = torch.cuda.get_rng_state()
    return taken


def put_plugin_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Restore what `take_plugin_state` returned in a new optimizer, whose parameters are on their device."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    structure = json.loads(state[STRUCTURE].numpy().tobytes())
    optimizer.load_state_dict(_from_json(structure, state, parameters[0].device))
    if type(optimizer).load_state_dict is torch.optim.Optimizer.load_state_dict:
        # It converts tensors to the type of their parameter, and texts to generators.
        for number, values in _from_json(structure, state, parameters[0].device)["state"].items():
            if isinstance(number, int):
                optimizer.state[parameters[number]] = values
    torch.set_rng_state(state[CPU_GENERATOR])
    if CUDA_GENERATOR in state:
        torch.cuda.set_rng_state(state[CUDA_GENERATOR])


def _on_cuda(optimizer: torch.optim.Optimizer) -> bool:
    return any(p.device.type == "cuda" for group in optimizer.param_groups for p in group["params"])


def _to_json(value: object, tensors: list[Tensor]) -> Any:
    """The value as JSON: a mapping as a list of pairs, since its keys have types, and what JSON has not by its kind."""
    if isinstance(value, Tensor):
        tensors.append(value.detach().to("cpu", copy=True).reshape(-1).view(torch.uint8))
        is_on_device = value.device.type != "cpu"
        return {"tensor": [len(tensors) - 1, str(value.dtype).removeprefix("torch."), list(value.shape), is_on_device]}
    if isinstance(value, Mapping):
        return [[_key(key), _to_json(each, tensors)] for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_to_json(each, tensors) for each in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"state_dict() holds a {type(value).__name__}")


def _key(key: object) -> int | str:
    if isinstance(key, (int, str)):
        return key
    raise TypeError(f"state_dict() has a key that is a {type(key).__name__}")


def _from_json(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if isinstance(value, list):
        return {key: _from_json(each, tensors, device) for key, each in value}
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        number, dtype, shape, is_on_device = content
        tensor = tensors[str(number)].view(getattr(torch, dtype)).reshape(shape)
        return tensor.to(device if is_on_device else "cpu", copy=True)
    values = [_from_json(each, tensors, device) for each in content]
    return tuple(values) if kind == "tuple" else values
