"""The files of neighbours in a data folder."""

import json
import shutil
import sys
import warnings

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.config import IndexConfig
from llm_esr.data import prepare
from llm_esr.pipeline import doctor
from llm_esr.retrieval import UserVectors, index_fresh, index_key, neighbours_match, scores_match
from llm_esr.retrieval import index as build_index
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


@pytest.fixture
def make_shop(tmp_path):
    """Makes a shop whose users have so many training items, and random vectors."""

    def make(lengths):
        rng = np.random.default_rng(3)
        # A temporal split: what lies before the held-out times is training.
        rows = [(f"u{u}", f"i{n}", 100 + n) for u, length in enumerate(lengths) for n in range(length)]
        rows += [(f"u{u}", "i11", 500) for u in range(len(lengths))]
        rows += [(f"u{u}", "i10", 900) for u in range(len(lengths))]
        table = pl.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": ["t"] * N_ITEMS})
        events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        data = prepare(events, items=table, out=tmp_path / "made", split="temporal", validation_from=400, test_from=800)
        assert sorted(data.training_lengths) == sorted(lengths)
        users = rng.standard_normal((len(lengths), 4))
        for name, array in (("user_embeddings", users), ("item_embeddings", rng.standard_normal((data.n_items, 5)))):
            write_vectors(data.folder, name, array.astype(np.float32), {"key": name})
        return data

    return make


def by_numpy(vectors, k, teachers=None, askers=None):
    """Row numbers of the k nearest and their cosines: self and zero vectors left out, and who is not among either."""
    norms = np.linalg.norm(vectors, axis=1)
    scores = vectors @ vectors.T / np.maximum(norms[:, None] * norms, 1e-30)
    scores[norms == 0], scores[:, norms == 0] = -np.inf, -np.inf
    if teachers is not None:
        scores[~askers], scores[:, ~teachers] = -np.inf, -np.inf
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


def test_the_cosines_of_similar_users_stand_beside_them(shop):
    data = index(shop, k=N_USERS - 1)
    assert data.similar_users_scores.dtype == np.float32
    np.testing.assert_allclose(
        data.similar_users_scores, by_numpy(np.asarray(shop.user_embeddings), N_USERS - 1)[1], atol=1e-6
    )
    assert not data.similar_users_scores[np.asarray(data.similar_users) < 0].any()
    assert data.similar_users_scores[3, 0] == pytest.approx(1.0)


def test_cosines_belong_to_the_similar_users_that_they_were_found_with(shop):
    data = index(shop, k=3)
    assert scores_match(data)
    before = {suffix: (data.folder / f"similar_users{suffix}").read_bytes() for suffix in (".npy", ".json")}
    index(shop, k=4)
    assert scores_match(data)
    for suffix, content in before.items():
        (data.folder / f"similar_users{suffix}").write_bytes(content)
    assert not scores_match(data)
    assert any("similar_users_scores" in finding.name and finding.bad for finding in doctor(data.folder))


def test_users_with_a_short_history_are_nobodys_similar_user_but_have_some(make_shop):
    data = make_shop([3, 3, 3, 1, 1, 1, 0, 8, 8])
    vectors = np.asarray(data.user_embeddings, np.float64).copy()
    for least in (2, 4):
        made = index(data, k=4, teacher_min_history=least)
        teachers = np.asarray(data.training_lengths) >= least
        expected, cosines = by_numpy(vectors, 4, teachers, np.asarray(data.training_lengths) > 0)
        np.testing.assert_array_equal(made.similar_users, expected)
        np.testing.assert_allclose(made.similar_users_scores, cosines, atol=1e-6)
        has_some = (np.asarray(made.similar_users) >= 0).any(axis=1)
        assert (has_some == (np.asarray(data.training_lengths) > 0)).all(), "short ones have some, those of 0 have none"
    usual = index(data, k=4)
    with_items = np.asarray(data.training_lengths) > 0
    np.testing.assert_array_equal(usual.similar_users, by_numpy(vectors, 4, with_items, with_items)[0])
    nobody = index(data, k=4, teacher_min_history=9)
    assert (np.asarray(nobody.similar_users) == -1).all()


def test_users_are_compared_by_the_vectors_of_a_model(shop):
    rng = np.random.default_rng(7)
    model = rng.standard_normal((N_USERS, 3)).astype(np.float32)
    made = index(shop, k=3, users_by="collaborative", collaborative=model)
    np.testing.assert_array_equal(made.similar_users, by_numpy(model, 3)[0])


def test_both_is_the_mean_of_the_two_cosines(shop):
    rng = np.random.default_rng(7)
    texts = np.asarray(shop.user_embeddings)
    model = rng.standard_normal((N_USERS, 3)).astype(np.float32) * 1000  # its length has no say
    made = index(shop, k=4, users_by="both", collaborative=model)
    unit = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30) for v in (texts, model)]
    mean = (unit[0] @ unit[0].T + unit[1] @ unit[1].T) / 2
    for user in (u for u in range(N_USERS) if u != 5):  # user 5 has no text: see below
        for other, cosine in zip(made.similar_users[user], made.similar_users_scores[user], strict=True):
            if other != 5:
                assert cosine == pytest.approx(mean[user, other], abs=1e-6)
    others = [u for u in range(N_USERS) if u != 5]
    # Whose text is zero is compared by the model alone, at a right angle on the other side.
    np.testing.assert_allclose(
        sorted(made.similar_users_scores[5], reverse=True),
        sorted((unit[1][others] @ unit[1][5]) / np.sqrt(2), reverse=True)[:4],
        atol=1e-6,
    )


def test_neighbours_of_a_model_are_fresh_as_long_as_what_its_vectors_are_made_from(shop):
    asked = []

    def vectors_of(source):
        def compute():
            asked.append(source)
            return np.random.default_rng(len(source)).standard_normal((N_USERS, 3)).astype(np.float32)

        return UserVectors(source, compute)

    config = IndexConfig(users_by="both", model="runs/a")
    index(shop, config=config, collaborative=vectors_of("a"))
    moved = IndexConfig(users_by="both", model="elsewhere/a")
    assert index_fresh(shop, moved, collaborative=vectors_of("a"))
    index(shop, config=moved, collaborative=vectors_of("a"))
    assert asked == ["a"], "a fresh index encodes nobody"
    assert not index_fresh(shop, config, collaborative=vectors_of("bb"))
    assert not index_fresh(shop, IndexConfig())
    array = np.ones((N_USERS, 2), np.float32)
    keys = {index_key(shop, config, collaborative=given) for given in (array, array * 2, array.astype(np.float16))}
    assert len(keys) == 3 and index_key(shop, config, collaborative=array.copy()) in keys
    assert json.loads((shop.folder / "similar_users.json").read_text())["made_from"]["collaborative"] == "a"
    assert neighbours_match(shop)


def test_without_texts_of_users_the_vectors_of_a_model_do(shop):
    (shop.folder / "user_embeddings.npy").unlink()
    (shop.folder / "user_embeddings.json").unlink()
    model = np.random.default_rng(1).standard_normal((N_USERS, 3)).astype(np.float32)
    config = IndexConfig(users_by="collaborative")
    assert (index(shop, config=config, collaborative=model).similar_users >= 0).any()
    assert index_fresh(shop, config, collaborative=model)


@pytest.mark.parametrize(
    ("settings", "given", "said"),
    [
        ({"users_by": "both"}, None, "both, which compares the user vectors of a trained model, and none were given"),
        ({}, np.ones((N_USERS, 2), np.float32), "index.users_by is text, which does not read them"),
        ({"users_by": "both"}, np.ones((N_USERS, 2), int), r"holds int64 \(9, 2\); expected floats \[9, C\]"),
        ({"users_by": "both"}, np.ones((N_USERS - 1, 2)), r"holds float64 \(8, 2\)"),
        ({"users_by": "collaborative"}, UserVectors("x", lambda: np.ones((N_USERS, 2, 2))), r"\(9, 2, 2\)"),
        ({"users_by": "collaborative"}, np.full((N_USERS, 2), np.nan, np.float32), "row 0"),
        ({"users_by": "both"}, np.full((N_USERS, 2), np.inf, np.float32), "row 0"),
        ({"users_by": "friends"}, None, "users_by"),
        ({"model": "runs/a"}, None, "index.model runs/a is not read where index.users_by is text"),
        ({"teacher_min_history": 0}, None, "teacher_min_history"),
    ],
)
def test_vectors_of_a_model_that_do_not_fit_are_refused(shop, settings, given, said):
    with pytest.raises(ValueError, match=said):
        index(shop, collaborative=given, **settings)


def test_similar_items_are_item_ids_with_their_cosines(shop):
    data = index(shop)
    rows, scores = by_numpy(np.asarray(shop.item_embeddings), 10)
    assert data.similar_items.shape == (N_ITEMS, 10)
    np.testing.assert_array_equal(data.similar_items, np.where(rows < 0, -1, rows + 1))
    np.testing.assert_allclose(data.similar_items_scores, scores, atol=1e-6)
    own = np.arange(1, N_ITEMS + 1)[:, None]
    assert not (np.asarray(data.similar_items) == own).any()


def test_fewer_users_than_k_leave_empty_slots(shop):
    found = np.asarray(index(shop).similar_users)
    assert ((found >= 0).sum(axis=1)[[0, 5]] == [N_USERS - 2, 0]).all()


def test_each_file_says_what_it_was_made_from(shop):
    data = index(shop, k=2)
    for name, shape in (("similar_users", [N_USERS, 2]), ("similar_items", [N_ITEMS, 10])):
        about = json.loads((data.folder / f"{name}.json").read_text())
        assert about["shape"] == shape
        assert about["dtype"] == "int32"
        assert about["engines"] == ["exact", "exact"]
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


def test_no_more_neighbours_are_kept_than_there_are_others(shop):
    with pytest.warns(UserWarning, match="similar_users 30,000 is more than the 8 others .* 9 users has; 8 are"):
        data = index(shop, k=30_000)
    assert data.similar_users.shape == data.similar_users_scores.shape == (N_USERS, N_USERS - 1)
    assert index_fresh(data, IndexConfig(similar_users=40_000)) and index_fresh(data), "they are the same files"
    with pytest.warns(UserWarning, match="index.similar_items 99 .* 11 others that each of 12 items"):
        assert index(shop, similar_items=99).similar_items.shape == (N_ITEMS, N_ITEMS - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # by default nobody asked for so many
        assert index(shop).similar_users.shape == (N_USERS, N_USERS - 1)


def test_a_training_takes_as_many_teachers_as_a_small_shop_has(shop, tmp_path):
    data = index(shop)
    one = {"epochs": 1, "width": 8, "heads": 1, "progress": False}
    llm_esr.train(data, config="dual-view", out=tmp_path / "m", **one)


def test_what_changes_no_neighbour_leaves_them_fresh(shop):
    data = index(shop)
    for same in ({"recall": 0.5}, {"method": "exact"}, {"method": "exact", "recall": 0.7}):
        assert index_fresh(data, IndexConfig(**same)), same
    lists = index(shop, method="lists", recall=0.9)
    assert not index_fresh(lists, IndexConfig(method="lists", recall=0.8))
    assert not index_fresh(lists)


def test_a_run_folder_stands_for_its_data(shop, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(shop.folder, run / "data")
    assert llm_esr.index(run, k=3, progress=False).folder == run / "data"
    assert llm_esr.Dataset.open(run).similar_users.shape == (N_USERS, 3)
