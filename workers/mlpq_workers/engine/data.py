"""A data set on a device of torch, and the draws that decide which rows a batch holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlpq_workers.engine.image_set import ImageSet


@dataclass(frozen=True)
class Data:
    """A data set on one device: pixels [n, features], class indices as int64 [n].

    Pixels are stored as bytes, which takes a quarter of the memory to read; divided by `scale` they are in [0, 1].
    `source` is the folder or package that they were read from.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    scale: int
    source: str

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of computations: that of the pixels if they are floating-point numbers, else float32."""
        return self.train_x.dtype if self.train_x.is_floating_point() else torch.float32

    @classmethod
    def of(cls, images: ImageSet) -> Data:
        """The data on the CPU; the memory is shared."""
        return cls(
            train_x=torch.from_numpy(images.train_x),
            train_y=torch.from_numpy(images.train_y),
            test_x=torch.from_numpy(images.test_x),
            test_y=torch.from_numpy(images.test_y),
            scale=images.scale,
            source=images.source,
        )

    def to(self, device: str) -> Data:
        """The same data on `device`; nothing is copied if it is already there."""
        return replace(
            self,
            train_x=self.train_x.to(device),
            train_y=self.train_y.to(device),
            test_x=self.test_x.to(device),
            test_y=self.test_y.to(device),
        )


def split(n: int, validation_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers for training and for validation, as torch.utils.data.random_split draws them; int64.

    The draws come from a generator of their own, so the batch order does not depend on them.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[: n - validation_size], order[n - validation_size :]


def epoch_order(n: int, generator: torch.Generator) -> Tensor:
    """The order in which DataLoader(shuffle=True, generator=generator) visits n rows in its next epoch; int64 [n]."""
    # The loader also draws a seed for worker processes, and its sampler a second permutation that it does not use.
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    order = torch.randperm(n, generator=generator)
    torch.randperm(n, generator=generator)
    return order
