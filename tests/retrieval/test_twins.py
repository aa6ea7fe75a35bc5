"""Equal rows: what the search of distinct vectors gives is what that of all rows gives."""

import numpy as np
import pytest

from llm_esr import _native
from llm_esr.retrieval import nearest, neighbours, twins
from llm_esr.retrieval.twins import twins_of


def some_rows_many_times(rows=900, width=6, seed=0, dtype=np.float32):
    """Three vectors a hundred times and more, one of zeros; many twice; some alone."""
    rng = np.random.default_rng(seed)
    distinct = rng.standard_normal((200, width))
    distinct[5] = 0
    distinct[7] = 2 * distinct[6]  # as near to everything, and no twin
    chances = np.ones(200)
    chances[[0, 5, 6, 7]] = 60
    return distinct[rng.choice(200, size=rows, p=chances / chances.sum())].astype(dtype)


def of_all_rows(table, k, queries=None, engine="exact"):
    made = _native.ExactIndex(table, certified=engine == "exact")
    return made.search_rows(0, len(table), k) if queries is None else made.search(queries, k)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("k", [1, 3, 20, 100])
def test_lists_are_those_of_all_rows_bit_for_bit(k, dtype, monkeypatch):
    monkeypatch.setattr(twins, "_LISTS_AT_ONCE", 64)
    table = some_rows_many_times(dtype=dtype)
    queries = np.concatenate([table[::31], some_rows_many_times(10, seed=1, dtype=dtype)])
    assert twins_of(table, k) is not None
    for asked in (None, queries):
        for found, expected in zip(nearest(table, k, queries=asked), of_all_rows(table, k, asked), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_all_rows_equal_and_all_of_zeros():
    for table in (np.full((500, 4), 0.3, np.float32), np.zeros((500, 4), np.float32)):
        for found, expected in zip(nearest(table, 10), of_all_rows(table, 10), strict=True):
            np.testing.assert_array_equal(found, expected)
    ids, scores = nearest(np.full((12, 4), 0.3, np.float32), 10)
    assert (np.sort(ids, axis=1) == ids).all() and (scores == 1).all()


def test_rows_of_one_hash_are_looked_at(monkeypatch):
    monkeypatch.setattr(twins, "_hashes", lambda vectors: np.arange(len(vectors), dtype=np.uint64) % np.uint64(7))
    table = some_rows_many_times()
    for found, expected in zip(nearest(table, 5), of_all_rows(table, 5), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_few_twins_change_nothing():
    table = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    table[100:103] = table[0]
    assert twins_of(table, 10) is None
    assert twins_of(table, 3) is not None
    assert twins_of(table[:2], 3) is None and twins_of(table[:, :0], 3) is None


def test_a_nan_is_named_by_its_row_among_all():
    table = some_rows_many_times()
    table[777, 2] = np.nan
    with pytest.raises(ValueError, match="vectors: row 777 holds NaN or infinity"):
        nearest(table, 5)


def test_hashes_tell_rows_apart_and_know_equal_ones():
    table = np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32)
    table[1000:] = table[:1000]
    hashes = twins._hashes(table)
    np.testing.assert_array_equal(hashes[:1000], hashes[1000:])
    assert len(np.unique(hashes)) == 1000
    assert neighbours.twins_of is twins_of
