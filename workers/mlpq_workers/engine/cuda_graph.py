"""Launching many small kernels at once on a GPU, as torch's documentation of CUDA graphs describes it."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("mlpq.training")


class CudaGraph:
    """A function of tensors that is launched as one CUDA graph: for small tensors, launching each kernel is the cost.

    The function must use the same memory in every call, but for its arguments, and must read from memory what changes
    between calls. Where it can't be captured, it is called as it is.
    """

    WARM_UP = 3  # calls before the capture, which must not include lazy initialization

    def __init__(self, body: Callable[..., None]) -> None:
        self._body, self._calls = body, 0
        self._captured: Any = None  # has `replay` and `reset`
        self._arguments: list[Tensor] = []
        self._has_failed = False

    def run(self, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Call the function, which reads `images` and `labels` and writes `losses`."""
        self._calls += 1
        if self._calls <= self.WARM_UP:
            self._warm_up(images, labels, losses)
            return
        if self._captured is None and not self._has_failed:
            self._try_to_capture(images, labels, losses)
        if self._captured is None:
            self._body(images, labels, losses)
            return
        self._arguments[0].copy_(images)
        self._arguments[1].copy_(labels)
        self._captured.replay()
        losses.copy_(self._arguments[2])

    def release(self) -> None:
        """Free the graph and its memory."""
        captured, self._captured, self._arguments = self._captured, None, []
        if captured is not None:
            with contextlib.suppress(RuntimeError):  # after an error, CUDA may refuse this too
                captured.reset()

    def _try_to_capture(self, images: Tensor, labels: Tensor, losses: Tensor) -> None:
        self._arguments = [images.clone(), labels.clone(), torch.empty_like(losses)]
        try:
            self._captured = self._capture(functools.partial(self._body, *self._arguments))
        except Exception as error:  # a capture runs nothing, so nothing has changed
            self._has_failed, self._arguments = True, []
            log.warning("no CUDA graph, so training is slower: %s: %s", type(error).__name__, error)

    def _warm_up(self, *arguments: Tensor) -> None:
        side = side_stream(torch.cuda.current_device())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._body(*arguments)
        torch.cuda.current_stream().wait_stream(side)

    def _capture(self, body: Callable[[], None]) -> Any:
        device = torch.cuda.current_device()
        side, graph, pool = side_stream(device), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:
            # The outer context restores the current stream also where the capture fails, which the inner one does not.
            with torch.cuda.stream(side), torch.cuda.graph(graph, pool=pool, stream=side):
                body()
        except Exception:
            with contextlib.suppress(RuntimeError):
                graph.reset()
                # After a failed capture torch's allocator takes it as still under way, and frees no cached memory.
                torch._C._cuda_endAllocateToPool(device, pool)
                torch._C._cuda_releasePool(device, pool)
            raise
        return graph


@functools.cache
def side_stream(device: int) -> torch.cuda.Stream:
    """The stream of this process for warm-up calls and captures.

    It is one, because cuBLAS keeps a workspace for each stream. torch clears that of a stream when a graph that was
    captured on it is destroyed (pytorch#193402): graphs of one stream must not outlive each other, so a stack drops its
    graphs before the next one captures.
    """
    return torch.cuda.Stream(device)
