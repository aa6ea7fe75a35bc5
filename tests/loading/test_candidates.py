"""Sampled candidates: distinct, never met, a function of seed, part and user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_esr.loading import sample_candidates


@pytest.mark.parametrize("part", ["validation", "test"])
def test_candidates_are_distinct_items_that_the_user_never_met(shop: Any, part: Any) -> None:
    found = sample_candidates(shop, part, 30, 7)
    users = np.flatnonzero(shop.targets(part) > 0)
    assert found.dtype == np.int32
    assert found.shape == (len(users), 30)
    for user, row in zip(users, found, strict=True):
        end = shop.splits[user, 1] if part == "validation" else None
        assert len(set(row.tolist())) == 30
        assert not set(row.tolist()) & set(shop.histories[user][:end])
        assert 1 <= row.min() <= row.max() <= shop.n_items


def test_validation_may_draw_the_test_item(make_folder: Any) -> None:
    data = make_folder([[1, 2, 3, 4]], 5, held=2)
    assert sorted(sample_candidates(data, "validation", 2, 0)[0]) == [4, 5]
    assert sample_candidates(data, "test", 1, 0).tolist() == [[5]]


def test_a_users_candidates_depend_on_seed_part_and_user_alone(shop: Any) -> None:
    whole = sample_candidates(shop, "test", 20, 1)
    users = np.flatnonzero(shop.targets("test") > 0)
    np.testing.assert_array_equal(sample_candidates(shop, "test", 20, 1, users[5:9]), whole[5:9])
    np.testing.assert_array_equal(sample_candidates(shop, "test", 7, 1), whole[:, :7])
    assert (sample_candidates(shop, "test", 20, 2) != whole).any()
    assert (sample_candidates(shop, "validation", 20, 1, users) != whole).any()


def test_candidates_are_uniform(make_folder: Any) -> None:
    data = make_folder([[1, 2, 3]] * 4000, 11, held=2)
    counts = np.bincount(sample_candidates(data, "test", 4, 3).ravel(), minlength=12)
    assert counts[:4].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(counts[4:] / 16_000, 1 / 8, atol=0.01)


def test_too_many_candidates_name_the_user(make_folder: Any) -> None:
    data = make_folder([[1, 2, 3], [1, 2, 3, 4, 1]], 6, held=2)
    with pytest.raises(
        ValueError, match=r"user 1 .their row in users\.parquet. leaves 2 of 6 items unseen, fewer than the 3"
    ):
        sample_candidates(data, "test", 3, 0)
    with pytest.raises(ValueError, match="part"):
        sample_candidates(data, "train", 3, 0, [0])  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="users"):
        sample_candidates(data, "test", 1, 0, [2])
