"""CUDA graphs emulated on the CPU: a function's operations are recorded, undone, and replayed.

As in a graph, a capture changes no memory, numbers are constants, and a replay runs no Python code, reads the memory
that the capture read, and writes each result where the capture wrote it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlpq_workers.engine import gang_stack
from mlpq_workers.engine.cuda_graph import CudaGraph
from tests.support.optimizer_options import OPTIONS

aten = torch.ops.aten
# What makes the CPU wait for a GPU, or copies from memory that a replay would find changed.
FORBIDDEN = {
    aten.item.default, aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default,
    aten.is_nonzero.default, aten.lift_fresh.default, aten.lift.default,
}  # fmt: skip


class Recording(TorchDispatchMode):
    """The operations that were called under it."""

    def __init__(self) -> None:
        super().__init__()
        self.resets = 0
        self._calls: list[tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any], Any]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FORBIDDEN:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        self._keep(func, args, kwargs)
        result = func(*args, **kwargs)
        is_view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if not is_view and func.namespace != "profiler":
            self._calls.append((func, args, kwargs, None if func._schema.is_mutable else result))
        return result

    def undo(self) -> None:
        """Restore all memory that was written."""
        for now, before in self._before.values():
            now.copy_(before)

    def replay(self) -> None:
        for func, args, kwargs, result in self._calls:
            again = func(*args, **kwargs)
            if result is not None:
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    old.copy_(new)

    def reset(self) -> None:
        self.resets += 1
        self._calls.clear()

    def _keep(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            for tensor in tree_leaves(value):
                if isinstance(tensor, Tensor) and tensor.data_ptr() not in self._before:
                    storage = tensor.untyped_storage()
                    self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))


class RecordedGraph(CudaGraph):
    """A graph that is recorded and replayed. `recorded` has all captures that succeeded."""

    recorded: list[Recording]

    def _warm_up(self, *arguments: Tensor) -> None:
        self._body(*arguments)

    def _capture(self, body: Callable[[], None]) -> Recording:
        recording = Recording()
        try:
            with recording:
                body()
        finally:
            recording.undo()
        self.recorded.append(recording)
        return recording


class EagerGraph(CudaGraph):
    """Calls the function each time."""

    def run(self, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        self._body(images, labels, losses)


@contextmanager
def as_on_a_gpu(graph: type[CudaGraph]) -> Iterator[None]:
    """Train on the CPU by the implementations of optimizers that are used on CUDA, and with such graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "is_cuda", True)
        patch.setattr(torch.Tensor, "is_cpu", False)
        patch.setattr(gang_stack, "CudaGraph", graph)
        for name in OPTIONS:
            module = importlib.import_module(f"torch.optim.{name}")
            patch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"], raising=False)
        yield


@contextmanager
def recording() -> Iterator[list[Recording]]:
    """Train with recorded graphs, as on a GPU; yields them."""
    found: list[Recording] = []
    with as_on_a_gpu(type("Recorded", (RecordedGraph,), {"recorded": found})):
        yield found
