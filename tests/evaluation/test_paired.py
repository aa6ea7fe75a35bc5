"""Paired differences: the mean is that of the users, the interval is paired, seeds are averaged first."""

from __future__ import annotations

import numpy as np
import pytest

from llm_esr.evaluation import render
from llm_esr.evaluation.groups import Group
from llm_esr.evaluation.metrics import expected_metrics
from llm_esr.evaluation.paired import RankedUsers, paired_rows

USERS = 400


def ranked(model: str, seed: int, above: np.ndarray) -> RankedUsers:
    return RankedUsers(model, seed, "test", "full", np.arange(USERS), above, np.zeros(USERS, np.int64))


@pytest.fixture
def above() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 30, USERS)


def groups() -> list[Group]:
    half = np.arange(USERS) < USERS // 2
    return [Group("all", np.ones(USERS, np.bool_), 0), Group("tail_item", half, 1), Group("none", half & ~half, 2)]


def ndcg(above: np.ndarray) -> np.ndarray:
    return expected_metrics(above, np.zeros_like(above), [10])["ndcg", 10]


def row_of(rows: list[dict], group: str, metric: str = "ndcg") -> dict:
    return next(row for row in rows if row["group"] == group and row["metric"] == metric)


def test_the_difference_is_the_mean_over_users_and_its_interval_is_paired(above: np.ndarray) -> None:
    better = np.maximum(above - (np.arange(USERS) % 3 == 0), 0)
    rows = paired_rows([ranked("a", 1, better)], [ranked("b", 1, above)], groups(), [10], resamples=2000)
    row = row_of(rows, "all")
    each = ndcg(better) - ndcg(above)
    assert row["model"] == "a - b" and row["seed"] == 1
    assert row["value"] == pytest.approx(each.mean(), abs=1e-9)
    error = 1.96 * each.std() / np.sqrt(USERS)
    assert row["high"] - row["low"] == pytest.approx(2 * error, rel=0.1)
    # Apart, each model's interval is many times as wide.
    assert row["high"] - row["low"] < 0.3 * 2 * 1.96 * ndcg(above).std() / np.sqrt(USERS)
    assert row_of(rows, "tail_item")["value"] == pytest.approx(each[: USERS // 2].mean(), abs=1e-9)
    assert {row["group"] for row in rows} == {"all", "tail_item"}


def test_seeds_are_averaged_and_their_spread_is_told(above: np.ndarray) -> None:
    others = [np.random.default_rng(seed).integers(0, 30, USERS) for seed in (1, 2, 3)]
    first = [ranked("a", seed, other) for seed, other in enumerate(others)]
    second = [ranked("b", seed, above) for seed in range(3)]
    rows = paired_rows(first, second, groups(), [10], resamples=0)
    means = [ndcg(other).mean() - ndcg(above).mean() for other in others]
    assert row_of(rows, "all")["value"] == pytest.approx(np.mean(means), abs=1e-8)
    assert row_of(rows, "all", "seeds_sd")["value"] == pytest.approx(np.std(means, ddof=1), abs=1e-8)
    assert row_of(rows, "all")["seed"] is None and row_of(rows, "all")["low"] is None


def test_a_model_equals_itself(above: np.ndarray) -> None:
    row = row_of(paired_rows([ranked("a", 1, above)], [ranked("b", 1, above)], groups(), [10]), "all")
    assert (row["value"], row["low"], row["high"]) == (0, 0, 0)


def test_ties_count_as_in_the_evaluation(above: np.ndarray) -> None:
    tied = RankedUsers("a", 1, "test", "full", np.arange(USERS), above, np.ones(USERS, np.int64))
    strict = paired_rows([tied], [ranked("b", 1, above)], groups(), [10], ties="strict", resamples=0)
    assert row_of(strict, "all")["value"] == 0
    assert row_of(paired_rows([tied], [ranked("b", 1, above)], groups(), [10], resamples=0), "all")["value"] < 0


def test_what_cannot_be_paired_is_refused(above: np.ndarray) -> None:
    one, other = ranked("a", 1, above), ranked("b", 1, above)
    fewer = RankedUsers("b", 1, "test", "full", np.arange(3), above[:3], above[:3])
    for first, second in (([one], [fewer]), ([one, one], [other]), ([], [])):
        with pytest.raises(ValueError, match="same users, protocol and seeds"):
            paired_rows(first, second, groups(), [10])


def test_a_table_shows_differences_with_their_sign(above: np.ndarray) -> None:
    better = np.maximum(above - 1, 0)
    rows = paired_rows([ranked("a", 1, better)], [ranked("b", 1, above)], groups(), [10])
    text = render(rows)
    assert "a - b" in text and "+." in text and "its interval paired" in text
    assert "-." in render(paired_rows([ranked("b", 1, above)], [ranked("a", 1, better)], groups(), [10]))
