from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm_esr.evaluation.metrics import expected_metrics


@given(st.integers(0, 15), st.integers(0, 8), st.integers(1, 12))
def test_metrics_are_means_over_every_order_of_the_ties(above, tied, k):
    ranks = range(above + 1, above + tied + 2)
    found = expected_metrics(np.array([above]), np.array([tied]), [k, k + 3])
    assert np.isclose(found["hr", k][0], np.mean([r <= k for r in ranks]))
    assert np.isclose(found["ndcg", k][0], np.mean([(r <= k) / np.log2(r + 1) for r in ranks]))
    assert np.isclose(found["mrr", k][0], np.mean([(r <= k) / r for r in ranks]))


def test_the_first_place_without_ties_is_worth_one():
    assert all(v == [1.0] for v in expected_metrics(np.array([0]), np.array([0]), [1, 10]).values())


def test_a_scorer_that_ties_everything_gets_what_chance_gets():
    found = expected_metrics(np.array([0]), np.array([99]), [10])
    assert np.isclose(found["hr", 10][0], 0.1)
