"""Items like an item, held against plain NumPy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import llm_esr
from llm_esr.serving import Recommender
from llm_esr.serving.untrained import make_untrained


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    out = tmp_path_factory.mktemp("m") / "m"
    return llm_esr.train(tiny_folder, config="sasrec", out=out, progress=False, epochs=1, width=8, heads=1)


@pytest.fixture
def counted(tiny_folder: Path, tmp_path: Path) -> Recommender:
    """A scorer without a network."""
    return make_untrained(llm_esr.Dataset.open(tiny_folder), "transitions", llm_esr.Config(), tmp_path / "transitions")


def cosines_of(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(lengths > 0, lengths, 1)
    return unit @ unit.T


def met_together(data: llm_esr.Dataset) -> np.ndarray:
    """The cosine of two items' columns of the matrix of users and items, as item kNN has it."""
    met = np.zeros((data.n_users, data.n_items))
    for user in range(data.n_users):
        met[user, data.history(user, "train") - 1] = 1
    return cosines_of(met.T)


ORACLES: dict[str, Callable[[Recommender], np.ndarray]] = {
    "text": lambda model: cosines_of(model.data.item_embeddings),
    "trained": lambda model: cosines_of(model.model.item_matrix().detach().numpy()),
    "co-occurrence": lambda model: met_together(model.data),
}


@pytest.mark.parametrize("by", ORACLES)
def test_the_most_similar_items_are_those_of_the_largest_cosines(trained: Recommender, by: str) -> None:
    data, cosines = trained.data, ORACLES[by](trained)
    popular = np.argsort(-np.asarray(data.training_counts)[1:], kind="stable")[:4] + 1
    asked = [data.item_ids[item - 1] for item in popular]
    found = trained.similar_items(asked, k=5, by=by)
    assert found.columns == ["similar_to", "rank", "item_id", "score", "title"]
    assert list(dict.fromkeys(found["similar_to"])) == asked
    for name, item in zip(asked, popular, strict=True):
        rows = found.filter(similar_to=name)
        assert rows["rank"].to_list() == [1, 2, 3, 4, 5] and name not in rows["item_id"]
        others = np.delete(cosines[item - 1], item - 1)
        np.testing.assert_allclose(rows["score"], np.sort(others)[::-1][:5], atol=2e-3 if by == "text" else 1e-5)
        numbers = [data.item_index[other] for other in rows["item_id"]]
        np.testing.assert_allclose(rows["score"], cosines[item - 1, np.array(numbers) - 1], atol=1e-3)
        assert rows["title"].to_list() == [(data.titles() or [])[number - 1] for number in numbers]


def test_text_neighbours_are_those_that_the_index_stores(trained: Recommender) -> None:
    data = trained.data
    found = trained.similar_items(data.item_ids, k=10, by="text")
    numbers = [data.item_index[name] for name in found["item_id"]]
    assert np.array(numbers).reshape(data.n_items, 10).tolist() == np.asarray(data.similar_items).tolist()
    assert found["score"].to_list() == np.asarray(data.similar_items_scores).ravel().tolist()


def test_a_twin_with_a_lower_id_does_not_push_the_item_into_its_own_list(
    trained: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.ones((trained.data.n_items, 3), np.float32)
    monkeypatch.setattr(type(trained.data), "item_embeddings", property(lambda self: vectors))
    found = trained.similar_items(trained.data.item_ids[5], k=3, by="text")
    assert found["item_id"].to_list() == trained.data.item_ids[:3]
    first = trained.similar_items(trained.data.item_ids[1], k=3, by="text")
    assert first["item_id"].to_list() == [trained.data.item_ids[place] for place in (0, 2, 3)]


def test_more_than_there_is_gives_what_there_is(trained: Recommender) -> None:
    name = trained.data.item_ids[0]
    assert len(trained.similar_items(name, k=10_000, by="text")) == trained.data.n_items - 1
    some = trained.similar_items(name, k=10_000, by="co-occurrence")
    assert len(some) == (met_together(trained.data)[0] > 1e-9).sum() - 1


def test_without_a_word_the_best_there_is_is_taken(
    trained: Recommender, counted: Recommender, tiny_folder: Path, tmp_path: Path
) -> None:
    name = trained.data.item_ids[3]
    assert trained.similar_items(name).equals(trained.similar_items(name, by="text"))
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    for path in folder.glob("item_embeddings.*"):
        path.unlink()
    bare = llm_esr.Dataset.open(folder)
    network = Recommender(trained.model, bare, "sasrec", 42, trained.config)
    assert network.similar_items(name).equals(network.similar_items(name, by="trained"))
    scorer = Recommender(None, bare, "transitions", None, counted.config)
    assert scorer.similar_items(name).equals(scorer.similar_items(name, by="co-occurrence"))
    with pytest.raises(
        FileNotFoundError, match=r"item_embeddings\.npy, which does not exist; .* by co-occurrence \(by=\.\.\.\)$"
    ):
        scorer.similar_items(name, by="text")
    with pytest.raises(FileNotFoundError, match=r"ask by trained or co-occurrence"):
        network.similar_items(name, by="text")


def test_a_scorer_without_a_network_says_what_it_cannot(counted: Recommender) -> None:
    name = counted.data.item_ids[0]
    with pytest.raises(ValueError, match=r"transitions is a scorer without a network.* ask by text or co-occurrence"):
        counted.similar_items(name, by="trained")
    with pytest.raises(ValueError, match="transitions is a scorer without a network, so it has no user vectors"):
        counted.user_vectors()
    assert counted.similar_items(name, k=2, by="text").height == 2


def test_an_item_to_which_nothing_is_similar_is_told_and_has_no_row(
    trained: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.array(trained.data.item_embeddings)
    vectors[2] = 0
    monkeypatch.setattr(type(trained.data), "item_embeddings", property(lambda self: vectors))
    asked = [trained.data.item_ids[place] for place in (1, 2)]
    with pytest.warns(UserWarning, match=rf"nothing is similar by text to 1 of the items \({asked[1]}\): .*are zero"):
        found = trained.similar_items(asked, k=2, by="text")
    assert found["similar_to"].to_list() == [asked[0]] * 2


def test_unknown_items_and_wrong_options_are_refused(trained: Recommender) -> None:
    with pytest.raises(ValueError, match=r"items: no item 'i999' in the data"):
        trained.similar_items(["i1", "i999"])
    with pytest.warns(UserWarning, match="'i999' in the data"):
        found = trained.similar_items(["i1", "i999"], k=2, skip_unknown=True)
    assert found["similar_to"].unique().to_list() == ["i1"]
    with pytest.raises(ValueError, match=r"by: expected text, trained, co-occurrence, got 'taste'"):
        trained.similar_items("i1", by="taste")
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="k: expected a whole number"):
            trained.similar_items("i1", k=wrong)
    with pytest.warns(UserWarning, match="no item was given"):
        assert trained.similar_items([]).is_empty()
