"""The files of neighbours in a data folder."""

import json
import sys

import numpy as np
import polars as pl
import pytest

from llm_esr.config import IndexConfig
from llm_esr.data import prepare
from llm_esr.retrieval import index as build_index
from llm_esr.retrieval import index_fresh, index_key
from llm_esr.semantics import embed
from llm_esr.semantics.vector_files import write_vectors

module = sys.modules["llm_esr.retrieval.index"]  # the name in the package is the function
N_USERS, N_ITEMS = 9, 12


def index(data, k=None, **settings):
    return build_index(data, k, progress=False, **settings)


@pytest.fixture
def shop(tmp_path):
    """Users and items with external vectors; users 3 and 4 share one, user 5 and item 7 have zeros."""
    rng = np.random.default_rng(0)
    users, items = rng.standard_normal((N_USERS, 4)), rng.standard_normal((N_ITEMS, 5))
    users[4], users[5], items[7] = users[3], 0, 0
    rows = [(f"u{u}", f"i{(3 * u + n) % N_ITEMS}", n) for u in range(N_USERS) for n in range(5)]
    table = pl.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": [f"t{i}" for i in range(N_ITEMS)]})
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = prepare(events, items=table, out=tmp_path / "shop")
    for name, array in (("user_embeddings", users), ("item_embeddings", items)):
        write_vectors(data.folder, name, array.astype(np.float32), {"key": name})
    return data


def by_numpy(vectors, k):
    """Row numbers of the k nearest, self and zero vectors left out."""
    norms = np.linalg.norm(vectors, axis=1)
    scores = vectors @ vectors.T / np.maximum(norms[:, None] * norms, 1e-30)
    scores[norms == 0], scores[:, norms == 0] = -np.inf, -np.inf
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isfinite(best), order, -1), np.where(np.isfinite(best), best, 0)


def test_similar_users_are_user_numbers_best_first(shop):
    data = index(shop, k=3)
    assert data.similar_users.dtype == np.int32
    np.testing.assert_array_equal(data.similar_users, by_numpy(np.asarray(shop.user_embeddings), 3)[0])
    assert data.similar_users[3, 0] == 4
    assert data.similar_users[4, 0] == 3
    assert (data.similar_users[5] == -1).all()


def test_similar_items_are_item_ids_with_their_cosines(shop):
    data = index(shop)
    rows, scores = by_numpy(np.asarray(shop.item_embeddings), 10)
    assert data.similar_items.shape == (N_ITEMS, 10)
    np.testing.assert_array_equal(data.similar_items, np.where(rows < 0, -1, rows + 1))
    np.testing.assert_allclose(data.similar_items_scores, scores, atol=1e-6)
    own = np.arange(1, N_ITEMS + 1)[:, None]
    assert not (np.asarray(data.similar_items) == own).any()


def test_fewer_users_than_k_leave_empty_slots(shop):
    found = np.asarray(index(shop, k=100).similar_users)
    assert found.shape == (N_USERS, 100)
    assert ((found >= 0).sum(axis=1)[[0, 5]] == [N_USERS - 2, 0]).all()


def test_each_file_says_what_it_was_made_from(shop):
    data = index(shop, k=2)
    for name, shape in (("similar_users", [N_USERS, 2]), ("similar_items", [N_ITEMS, 10])):
        about = json.loads((data.folder / f"{name}.json").read_text())
        assert about["shape"] == shape
        assert about["dtype"] == "int32"
        assert about["engine"] == "exact"
        assert set(about["made_from"]) == {"user_embeddings", "item_embeddings"}


def test_fresh_neighbours_are_left_alone(shop, monkeypatch):
    assert not index_fresh(shop)
    data = index(shop)
    assert index_fresh(data)
    monkeypatch.setattr(module, "nearest", lambda *_, **__: pytest.fail("searched again"))
    index(data)
    index(data.folder)


def test_other_vectors_or_settings_make_neighbours_stale(shop):
    data = index(shop, k=3)
    key = index_key(data, IndexConfig(similar_users=3))
    assert index_fresh(data, IndexConfig(similar_users=3))
    assert index_key(data, IndexConfig(similar_users=4)) != key
    other = embed(data, "lsa", progress=False)
    assert index_key(other, IndexConfig(similar_users=3)) != key
    assert not index_fresh(other, IndexConfig(similar_users=3))
    (data.folder / "similar_items.npy").unlink()
    assert index(other, k=3).similar_items.shape == (N_ITEMS, 10)


def test_the_number_of_threads_does_not_change_a_file(shop):
    one = (index(shop, threads=1).folder / "similar_users.npy").read_bytes()
    (shop.folder / "similar_users.npy").unlink()
    assert (index(shop, threads=4).folder / "similar_users.npy").read_bytes() == one


def test_a_folder_without_vectors_names_the_stage_that_makes_them(shop):
    for name in ("item_embeddings", "user_embeddings"):
        (shop.folder / f"{name}.npy").unlink()
    assert not index_fresh(type(shop).open(shop.folder))
    with pytest.raises(FileNotFoundError, match=r"run llm_esr\.embed"):
        index(shop.folder)


def test_a_k_that_is_none_is_refused(shop):
    with pytest.raises(ValueError, match="k is 0"):
        index(shop, k=0)
