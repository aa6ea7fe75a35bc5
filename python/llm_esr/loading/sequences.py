"""Histories that come from anywhere, as the model reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llm_esr import _native
from llm_esr._native import Sequences
from llm_esr.config import Layout


def build_sequences(
    items: ArrayLike,
    offsets: ArrayLike,
    *,
    max_len: int,
    layout: Layout = "packed",
    mask_token: int | None = None,
    padding_tokens: bool = False,
) -> Sequences:
    """Cut flat histories to their newest items and lay them out in rows.

    Args:
        items: item ids from 1 up, [T], history after history, oldest first.
        offsets: where each history starts among `items`, and the end, [S + 1]; a history may be empty.
        max_len: the newest items of a history that are kept.
        layout: `packed` (several histories share a row as wide as the longest) or `padded` (one row a history,
            `max_len` wide, left-padded).
        mask_token: an id above all items that ends each sequence. Where a history fills the window of `max_len` items,
            the oldest makes room for it, and positions stay: 2 to `max_len + 1`.
        padding_tokens: fill every sequence on the left up to `max_len` tokens with item 0, position 0 (layout `padded`
            alone).

    Returns:
        S sequences, positions 1, 2, ... from the oldest item of the window, no targets.

    Raises:
        ValueError: ids below 1 or from `mask_token` up, offsets that do not cut `items`, a `max_len` below 1, an
            unknown layout, or padding tokens in packed rows.

    """
    return _native.build_sequences(
        integers("items", items, np.int32),
        integers("offsets", offsets, np.int64),
        at_least("max_len", max_len, 1),
        layout,
        None if mask_token is None else int(integers("mask_token", [mask_token], np.int32)[0]),
        bool(padding_tokens),
    )


def at_least(name: str, value: int, low: int) -> int:
    """Return a whole number from `low` up, as Rust takes it.

    Raises:
        ValueError: something else; the message names it.

    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value < 1 << 63:
        raise ValueError(f"{name} is {value!r}; expected a whole number from {low} up")
    return int(value)


def integers(name: str, values: ArrayLike, dtype: type[Any]) -> NDArray[Any]:
    """Return whole numbers in one axis as Rust takes them, without a copy where that is what came.

    Raises:
        ValueError: something else, or a number that `dtype` cannot hold; the message names it.

    """
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(dtype)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; expected whole numbers in one axis")
    limits = np.iinfo(dtype)
    if array.dtype != dtype and array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        raise ValueError(f"{name} lies between {array.min()} and {array.max()}; expected {np.dtype(dtype)}")
    return np.ascontiguousarray(array, dtype=dtype)
