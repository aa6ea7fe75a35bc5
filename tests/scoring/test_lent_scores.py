"""An item that training never met has the scores of its nearest items, where scores come from who met what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import llm_esr
from llm_esr.scoring.blend import BLENDED, Blend, blended_scorers
from llm_esr.scoring.lent_scores import LENDERS, TEMPERATURE, Lenders


@pytest.fixture(scope="module")
def data(cold_folder: Path) -> llm_esr.Dataset:
    return llm_esr.Dataset.open(cold_folder)


def lent(data: llm_esr.Dataset, scores: np.ndarray) -> np.ndarray:
    """The oracle."""
    counts, out = data.training_counts, scores.copy()
    for item in np.flatnonzero(counts[1:] == 0) + 1:
        pairs = zip(data.similar_items[item - 1][:LENDERS], data.similar_items_scores[item - 1][:LENDERS], strict=True)
        near = [(other, float(cosine)) for other, cosine in pairs if other > 0 and counts[other] > 0]
        if near:
            weights = np.exp([cosine / TEMPERATURE for _, cosine in near])
            columns = [other - 1 for other, _ in near]
            out[:, item - 1] = scores[:, columns] @ (weights / weights.sum())
    return out


@pytest.mark.parametrize("name", BLENDED)
def test_scores_of_unmet_items_are_those_of_their_lenders(data: llm_esr.Dataset, name: str) -> None:
    histories = data.histories(np.arange(data.n_users), "test")
    plain = BLENDED[name].build(data).scores(*histories).numpy()
    expected = lent(data, plain) if BLENDED[name].lent else plain
    given = blended_scorers(data, [name])[name].scores(*histories).numpy()
    np.testing.assert_allclose(given, expected, atol=2e-5)
    if BLENDED[name].lent:
        assert not np.allclose(given, plain, atol=1e-3)
    network = Blend(None, data, {name: 2.0}, "alone").scores(*histories).numpy()
    np.testing.assert_allclose(network, 2 * expected, atol=5e-5)


def test_nothing_is_lent_where_every_item_was_met_or_nearness_is_unknown(
    tiny_folder: Path, data: llm_esr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Lenders.of(llm_esr.Dataset.open(tiny_folder)) is None
    monkeypatch.setattr(type(data), "similar_items", None)
    assert Lenders.of(data) is None


def test_the_reasons_for_an_unmet_item_are_those_for_its_lenders(data: llm_esr.Dataset) -> None:
    scorer = blended_scorers(data, ["co-occurrence"])["co-occurrence"]
    lenders = Lenders.of(data)
    assert lenders is not None
    items, offsets = data.histories(np.arange(data.n_users), "test")
    scores = scorer.scores(items, offsets)
    told = 0
    for user in range(0, data.n_users, 7):
        history = items[offsets[user] : offsets[user + 1]]
        for item in (lenders.unmet + 1).tolist():
            total = sum(value for _, value in scorer.by_item(history, item))
            assert total == pytest.approx(float(scores[user, item - 1]), abs=1e-5)
            told += total > 0
    assert told
