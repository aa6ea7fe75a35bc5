"""Explanations name items of the history that the scorers' tables really hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm_esr.config import load_config
from llm_esr.data import Dataset
from llm_esr.scoring import build_untrained
from llm_esr.serving import Recommender
from llm_esr.serving.explaining import Explainer
from llm_esr.training import train

SMALL = ["model.width=8", "model.heads=1", "model.max_len=12", "train.epochs=1"]


@pytest.fixture(scope="module")
def model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    config = load_config("sasrec", [*SMALL, "blend.scorers=[]"])
    trained = train(tiny_folder, config=config, out=tmp_path_factory.mktemp("m") / "m", progress=False)
    weights = {"transitions": 1.0, "co-occurrence": 2.0, "text-max": 3.0}
    return Recommender(trained.model, trained.data, "m", 42, config, blend=weights)


@pytest.mark.parametrize("name", ["transitions", "co-occurrence", "text", "text-max"])
def test_what_each_item_adds_adds_up_to_the_score(model: Recommender, name: str) -> None:
    scorer = build_untrained(name, model.data)
    history = np.unique(model.data.history(3, "serving"))[:4].astype(np.int32)
    scores = scorer.scores(history, np.array([0, len(history)], np.int64))[0].numpy()
    for item in range(1, model.data.n_items + 1):
        found = scorer.by_item(history, item)
        assert {number for number, _ in found} <= set(history.tolist())
        assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)
        total = sum(value for _, value in found)
        if name == "transitions":
            assert np.log(1e-4 + total) == pytest.approx(scores[item - 1], abs=1e-4)
        elif name == "co-occurrence" or (found and name == "text-max"):
            assert total == pytest.approx(scores[item - 1], abs=1e-5)


def test_every_recommended_item_has_its_reasons(model: Recommender) -> None:
    users = model.data.user_ids[:3]
    plain, explained = model.recommend(users=users, k=4), model.recommend(users=users, k=4, explain=True)
    assert explained.drop("why").equals(plain)
    titles = model.data.titles() or model.data.item_ids
    for row in explained.iter_rows(named=True):
        met = {titles[i - 1] for i in model.data.history(model.data.user_index[row["user_id"]], "serving")}
        assert "of the network alone" in row["why"]
        named = [part.split("”")[0] for part in row["why"].split("“")[1:]]
        assert set(named) <= met
    assert explained["why"].str.contains("transitions|co-occurrence|text-max").any()


def test_histories_are_explained_and_an_empty_one_says_so(model: Recommender) -> None:
    item = model.data.item_ids[0]
    with pytest.warns(UserWarning, match="no known item"):
        found = model.recommend(histories=[[item], ["no such item"]], k=2, explain=True)
    assert found.filter(pl.col("history") == 1)["why"].unique().to_list() == [
        "no known item in the history: the most popular"
    ]
    assert found.height == 4


def test_a_network_without_a_blend_is_explained_by_the_same_scorers(model: Recommender) -> None:
    assert set(Explainer(model.without_blend()).parts) > set(Explainer(model).parts)
    assert "why" in model.without_blend().recommend(users=model.data.user_ids[:1], k=1, explain=True).columns


def test_popularity_that_is_subtracted_and_lent_scores_are_said_so(cold_folder: Path) -> None:
    data = Dataset.open(cold_folder)
    config = load_config("sasrec", SMALL)
    weights = {"co-occurrence": 1.0, "log-popularity": -0.1}
    explainer = Explainer(Recommender(None, data, "neighbours", None, config, blend=weights))
    unmet = np.flatnonzero(data.training_counts[1:] == 0).astype(np.int32) + 1
    said = [words for user in range(20) for words in explainer.why(data.history(user, "test"), unmet)]
    assert all("met by few (log-popularity)" in words and "met by many" not in words for words in said)
    assert any("met by nobody yet, but of its nearest items: met by the users of “" in words for words in said)
