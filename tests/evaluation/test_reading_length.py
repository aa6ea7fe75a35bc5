"""The paper's tail users go by the input as the model reads it, cut to its length (PAPER.md, section 4a)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import llm_esr
from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import evaluate
from llm_esr.scoring import NetworkScorer, Popularity
from llm_esr.scoring.blend import Blend
from llm_esr.scoring.fallback import ForEmptyHistories
from llm_esr.scoring.scorer import reads_at_most
from llm_esr.serving import Recommender


class Reader(Popularity):
    """Popularity that claims to read so many items."""

    def __init__(self, data: Any, max_len: int | None) -> None:
        super().__init__(data)
        self.max_len = max_len


class Vectors:
    """The least of a network: it tells no length, and everybody likes everything alike."""

    training = False

    def sequences(self, items: np.ndarray, offsets: np.ndarray) -> Any:
        return np.diff(offsets)

    def encode(self, sequences: Any) -> torch.Tensor:
        return torch.ones(len(sequences), 1)

    def item_matrix(self) -> torch.Tensor:
        return torch.ones(48, 1)

    def train(self, mode: bool = True) -> None:
        self.training = mode


class ShortVectors(Vectors):
    """Reads the five newest items."""

    max_len = 5


def users_of(scorer: Any, data: Any, **settings: Any) -> dict[str, int]:
    """Users by group."""
    config = EvaluateConfig.model_validate({"resamples": 0, **settings})
    rows = evaluate(scorer, data, config=config).rows
    return {row["group"]: row["users"] for row in rows if (row["metric"], row["k"]) == ("hr", 10)}


def test_below_the_threshold_every_user_is_a_tail_user(make_random_data: Any) -> None:
    data = make_random_data(41)
    paper = {"group_rule": "paper", "tail_user_below": 5}
    lengths = [len(data.history(user, "test")) for user in np.flatnonzero(data.targets("test"))]
    short = sum(length < 5 for length in lengths)
    assert 0 < short < len(lengths)
    for max_len, tail in ((4, len(lengths)), (5, short), (None, short)):
        found = users_of(Reader(data, max_len), data, **paper)
        assert (found["tail_user"], found["head_user"]) == (tail, len(lengths) - tail), max_len
    row = evaluate(Reader(data, 4), data, config=EvaluateConfig.model_validate(paper)).rows
    assert {r["value"] for r in row if (r["group"], r["metric"], r["k"]) == ("head_user", "hr", 10)} == {0.0}


def test_a_threshold_by_share_and_the_ranges_follow_the_cut_lengths(make_random_data: Any) -> None:
    data = make_random_data(42)
    config = EvaluateConfig(group_rule="paper", tail_share=0.5, length_groups=[4, 6], resamples=0)
    rows = evaluate(Reader(data, 5), data, config=config).rows
    cut = np.minimum([len(data.history(user, "test")) for user in range(data.n_users)], 5)
    below = next(r["value"] for r in rows if (r["group"], r["metric"]) == ("tail_user", "below"))
    assert np.mean(cut < below) >= 0.5 > np.mean(cut < below - 1)
    found = users_of(Reader(data, 5), data, group_rule="paper", length_groups=[4, 6])
    assert found["length_6_up"] == 0 < found["length_4_5"]


def test_groups_of_the_training_part_ask_for_no_length(make_random_data: Any) -> None:
    data = make_random_data(43)
    whole = evaluate(Reader(data, None), data).rows
    assert evaluate(Reader(data, 1), data).rows == whole


def test_every_scorer_over_a_network_tells_the_networks_length(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    network = NetworkScorer(ShortVectors(), "short", fallback=Popularity(data))
    assert reads_at_most(network) == 5
    assert reads_at_most(Blend(network, data, {"log-popularity": 1.0}, "blend")) == 5
    assert reads_at_most(ForEmptyHistories(network, Popularity(data))) == 5
    for scorer in (Popularity(data), Blend(None, data, {"transitions": 1.0}, "blend"), NetworkScorer(Vectors(), "any")):
        assert reads_at_most(scorer) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_tables: tuple[pl.DataFrame, pl.DataFrame]) -> llm_esr.Run:
    settings = ["model.width=8", "model.max_len=3", "train.epochs=1", "evaluate.group_rule=paper",
                "evaluate.tail_user_below=4", "evaluate.resamples=0", "blend.scorers=[transitions]"]  # fmt: skip
    return llm_esr.run(
        tiny_tables[0],
        out=tmp_path_factory.mktemp("length") / "run",
        models=["sasrec", "popularity", "transitions"],
        overrides=settings,
        progress=False,
    )


def test_figures_of_a_run_and_its_differences_have_the_primary_models_groups(run: llm_esr.Run) -> None:
    def users(model: str, group: str) -> set[int]:
        return {
            r["users"] for r in run.rows if (r["model"], r["group"], r["metric"], r["k"]) == (model, group, "hr", 10)
        }

    everybody = users("sasrec", "all")
    assert users("sasrec", "tail_user") == everybody and users("sasrec", "head_user") == {0}
    assert users("transitions", "tail_user") < everybody or users("transitions", "head_user") != {0}
    assert users("sasrec - transitions", "tail_user") == everybody
    assert not users("sasrec - transitions", "head_user")
    loaded = Recommender.load(run.folder)
    assert (loaded.max_len, loaded.without_blend().max_len, run.recommender("transitions").max_len) == (3, 3, None)
