"""The Rust search against NumPy."""

import numpy as np
import pytest

from llm_esr import _native


def numpy_nearest(table, queries, k, own=False):
    """Cosines in double precision, sorted; ties by the smaller row."""
    norms = np.linalg.norm(table.astype(np.float64), axis=1)
    unit = table / np.where(norms > 0, norms, 1)[:, None]
    query_norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    scores = queries / np.where(query_norms > 0, query_norms, 1)[:, None] @ unit.T
    scores[:, norms == 0] = -np.inf
    scores[query_norms == 0] = -np.inf
    if own:
        np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    ids = np.where(np.isfinite(best), order, -1)
    fill = k - ids.shape[1]
    if fill > 0:
        ids = np.pad(ids, ((0, 0), (0, fill)), constant_values=-1)
        best = np.pad(best, ((0, 0), (0, fill)))
    return ids, np.where(ids >= 0, best, 0)


def vectors(rows, width, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@pytest.mark.parametrize(("rows", "width", "k"), [(1, 3, 2), (7, 1, 3), (40, 8, 40), (1300, 33, 10), (300, 130, 1)])
def test_rows_get_the_neighbours_that_numpy_finds(rows, width, k):
    table = vectors(rows, width)
    if width == 1:  # every score is 1 or -1: all is ties
        table = np.sign(table)
    ids, scores = _native.ExactIndex(table).search_rows(0, rows, k)
    expected_ids, expected_scores = numpy_nearest(table, table, k, own=True)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
    # Rounding may swap neighbours whose cosines differ by less than it.
    swapped = ids != expected_ids
    assert swapped.mean() < 0.01
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32


@pytest.mark.parametrize("certified", [True, False])
def test_every_kernel_gives_the_same_graph(certified):
    table = vectors(2300, 50) + 1.5
    expected = _native.ExactIndex(table).search_rows(0, 2300, 10)
    for kernel in _native.search_kernels():
        graph = _native.ExactIndex(table, 2, certified=certified, kernel=kernel).graph(10)
        done, pieces = graph.advance(2)
        assert (done, pieces) == (2, 3)
        with pytest.raises(ValueError, match="2 of 3 pieces done"):
            graph.rank(0, 5)
        graph.advance(2)
        for found, wanted in zip(graph.rank(0, 2300), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match=r"'abacus' is not one of this processor's: .*portable"):
        _native.ExactIndex(table, kernel="abacus")


def test_inner_products_of_queries_are_those_of_numpy():
    table, queries = vectors(900, 24) * 1e5, vectors(40, 24, seed=1) * 1e-3
    index = _native.ExactIndex(table, inner_product=True)
    ids, scores = index.search(queries, 7)
    products = queries.astype(np.float64) @ table.T.astype(np.float64)
    expected = np.argsort(-products, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(products, expected, axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match="measure: inner products compare queries"):
        index.graph(3)


def test_queries_get_the_neighbours_that_numpy_finds():
    table, queries = vectors(500, 16), vectors(30, 16, seed=1)
    ids, scores = _native.ExactIndex(table).search(queries, 5)
    expected_ids, expected_scores = numpy_nearest(table, queries, 5)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-6)


def test_half_precision_gives_what_its_numbers_give_in_single_precision():
    table = vectors(200, 24).astype(np.float16)
    half = _native.ExactIndex(table)
    single = _native.ExactIndex(table.astype(np.float32))
    for a, b in zip(half.search_rows(0, 200, 9), single.search_rows(0, 200, 9), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(half.search(table[:5], 3)[0], single.search(table[:5], 3)[0])


def test_a_twin_is_a_neighbour_but_the_row_itself_never_is():
    table = vectors(60, 6)
    table[33] = table[7] * 5  # same direction, another length
    ids, _ = _native.ExactIndex(table).search_rows(0, 60, 59)
    assert ids[7, 0] == 33
    assert ids[33, 0] == 7
    for row in range(60):
        assert set(ids[row]) == set(range(60)) - {row}


def test_equal_vectors_come_in_the_order_of_their_rows():
    table = np.repeat(vectors(4, 50), 300, axis=0)[np.random.default_rng(3).permutation(1200)]
    ids, scores = _native.ExactIndex(table).search_rows(0, 1200, 299)
    assert (np.diff(scores, axis=1) <= 0).all()
    for row in range(0, 1200, 97):
        twins = np.flatnonzero((table == table[row]).all(axis=1))
        np.testing.assert_array_equal(ids[row], twins[twins != row])


def test_zero_vectors_have_no_neighbours_and_are_nobodys():
    table = vectors(20, 5)
    table[[3, 8]] = 0
    index = _native.ExactIndex(table)
    ids, scores = index.search_rows(0, 20, 19)
    assert (ids[[3, 8]] == -1).all()
    assert (scores[[3, 8]] == 0).all()
    assert not np.isin(ids, [3, 8]).any()
    assert ((ids >= 0).sum(axis=1)[[0, 1]] == 17).all()
    assert (index.search(np.zeros((1, 5), np.float32), 4)[0] == -1).all()


def test_the_number_of_threads_does_not_change_a_bit():
    table = vectors(1500, 40)
    one = _native.ExactIndex(table, threads=1).search_rows(0, 1500, 20)
    for threads in (2, 4):
        many = _native.ExactIndex(table, threads=threads).search_rows(0, 1500, 20)
        np.testing.assert_array_equal(one[0], many[0])
        np.testing.assert_array_equal(one[1], many[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_number_that_is_none_is_refused_with_its_row(value, dtype):
    table = vectors(9, 4).astype(dtype)
    table[5, 2] = value
    with pytest.raises(ValueError, match="vectors: row 5 holds NaN or infinity"):
        _native.ExactIndex(table)
    with pytest.raises(ValueError, match="queries: row 0 holds NaN"):
        _native.ExactIndex(vectors(3, 4)).search(table[5:6], 1)


def test_arguments_that_do_not_fit_are_named():
    index = _native.ExactIndex(vectors(4, 3))
    assert len(index) == 4
    assert index.width == 3
    with pytest.raises(ValueError, match="2 numbers a row; the table's vectors have 3"):
        index.search(vectors(1, 2), 1)
    with pytest.raises(ValueError, match=r"rows: 0\.\.5 of a table of 4 rows"):
        index.search_rows(0, 5, 1)
    with pytest.raises(ValueError, match="k: 0"):
        index.search_rows(0, 4, 0)
    with pytest.raises(ValueError, match="float64; expected"):
        _native.ExactIndex(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="contiguous"):
        _native.ExactIndex(vectors(4, 6)[:, ::2])


def test_an_empty_table_and_empty_queries_are_fine():
    empty = _native.ExactIndex(np.zeros((0, 3), np.float32))
    assert empty.search_rows(0, 0, 2)[0].shape == (0, 2)
    assert (empty.search(vectors(2, 3), 2)[0] == -1).all()
    assert _native.ExactIndex(vectors(2, 3)).search(np.zeros((0, 3), np.float32), 2)[0].shape == (0, 2)
