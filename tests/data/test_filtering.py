"""Order, duplicates and count filters against plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm_esr.data.filtering import below_counts, duplicates_of, sort_order

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, items, times = zip(*rows, strict=True)
    return np.array(users, np.int32), np.array(items, np.int32), np.array(times, np.int64)


@given(ROWS)
def test_the_order_is_user_time_order_column_input(rows: list[tuple[int, int, int]]) -> None:
    users, items, times = columns(rows)
    order = sort_order(users, times, items.astype(np.int64))
    assert order.tolist() == sorted(range(len(rows)), key=lambda row: (users[row], times[row], items[row], row))
    assert sort_order(users, None, None).tolist() == sorted(range(len(rows)), key=lambda row: (users[row], row))


@given(ROWS)
def test_duplicates_keep_the_first_of_their_kind(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    users, items, times = columns(rows)
    for kind, key in (("exact", lambda row: row), ("first", lambda row: row[:2])):
        seen: set[tuple[int, ...]] = set()
        expected = []
        for row in rows:
            expected.append(key(row) in seen)
            seen.add(key(row))
        assert duplicates_of(kind, users, items, times).tolist() == expected
    assert not duplicates_of("all", users, items, times).any()


@given(ROWS, st.integers(0, 4), st.integers(0, 4))
def test_count_filters_leave_the_largest_set_in_which_all_counts_hold(
    rows: list[tuple[int, int, int]], least_user: int, least_item: int
) -> None:
    users, items, _ = columns(rows)
    left = list(range(len(rows)))
    while True:
        by_user, by_item = Counter(users[left].tolist()), Counter(items[left].tolist())
        still = [row for row in left if by_user[users[row]] >= least_user and by_item[items[row]] >= least_item]
        if still == left:
            break
        left = still
    assert np.flatnonzero(~below_counts(users, items, least_user, least_item)).tolist() == left
