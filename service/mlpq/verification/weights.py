"""What a file of final weights holds, read without torch.

Such a file is in the safetensors format: 8 bytes with the length of the header, little-endian; the header, JSON that
names each tensor with its dtype, shape and place, and some metadata; then the numbers, little-endian, in C order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpq.errors import DataError

LENGTH = 8  # bytes
DTYPES = {"F16": ("float16", 2), "F32": ("float32", 4), "F64": ("float64", 8)}  # numpy's name, and bytes a number


@dataclass(frozen=True)
class WeightsFile:
    """`sha256` is that of names, dtypes, shapes and numbers, as a result keeps it; `metadata` says whose they are."""

    sha256: str
    metadata: Mapping[str, str]


def read(path: Path) -> WeightsFile:
    """Read the whole file; raises OSError where it can't be read, and DataError where any byte of it is damaged."""
    content = path.read_bytes()
    try:
        length = int.from_bytes(content[:LENGTH], "little")
        header = json.loads(content[LENGTH : LENGTH + length])
        metadata = header.pop("__metadata__")
        sha256 = _sha256(header, memoryview(content)[LENGTH + length :])
        if metadata["states_sha256"] != _states_sha256(metadata):
            raise ValueError("generator states")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged") from error
    return WeightsFile(sha256, metadata)


def _sha256(header: Mapping[str, Any], numbers: memoryview) -> str:
    """By sorted names, for each tensor: a line of JSON with name, dtype and shape, then its numbers."""
    digest, placed = hashlib.sha256(), []
    for name in sorted(header):
        dtype, size = DTYPES[header[name]["dtype"]]
        shape, (begin, end) = header[name]["shape"], header[name]["data_offsets"]
        if end - begin != size * math.prod(shape):
            raise ValueError(name)
        digest.update(json.dumps([name, dtype, shape]).encode() + b"\n")
        digest.update(numbers[begin:end])
        placed.append((begin, end))
    # They fill the file, one after the other.
    ends = [0, *(end for _, end in sorted(placed))]
    if [begin for begin, _ in sorted(placed)] != ends[:-1] or ends[-1] != len(numbers):
        raise ValueError("data_offsets")
    return digest.hexdigest()


def _states_sha256(metadata: Mapping[str, str]) -> str:
    """Of the states of the generators, with which a job goes on from this one."""
    states = (metadata["dropout_state"], metadata["shuffle_state"])
    return hashlib.sha256("\n".join(states).encode()).hexdigest()
