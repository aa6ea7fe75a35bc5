"""What lists hold together, held against plain loops."""

from __future__ import annotations

from itertools import combinations
from math import log2
from pathlib import Path

import numpy as np
import pytest

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import Report, evaluate
from llm_esr.evaluation.list_metrics import LIST_METRICS, ListMetrics, gini

N_ITEMS = 30


def by_loops(
    lists: list[list[int]], k: int, tail: np.ndarray, counts: np.ndarray, vectors: np.ndarray
) -> dict[str, float]:
    """The definitions of docs/metrics.md, word by word."""
    cut = [items[:k] for items in lists]
    places = [item for items in cut for item in items]
    often = [places.count(item) for item in range(1, N_ITEMS + 1)]
    means = []
    for items in cut:
        distances = []
        for a, b in combinations(items, 2):
            one, other = vectors[a - 1], vectors[b - 1]
            distances.append(1 - one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
        if distances:
            means.append(np.mean(distances))
    return {
        "coverage": len(set(places)) / N_ITEMS,
        "tail_share": sum(bool(tail[item - 1]) for item in places) / len(places),
        "gini": sum(abs(a - b) for a in often for b in often) / (2 * N_ITEMS * sum(often)),
        "novelty": float(np.mean([-log2(max(1, counts[item - 1]) / counts.sum()) for item in places])),
        "diversity": float(np.mean(means)) if means else 0.0,
    }


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_each_metric_is_what_its_definition_says(chunk: int) -> None:
    rng = np.random.default_rng(chunk)
    counts = rng.integers(0, 9, N_ITEMS)
    vectors, tail = rng.standard_normal((N_ITEMS, 6)), counts < 4
    lists = [rng.permutation(N_ITEMS)[: rng.integers(0, 11)].tolist() for _ in range(40)]
    lists = [[item + 1 for item in items] for items in lists]
    ids = np.array([items + [0] * (10 - len(items)) for items in lists], np.int32)
    ks = [1, 3, 10, 25]
    found = ListMetrics(ks, tail, counts, vectors)
    for start in range(0, len(ids), chunk):
        found.add(ids[start : start + chunk])
    values = {(metric, k): value for metric, k, value in found.values()}
    assert {metric for metric, _ in values} == set(LIST_METRICS)
    for k in ks:
        if k == 1:
            assert values.pop(("diversity", 1)) is None, "a list of one item has no pair"
        for metric, expected in by_loops(lists, k, tail, counts, vectors).items():
            if (metric, k) in values:
                assert values[metric, k] == pytest.approx(expected, abs=1e-6), (metric, k)


def test_gini_is_0_for_even_counts_and_near_1_where_one_item_has_all() -> None:
    assert gini(np.full(7, 3)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 5])) == pytest.approx(1 - 1 / 4)


def test_lists_that_hold_nothing_have_no_figures() -> None:
    found = ListMetrics([2], np.ones(4, np.bool_), np.ones(4, np.int64))
    found.add(np.zeros((3, 2), np.int32))
    assert found.values() == [("coverage", 2, 0.0), ("tail_share", 2, None), ("gini", 2, None), ("novelty", 2, None)]


def test_an_evaluation_has_them_and_their_tail_is_that_of_the_table(make_random_data, fixed_scorer) -> None:  # type: ignore[no-untyped-def]
    data = make_random_data(3)
    rng = np.random.default_rng(1)
    data.item_embeddings = rng.standard_normal((data.n_items, 4)).astype(np.float16)
    matrix = rng.standard_normal((data.n_users, data.n_items))
    config = EvaluateConfig(k=[5], resamples=0, tail_item_below=4)
    report = evaluate(fixed_scorer(data, "test", matrix), data, config=config)
    ranked = np.flatnonzero((data.targets("test") > 0) & (data.input_ends("test") > 0))
    lists = []
    for user in ranked:
        seen = set(data.history(user, "test").tolist())
        order = np.argsort(-matrix[user].astype(np.float32), kind="stable") + 1
        lists.append([int(item) for item in order if item not in seen][:5])
    counts = data.training_counts[1:]
    expected = by_loops(lists, 5, counts < 4, counts, data.item_embeddings.astype(np.float64))
    for metric in LIST_METRICS:
        assert report.value(metric, k=5) == pytest.approx(expected[metric], abs=1e-5), metric
    assert report.value("recall", k=5) == report.value("hr", k=5)
    assert all(words in report.text() for words in LIST_METRICS.values())


def test_another_threshold_of_the_tail_outdates_its_share() -> None:
    row = {"model": "m", "seed": 1, "split": "test", "protocol": "full", "group": "all", "low": None, "high": None}
    old = [row | {"metric": "tail_share", "k": 5, "value": 0.5, "users": 9},
           row | {"group": "tail_item", "metric": "below", "k": None, "value": 3, "users": 9}]  # fmt: skip
    new = [old[1] | {"value": 4}]
    assert [one["metric"] for one in (Report(old) + Report(new)).rows] == ["below"]
    assert len((Report(old) + Report([old[1]])).rows) == 2


def test_the_page_defines_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert all(f"| `{metric}` |" in page for metric in ("hr", "ndcg", "mrr", *LIST_METRICS))
