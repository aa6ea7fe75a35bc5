"""The search behind its Python door."""

import numpy as np
import pytest

from llm_esr.retrieval import neighbours
from llm_esr.retrieval.neighbours import nearest


def test_chunks_of_queries_join_to_one_result(monkeypatch):
    table = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    whole = nearest(table, 4)
    queries = nearest(table, 4, queries=table[10:40])
    monkeypatch.setattr(neighbours, "QUERIES_AT_ONCE", 8)
    for expected, found in ((whole, nearest(table, 4)), (queries, nearest(table, 4, queries=table[10:40]))):
        np.testing.assert_array_equal(expected[0], found[0])
        np.testing.assert_array_equal(expected[1], found[1])


def test_own_rows_leave_themselves_out_and_queries_do_not():
    table = np.eye(3, dtype=np.float32)
    assert nearest(table, 1)[0].ravel().tolist() == [1, 0, 0]
    assert nearest(table, 1, queries=table)[0].ravel().tolist() == [0, 1, 2]


def test_views_of_a_table_are_taken_as_they_look():
    table = np.random.default_rng(0).standard_normal((20, 12)).astype(np.float16)
    np.testing.assert_array_equal(nearest(table[::2, ::3], 3)[0], nearest(table[::2, ::3].copy(), 3)[0])


def test_an_unknown_engine_and_no_neighbours_are_refused():
    table = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="engine 'hnsw' is unknown; known: auto, exact"):
        nearest(table, 1, engine="hnsw")
    with pytest.raises(ValueError, match="k is 0"):
        nearest(table, 0)
