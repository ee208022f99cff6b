"""How the weights of a network and the states of its generators are hashed, for tensors in memory and in files.

The training process hashes tensors in memory, `mlpq verify` the bytes of a file: both by these functions, so equal
weights have equal hashes on every machine and in every file format.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

LENGTH = 8  # bytes of the length of a header
HEADER_BYTES = 2**20  # more than the names, the shapes and the metadata of 32 layers take
PARAMETER_BYTES = 8  # of a value in the widest type
STATES = ("dropout_state", "shuffle_state")  # metadata of a file of final weights: base64 of the generators' states


@dataclass(frozen=True, slots=True)
class TensorContent:
    """A tensor as its hash sees it: numpy's name of the dtype, and the values, little-endian, in C order."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes | memoryview


def weights_sha256(tensors: Mapping[str, TensorContent]) -> str:
    """SHA-256 over names, dtypes, shapes and values, 64 hexadecimal digits.

    Tensors are hashed in the order of their names: a line of JSON with name, dtype and shape, which also determines how
    many bytes follow, then the values.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode() + b"\n")
        digest.update(tensor.content)
    return digest.hexdigest()


def predictions_metadata(classes: bytes) -> dict[str, str]:
    """The metadata of a file of final weights with the predicted class of each test image, one byte each."""
    return {
        "predictions": base64.b64encode(classes).decode(),
        "predictions_sha256": predictions_sha256(classes),
    }


def predictions_of(metadata: Mapping[str, str]) -> bytes | None:
    """What `predictions_metadata` wrote; None in files of versions before 0.2.

    Raises ValueError where it is damaged.
    """
    if "predictions" not in metadata:
        return None
    classes = base64.b64decode(metadata["predictions"], validate=True)
    if predictions_sha256(classes) != metadata.get("predictions_sha256"):
        raise ValueError("predictions")
    return classes


def predictions_sha256(classes: bytes) -> str:
    """SHA-256 of the predicted classes of the test images, one byte each, 64 hexadecimal digits."""
    return hashlib.sha256(classes).hexdigest()


def read_header(file: IO[bytes]) -> dict[str, Any]:
    """The header of a safetensors file at its beginning: tensors by name, and `__metadata__`.

    The format: 8 bytes with the length of the header, little-endian; the header, JSON with each tensor's dtype, shape
    and offsets; then the values. Raises ValueError where it is damaged.
    """
    length = int.from_bytes(file.read(LENGTH), "little")
    if length > HEADER_BYTES:
        raise ValueError("header")
    header = json.loads(file.read(length))
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise ValueError("header")
    return header


def largest_file(parameters: int) -> int:
    """The bytes that a file of final weights has at most."""
    return HEADER_BYTES + PARAMETER_BYTES * parameters


def states_sha256(metadata: Mapping[str, str]) -> str:
    """SHA-256 over the states of both generators in a file's metadata, 64 hexadecimal digits.

    Raises KeyError where one is missing.
    """
    return hashlib.sha256("\n".join(metadata[name] for name in STATES).encode()).hexdigest()
