"""The checksum that a safetensors file of ours carries in its metadata: the format itself has none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

_ENTRY = "checksum"
# What a damaged or forged file makes safetensors, NumPy and torch raise.
UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError,
              MemoryError, RecursionError)  # fmt: skip

Part = tuple[str, str, Sequence[int], NDArray[np.uint8]]


def array_parts(tensors: Mapping[str, NDArray[Any]]) -> Iterator[Part]:
    """What a checksum of NumPy arrays is made of."""
    for name, tensor in tensors.items():
        yield name, tensor.dtype.name, tensor.shape, np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)


def with_checksum(metadata: Mapping[str, str], parts: Iterable[Part]) -> dict[str, str]:
    """The metadata with a checksum over itself and the tensors: each one's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, kind, shape, content in sorted(parts, key=lambda part: part[0]):
        digest.update(json.dumps([name, kind, list(shape)]).encode())
        digest.update(content.data)
    return {**metadata, _ENTRY: digest.hexdigest()}


def check_tensors(metadata: Mapping[str, str], parts: Iterable[Part], known: Sequence[str]) -> None:
    """Compare tensors with the checksum of their metadata; a file of an older version has none.

    Args:
        metadata: as it was read.
        parts: the tensors, as they were read.
        known: the entries that `with_checksum` was given.

    Raises:
        ValueError: they differ, or an entry is not known: a checksum whose name is damaged is none.
    """
    said = {name: value for name, value in metadata.items() if name in known}
    expected: dict[str, Any] = said if metadata.keys() == said.keys() else with_checksum(said, parts)
    if dict(metadata) != expected:
        raise ValueError("it differs from the checksum that it carries")
