"""Neighbour scorers against dense NumPy: every formula over the whole matrix."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import llm_esr
from llm_esr import _native
from llm_esr.scoring import build_untrained, ease, neighbours
from llm_esr.scoring.blend import blended_scorers
from llm_esr.scoring.lists import top_k
from llm_esr.scoring.neighbours import CountedNeighbours, newest_items
from llm_esr.scoring.similar_histories import PrefixNeighbours, SimilarUsers


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


@pytest.mark.parametrize("kept", [True, False], ids=["cosines kept", "a product each time"])
def test_texts(data: llm_esr.Dataset, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    if not kept:
        monkeypatch.setattr(neighbours, "_KEPT_COSINES", 0)
    cosines = texts(data) @ texts(data).T
    histories = [data.history(user, "test") for user in range(data.n_users)]
    expected = {
        "text": decayed(data, cosines, 0.7, 10),
        "text-max": [cosines[history[::-1][:10] - 1].max(axis=0) for history in histories],
    }
    of_blend = blended_scorers(data, expected)
    assert of_blend["text"].cosines is of_blend["text-max"].cosines and (of_blend["text"].cosines is not None) == kept
    given = data.histories(np.arange(data.n_users), "test")
    for name, values in expected.items():
        np.testing.assert_allclose(scores(data, name), values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(of_blend[name].scores(*given).numpy(), values, rtol=1e-4, atol=1e-5)
        # A user without a history: nothing is near.
        none = of_blend[name].scores(np.zeros(0, np.int32), np.zeros(2, np.int64)).numpy()
        np.testing.assert_array_equal(none, np.full((1, data.n_items), -1.0 if name == "text-max" else 0.0))


def test_rows_of_a_matrix_do_not_depend_on_threads_and_misfits_are_refused() -> None:
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(5000, 5000)).astype(np.float32)
    lengths = rng.integers(0, 15, size=9)
    histories = rng.integers(1, 5001, size=lengths.sum()).astype(np.int32), np.append(0, lengths.cumsum())
    for decay in (0.7, None):
        one, two = (_native.combine_dense_rows(matrix, histories, decay, 10, threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)
        for row, (start, end) in zip(one, itertools.pairwise(histories[1]), strict=True):
            newest = matrix[histories[0][start:end][::-1][:10] - 1]
            if decay:
                expected = (decay ** np.arange(1, len(newest) + 1)) @ newest
            else:
                expected = newest.max(axis=0, initial=-np.inf) if len(newest) else np.full(5000, -1.0)
            np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="5001 is no id from 1 to 5000"):
        _native.combine_dense_rows(matrix, (np.array([5001], np.int32), np.array([0, 1])), None, 10, 1)
    with pytest.raises(ValueError, match="do not fit"):
        _native.combine_dense_rows(matrix, (np.array([1], np.int32), np.array([0, 2])), None, 10, 1)
    with pytest.raises(ValueError, match="are not 4 rows of 4"):
        _native.combine_dense_rows(matrix[:4, :3].copy(), (np.array([1], np.int32), np.array([0, 1])), None, 10, 1)


@pytest.mark.parametrize("kind", ["transitions", "co-occurrence"])
def test_tables_do_not_depend_on_threads_and_keep_the_largest(data: llm_esr.Dataset, kind: str) -> None:
    given = (kind, np.array(data.items), np.array(data.offsets), data.training_lengths, data.n_items)
    one, two = _native.neighbour_table(*given, 3, 1), _native.neighbour_table(*given, 3, 2)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    dense = dense_transitions(data) if kind == "transitions" else dense_cooccurrence(data)
    np.testing.assert_allclose(one[1], -np.sort(-dense, axis=1)[:, :3], rtol=1e-5, atol=1e-7)


def test_ease(data: llm_esr.Dataset) -> None:
    met = np.zeros((data.n_users, data.n_items))
    for user in range(data.n_users):
        met[user, data.history(user, "train") - 1] = 1
    inverse = np.linalg.inv(met.T @ met + 300 * np.eye(data.n_items))
    table = -inverse / np.diag(inverse)
    np.fill_diagonal(table, 0)
    np.testing.assert_allclose(scores(data, "ease"), decayed(data, np.maximum(table, 0), 0.9, 20), rtol=1e-3, atol=1e-6)


def test_ease_refuses_a_catalogue_whose_square_is_too_large(
    data: llm_esr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "MOST_ITEMS", data.n_items - 1)
    with pytest.raises(ValueError, match="ease inverts a matrix of items by items"):
        build_untrained("ease", data)


def profile(data: llm_esr.Dataset, history: np.ndarray) -> np.ndarray:
    total = sum(0.8 ** (back + 1) * texts(data)[item - 1] for back, item in enumerate(history[::-1]))
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("name", ["prefixes", "similar-users"])
def test_votes_of_similar_histories(data: llm_esr.Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrefixNeighbours, "nearest", 20)
    monkeypatch.setattr(SimilarUsers, "nearest", 10)
    profiles, votes = [], []
    for user in range(data.n_users):
        history = data.history(user, "train")
        if name == "similar-users" and len(history):
            profiles.append(profile(data, history))
            votes.append(history)
        for cut in range(1, len(history)) if name == "prefixes" else ():
            profiles.append(profile(data, history[:cut]))
            votes.append(history[cut : cut + 1])
    found, checked = scores(data, name), 0
    for user in range(0, data.n_users, 7):
        cosines = np.array(profiles) @ profile(data, data.history(user, "test"))
        count = 20 if name == "prefixes" else 10
        nearest = np.argsort(-cosines)
        if cosines[nearest[count - 1]] - cosines[nearest[count]] < 1e-5:
            continue  # which of two equal ones votes is not said
        checked += 1
        nearest = nearest[:count]
        weights = np.exp(cosines[nearest] / 0.05)
        expected = np.zeros(data.n_items)
        for place, weight in zip(nearest, weights / weights.sum(), strict=True):
            np.add.at(expected, votes[place] - 1, weight)
        np.testing.assert_allclose(found[user], expected, rtol=2e-3, atol=1e-5)
    assert checked > 5


def test_an_empty_history_gets_no_votes(data: llm_esr.Dataset) -> None:
    empty = np.empty(0, np.int32), np.zeros(2, np.int64)
    for name in ("prefixes", "similar-users", "ease"):
        assert np.isfinite(build_untrained(name, data).scores(*empty).numpy()).all()


@pytest.mark.parametrize("name", ["transitions", "co-occurrence", "ease"])
@pytest.mark.parametrize("keep_seen", [False, True])
def test_lists_from_the_entries_are_those_of_all_scores(data: llm_esr.Dataset, name: str, keep_seen: bool) -> None:
    scorer = build_untrained(name, data)
    assert isinstance(scorer, CountedNeighbours)
    items, offsets = data.histories(np.arange(data.n_users), "serving")
    for k in (1, 7, data.n_items):
        ids, values = scorer.lists(items, offsets, k, keep_seen=keep_seen)
        dense_ids, dense = top_k(scorer.scores(items, offsets), k, None if keep_seen else (items, offsets))
        np.testing.assert_array_equal(ids, dense_ids)
        np.testing.assert_allclose(values[ids > 0], dense[ids > 0], rtol=1e-5)
    assert scorer.lists(items, offsets, 10**12)[0].shape == (data.n_users, data.n_items)


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
