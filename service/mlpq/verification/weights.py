"""Reads a file of final weights without torch, and verifies its hashes.

The file is in the safetensors format, see mlpq.weights_format.read_header; its values are little-endian, in C order.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpq import regular_files
from mlpq.errors import DataError
from mlpq.spec.parsing import MAX_PARAMETERS
from mlpq.weights_format import (
    TensorContent,
    largest_file,
    predictions_of,
    read_header,
    states_sha256,
    weights_sha256,
)

if TYPE_CHECKING:
    import numpy as np

DTYPES = {"F16": ("float16", 2), "F32": ("float32", 4), "F64": ("float64", 8)}  # numpy's name, bytes per value


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """`sha256` is the hash of the weights, as in a result; `metadata` has the spec hash of their job.

    `predictions` are the predicted classes of the test rows, as stored; None in files of versions before 0.2.
    """

    sha256: str
    metadata: Mapping[str, str]
    predictions: bytes | None


def read(path: Path, parameters: int = MAX_PARAMETERS) -> WeightsFile:
    """Read the whole file of a model with at most that many parameters.

    Raises OSError where it can't be read, as for what is no regular file, and DataError where any byte is damaged.
    """
    return _read(path, parameters)[0]


def read_arrays(path: Path, parameters: int) -> tuple[WeightsFile, dict[str, np.ndarray]]:
    """As `read`, and the weights by name, as arrays that may be written to."""
    import numpy as np

    file, tensors = _read(path, parameters)
    return file, {
        name: np.frombuffer(bytearray(tensor.content), np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)
        for name, tensor in tensors.items()
    }


def _read(path: Path, parameters: int) -> tuple[WeightsFile, dict[str, TensorContent]]:
    content = regular_files.read(path, largest_file(parameters))
    try:
        file = io.BytesIO(content)
        header = read_header(file)
        metadata = header.pop("__metadata__")
        tensors = _tensors(header, memoryview(content)[file.tell() :])
        sha256 = weights_sha256(tensors)
        predictions = predictions_of(metadata)
        if metadata["states_sha256"] != states_sha256(metadata):
            raise ValueError("generator states")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is damaged") from error
    return WeightsFile(sha256, metadata, predictions), tensors


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
