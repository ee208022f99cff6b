"""Images as the kernel reads them."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq_workers.kernel.library import ImagesArgument

Pixels = NDArray[np.uint8] | NDArray[np.float32]


class Images:
    """Images as stored: pixels [n, features] and labels int64 [n].

    Pixels are bytes, which the network sees divided by `scale`, or finite float32 as they are, with the scale 1. They
    are copied. Raises ValueError if they are of another kind.
    """

    def __init__(self, pixels: Pixels, labels: NDArray[np.int64], scale: int) -> None:
        if pixels.dtype not in (np.uint8, np.float32) or pixels.ndim != 2:
            raise ValueError("pixels must be an array of bytes or of float32, [n, features]")
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
            raise ValueError("labels must be an array of int64, one for each image")
        if labels.min(initial=0) < 0 or not 1 <= scale <= 255:
            raise ValueError("labels must not be negative, and scale must be from 1 to 255")
        if pixels.dtype == np.float32:
            if scale != 1:
                raise ValueError("scale must be 1 where pixels are of float32")
            if not np.isfinite([pixels.min(initial=0), pixels.max(initial=0)]).all():
                raise ValueError("pixels must be finite")
        self.pixels, self.labels, self.scale = _in_huge_pages(pixels), np.ascontiguousarray(labels), scale
        self.classes = int(labels.max(initial=-1)) + 1  # at least so many

    def argument(self, rows: NDArray[np.int64]) -> ImagesArgument:
        """The images of these rows, in their order, as a call of the kernel takes them; both must outlive it."""
        address = self.pixels.ctypes.data
        pixels, values = (address, None) if self.pixels.dtype == np.uint8 else (None, address)
        return ImagesArgument(pixels, values, self.labels.ctypes.data, rows.ctypes.data, len(rows))


def _in_huge_pages(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy in huge pages where the system has them: a batch's images lie anywhere, and each would miss the TLB.

    Without, a batch of the textbook's network takes a third longer.
    """
    memory = mmap.mmap(-1, max(1, pixels.nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    copy = np.frombuffer(memory, pixels.dtype, pixels.size).reshape(pixels.shape)
    copy[:] = pixels
    return copy
