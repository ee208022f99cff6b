"""Reads a file of final weights without torch, and verifies its hashes.

The file is in the safetensors format: 8 bytes with the length of the header, little-endian; the header, JSON with each
tensor's dtype, shape and offsets, and some metadata; then the values, little-endian, in C order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpq import regular_files
from mlpq.errors import DataError
from mlpq.spec.parsing import MAX_PARAMETERS
from mlpq.weights_format import TensorContent, largest_file, states_sha256, weights_sha256

LENGTH = 8  # bytes
DTYPES = {"F16": ("float16", 2), "F32": ("float32", 4), "F64": ("float64", 8)}  # numpy's name, bytes per value


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """`sha256` is the hash of the weights, as in a result; `metadata` has the spec hash of their job."""

    sha256: str
    metadata: Mapping[str, str]


def read(path: Path, parameters: int = MAX_PARAMETERS) -> WeightsFile:
    """Read the whole file of a model with at most that many parameters.

    Raises OSError where it can't be read, as for what is no regular file, and DataError where any byte is damaged.
    """
    content = regular_files.read(path, largest_file(parameters))
    try:
        length = int.from_bytes(content[:LENGTH], "little")
        header = json.loads(content[LENGTH : LENGTH + length])
        metadata = header.pop("__metadata__")
        sha256 = weights_sha256(_tensors(header, memoryview(content)[LENGTH + length :]))
        if metadata["states_sha256"] != states_sha256(metadata):
            raise ValueError("generator states")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is damaged") from error
    return WeightsFile(sha256, metadata)


def _tensors(header: Mapping[str, Any], values: memoryview) -> dict[str, TensorContent]:
    """The tensors by name; raises ValueError unless they fill the file, one after the other."""
    tensors, offsets = {}, []
    for name, entry in header.items():
        dtype, size = DTYPES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        if end - begin != size * math.prod(entry["shape"]):
            raise ValueError(name)
        tensors[name] = TensorContent(dtype, tuple(entry["shape"]), values[begin:end])
        offsets.append((begin, end))
    ends = [0, *(end for _, end in sorted(offsets))]
    if [begin for begin, _ in sorted(offsets)] != ends[:-1] or ends[-1] != len(values):
        raise ValueError("data_offsets")
    return tensors
