"""The step's own targets as negatives, and how likely each item is as a negative."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_esr.loading import BatchLoader

SMOOTHED = {"smoothing": 0.5, "smoothing_temperature": 0.3}
SHOWN: dict[str, dict[str, Any]] = {
    "every": {},
    "last": {"targets": "last"},
    "without the last": {"sequence": "without-last", "max_len": 4},
    "without the last, from padding": {
        "sequence": "without-last", "targets": "last", "layout": "padded", "padding_tokens": True,
    },
    "smoothed": SMOOTHED,
    "masked": {"mask_probability": 0.4},
    "masked, mask tokens appended, smoothed": {"mask_probability": 0.9, "append_mask": True, "max_len": 5, **SMOOTHED},
}  # fmt: skip


@pytest.mark.parametrize("shown", SHOWN)
def test_in_batch_negatives_are_the_targets_and_hide_what_a_user_met(shop: Any, shown: str) -> None:
    loader = BatchLoader(shop, negatives="in-batch", batch_size=17, similar_users=3, **SHOWN[shown])
    for batch in loader:
        targets = batch.students.targets[batch.students.targets > 0]
        np.testing.assert_array_equal(batch.negatives, targets)
        met = [[item in shop.training[user] for item in targets.tolist()] for user in batch.users.tolist()]
        assert batch.collision is not None
        assert batch.collision.tolist() == met


def test_a_rank_has_the_targets_of_its_own_share(shop: Any) -> None:
    options: dict[str, Any] = {"negatives": "in-batch", "batch_size": 16}
    ranks = [BatchLoader(shop, rank=r, world_size=3, **options) for r in range(3)]
    for whole, *shares in zip(BatchLoader(shop, **options), *ranks, strict=True):
        np.testing.assert_array_equal(whole.negatives, np.concatenate([s.negatives for s in shares]))
        for share in shares:
            assert share.collision is not None
            assert share.collision.shape == (len(share.users), len(share.negatives))


def test_a_step_without_targets_has_no_negatives_but_their_shapes(make_folder: Any) -> None:
    data = make_folder([[1], [2]], 3, similar_users=[[1], [0]])
    (batch,) = BatchLoader(data, negatives="in-batch", similar_users=1, batch_size=5)
    assert batch.negatives.shape == (0,)
    assert batch.collision is not None
    assert batch.collision.shape == (2, 0)


def test_uniform_negatives_are_all_alike_and_popular_ones_follow_the_power_of_their_count(shop: Any) -> None:
    uniform = BatchLoader(shop).log_q
    assert uniform is not None
    assert uniform.dtype == np.float32
    np.testing.assert_allclose(uniform, [0.0] + [-np.log(shop.n_items)] * shop.n_items, rtol=1e-6)
    counts = np.bincount([i for h in shop.training for i in h], minlength=shop.n_items + 1)
    weights = counts[1:] ** 0.7
    popular = BatchLoader(shop, distribution="popularity", exponent=0.7, negatives="own").log_q
    assert popular is not None
    np.testing.assert_allclose(popular[1:], np.log(weights / weights.sum()), rtol=1e-5)


def test_an_item_that_is_never_drawn_has_the_least_chance_there_is(make_folder: Any) -> None:
    data = make_folder([[1, 1, 1, 2], [3, 1]], 5)
    log_q = BatchLoader(data, distribution="popularity").log_q
    assert log_q is not None
    np.testing.assert_allclose(np.exp(log_q[1:]), [4 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6], rtol=1e-5)


def test_without_negatives_or_without_students_nothing_has_a_chance(shop: Any, make_folder: Any) -> None:
    assert BatchLoader(shop, negatives=None).log_q is None
    assert BatchLoader(make_folder([[1]], 3)).log_q is None


@pytest.mark.parametrize("shown", SHOWN)
def test_in_batch_chances_are_the_shares_of_the_targets(shop: Any, shown: str) -> None:
    loader = BatchLoader(shop, negatives="in-batch", batch_size=1000, **SHOWN[shown])
    assert loader.log_q is not None
    epochs = 400 if {"smoothing", "mask_probability"} & SHOWN[shown].keys() else 1
    counts = np.zeros(shop.n_items + 1)
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        counts += sum(np.bincount(b.negatives, minlength=shop.n_items + 1) for b in loader)
    expected = np.where(counts[1:] > 0, np.exp(loader.log_q[1:]), 0.0)
    # Exact where nothing is drawn; else within what chance does to so many targets.
    width = 0.0 if epochs == 1 else 5 * np.sqrt(expected / counts.sum())
    assert (np.abs(counts[1:] / counts.sum() - expected) <= width + 1e-6).all()
