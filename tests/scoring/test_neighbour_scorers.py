"""Neighbour scorers against dense NumPy: every formula over the whole matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import llm_esr
from llm_esr import _native
from llm_esr.scoring import build_untrained
from llm_esr.scoring.neighbours import newest_items


@pytest.fixture
def data(tiny_folder: Path) -> llm_esr.Dataset:
    return llm_esr.Dataset.open(tiny_folder)


def dense_transitions(data: llm_esr.Dataset) -> np.ndarray:
    counts = np.zeros((data.n_items, data.n_items))
    for user in range(data.n_users):
        history = data.history(user, "train")
        for gap, weight in ((1, 1.0), (2, 0.5), (3, 0.25)):
            np.add.at(counts, (history[:-gap] - 1, history[gap:] - 1), weight)
    table = counts / (counts.sum(axis=1, keepdims=True) + 5)
    np.fill_diagonal(table, 0)
    return table


def dense_cooccurrence(data: llm_esr.Dataset) -> np.ndarray:
    met = np.zeros((data.n_users, data.n_items))
    for user in range(data.n_users):
        met[user, data.history(user, "train") - 1] = 1
    norms = np.sqrt(met.sum(axis=0)) + 1e-30
    table = met.T @ met / np.outer(norms, norms)
    np.fill_diagonal(table, 0)
    return table


def decayed(data: llm_esr.Dataset, table: np.ndarray, decay: float, newest: int) -> np.ndarray:
    rows = []
    for user in range(data.n_users):
        history = data.history(user, "test")[::-1][:newest]
        rows.append(sum(decay ** (j + 1) * table[item - 1] for j, item in enumerate(history)))
    return np.array(rows)


def scores(data: llm_esr.Dataset, name: str) -> np.ndarray:
    return build_untrained(name, data).scores(*data.histories(np.arange(data.n_users), "test")).numpy()


def texts(data: llm_esr.Dataset) -> np.ndarray:
    vectors = np.asarray(data.item_embeddings, dtype=np.float64)
    centred = vectors - vectors.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_transitions(data: llm_esr.Dataset) -> None:
    expected = np.log(1e-4 + decayed(data, dense_transitions(data), 0.6, 5))
    np.testing.assert_allclose(scores(data, "transitions"), expected, rtol=1e-4, atol=1e-4)


def test_cooccurrence(data: llm_esr.Dataset) -> None:
    expected = decayed(data, dense_cooccurrence(data), 0.7, 10)
    np.testing.assert_allclose(scores(data, "co-occurrence"), expected, rtol=1e-5, atol=1e-6)


def test_texts(data: llm_esr.Dataset) -> None:
    cosines = texts(data) @ texts(data).T
    np.testing.assert_allclose(scores(data, "text"), decayed(data, cosines, 0.7, 10), rtol=1e-4, atol=1e-5)
    nearest = [cosines[data.history(u, "test")[::-1][:10] - 1].max(axis=0) for u in range(data.n_users)]
    np.testing.assert_allclose(scores(data, "text-max"), nearest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["transitions", "co-occurrence"])
def test_tables_do_not_depend_on_threads_and_keep_the_largest(data: llm_esr.Dataset, kind: str) -> None:
    given = (kind, np.array(data.items), np.array(data.offsets), data.training_lengths, data.n_items)
    one, two = _native.neighbour_table(*given, 3, 1), _native.neighbour_table(*given, 3, 2)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    dense = dense_transitions(data) if kind == "transitions" else dense_cooccurrence(data)
    np.testing.assert_allclose(one[1], -np.sort(-dense, axis=1)[:, :3], rtol=1e-5, atol=1e-7)


def test_newest_items() -> None:
    items, offsets = np.array([1, 2, 3, 4], np.int32), np.array([0, 3, 3, 4], np.int64)
    assert newest_items(items, offsets, 2).tolist() == [[3, 2], [0, 0], [4, 0]]


def test_an_unknown_table_and_arrays_that_do_not_fit_are_refused() -> None:
    good = (np.array([1, 2], np.int32), np.array([0, 2], np.int64), np.array([2], np.int64))
    with pytest.raises(ValueError, match="kind: got 'x', expected transitions or co-occurrence"):
        _native.neighbour_table("x", *good, 2, 1, 1)
    with pytest.raises(ValueError, match="no id from 1 to 1"):
        _native.neighbour_table("transitions", *good, 1, 1, 1)
    table = _native.neighbour_table("transitions", *good, 2, 1, 1)
    with pytest.raises(ValueError, match="no id from 1 to 2"):
        _native.add_neighbour_rows(table, (np.array([3], np.int32), np.array([0, 1], np.int64)), 0.5, 2, 1)
