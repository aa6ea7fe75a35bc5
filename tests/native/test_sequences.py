"""Cutting and packing against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_esr.loading import Sequences, build_sequences

histories = st.lists(st.lists(st.integers(1, 50), max_size=12), max_size=30)


def flat(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    return np.array([i for r in rows for i in r], np.int32), offsets


def packed_slots(lengths: list[int]) -> np.ndarray:
    """First-fit-decreasing: by falling length, ties in order, each into the first row with room."""
    width = max(lengths, default=0)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows: list[list[int]] = []
    for s in sorted(range(len(lengths)), key=lambda s: -lengths[s]):
        if lengths[s] == 0:
            continue
        row = next((r for r in rows if len(r) + lengths[s] <= width), None)
        if row is None:
            rows.append(row := [])
        row.extend(range(starts[s], starts[s + 1]))
    return np.array([r + [-1] * (width - len(r)) for r in rows], np.int32).reshape(len(rows), width)


@given(histories, st.integers(1, 9))
def test_sequences_are_the_newest_items_in_first_fit_decreasing_rows(rows: list[list[int]], max_len: int) -> None:
    built = build_sequences(*flat(rows), max_len=max_len)
    cut = [r[-max_len:] for r in rows]
    items, offsets = flat(cut)
    np.testing.assert_array_equal(built.items, items)
    np.testing.assert_array_equal(built.offsets, offsets)
    np.testing.assert_array_equal(built.positions, [p + 1 for r in cut for p in range(len(r))])
    np.testing.assert_array_equal(built.targets, np.zeros(len(items)))
    np.testing.assert_array_equal(built.slots, packed_slots([len(r) for r in cut]))
    assert len(built) == len(rows)


@given(histories, st.integers(1, 9))
def test_padded_rows_are_left_padded(rows: list[list[int]], max_len: int) -> None:
    built = build_sequences(*flat(rows), max_len=max_len, layout="padded")
    assert built.slots.shape == (len(rows), max_len)
    padded = np.append(built.items, 0)[built.slots]
    expected = [[0] * (max_len - len(r[-max_len:])) + r[-max_len:] for r in rows]
    np.testing.assert_array_equal(padded, np.array(expected).reshape(len(rows), max_len))


@given(histories, st.integers(1, 9), st.sampled_from(["packed", "padded"]))
def test_an_appended_mask_token_takes_the_place_of_the_oldest_item(
    rows: list[list[int]], max_len: int, layout: Any
) -> None:
    built = build_sequences(*flat(rows), max_len=max_len, layout=layout, mask_token=51)
    kept = [list(enumerate(r[-max_len:], 1))[len(r[-max_len:]) == max_len :] for r in rows]
    last = [min(len(r), max_len) + 1 for r in rows]
    items, offsets = flat([[item for _, item in r] + [51] for r in kept])
    np.testing.assert_array_equal(built.items, items)
    np.testing.assert_array_equal(built.offsets, offsets)
    expected = [[p for p, _ in r] + [end] for r, end in zip(kept, last, strict=True)]
    assert built.positions.tolist() == [p for r in expected for p in r]
    assert not built.targets.any()
    if layout == "packed":
        np.testing.assert_array_equal(built.slots, packed_slots([len(r) for r in expected]))


@given(histories, st.integers(1, 9), st.sampled_from([None, 51]))
def test_padding_tokens_are_real_tokens(rows: list[list[int]], max_len: int, mask_token: int | None) -> None:
    bare = build_sequences(*flat(rows), max_len=max_len, layout="padded", mask_token=mask_token)
    full = build_sequences(*flat(rows), max_len=max_len, layout="padded", mask_token=mask_token, padding_tokens=True)
    assert full.offsets.tolist() == [s * max_len for s in range(len(rows) + 1)]
    np.testing.assert_array_equal(full.slots, np.arange(len(rows) * max_len).reshape(len(rows), max_len))
    for name in ("items", "positions", "targets"):
        expected = np.append(getattr(bare, name), 0)[bare.slots].ravel()
        np.testing.assert_array_equal(getattr(full, name), expected)


def test_arrays_are_of_the_types_that_torch_takes() -> None:
    built = build_sequences([3, 1, 2], [0, 1, 3], max_len=5)
    assert [a.dtype for a in (built.items, built.positions, built.targets, built.slots)] == [np.int32] * 4
    assert built.offsets.dtype == np.int64
    assert isinstance(built, Sequences)
    assert repr(built) == "Sequences(2 sequences, 3 tokens, 2 rows of 2)"


@pytest.mark.parametrize(
    ("items", "offsets", "max_len", "layout", "named"),
    [
        ([1, 2], [0, 1], 5, "packed", "offsets"),
        ([1, 2], [0, 2, 1, 2], 5, "packed", "offsets"),
        ([1, 2], [], 5, "packed", "offsets"),
        ([1, 0], [0, 2], 5, "packed", "item ids start at 1"),
        ([1.5], [0, 1], 5, "packed", "items"),
        ([2**40], [0, 1], 5, "packed", "int32"),
        ([[1]], [0, 1], 5, "packed", "one axis"),
        ([1], [0, 1], 0, "packed", "max_len"),
        ([1], [0, 1], 5, "dense", "'packed' or 'padded'"),
    ],
)
def test_what_cannot_be_cut_is_refused(items: object, offsets: object, max_len: int, layout: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_sequences(items, offsets, max_len=max_len, layout=layout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mask_token": 2}, "entry 1 is 2; item ids lie below the mask token"),
        ({"mask_token": 2**31}, "mask_token.*int32"),
        ({"padding_tokens": True}, "layout 'padded'"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_sequences([1, 2], [0, 2], max_len=5, **options)
