"""Data sets whose pixels are floating-point numbers in [0, 1]."""

from __future__ import annotations

import dataclasses

import torch

from mlpq_workers.engine.data import Data


def in_floats(data: Data, dtype: torch.dtype = torch.float32) -> Data:
    """The same data with pixels of `dtype`, divided by their scale."""
    train_x, test_x = (x.to(dtype) / data.scale for x in (data.train_x, data.test_x))
    return dataclasses.replace(data, train_x=train_x, test_x=test_x, scale=1)
