"""Whether loaders do the same work: equal sequences, targets, teachers; valid negatives of the right distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import Dense
from peers.samplers import Met

from llm_esr.loading import Batch, Sequences


def in_rows(sequences: Sequences, values: NDArray[Any], max_len: int) -> NDArray[Any]:
    """A value a token as left-padded rows, [S, L], whatever the layout."""
    rows = np.zeros((len(sequences), max_len), values.dtype)
    lengths = np.diff(sequences.offsets)
    if len(values):
        owners = np.repeat(np.arange(len(lengths)), lengths)
        rows[owners, max_len - (sequences.offsets[1:][owners] - np.arange(len(values)))] = values
    return rows


def check_batch(ours: Batch, theirs: Dense, max_len: int, met: Met) -> None:
    """Both batches show the same; negatives only have to be valid, one a target.

    Raises:
        AssertionError: they differ.

    """
    students = ours.students
    np.testing.assert_array_equal(ours.users, theirs.users)
    for name in ("items", "positions", "targets"):
        rows = in_rows(students, getattr(students, name), max_len)
        np.testing.assert_array_equal(rows, getattr(theirs, name), err_msg=name)
    if ours.teachers is not None:
        assert ours.teacher_index is not None and theirs.teacher_items is not None
        for name in ("items", "positions"):
            rows = in_rows(ours.teachers, getattr(ours.teachers, name), max_len)[ours.teacher_index]
            np.testing.assert_array_equal(rows, getattr(theirs, f"teacher_{name}"), err_msg=f"teachers' {name}")
    users = np.repeat(ours.users, np.diff(students.offsets))[students.targets > 0]
    check_unseen(met, users, ours.negatives)
    check_dense_negatives(theirs, met)


def check_rows(theirs: Dense, other: Dense, met: Met) -> None:
    """A peer that draws its own users against another peer's batch of the same users."""
    for name in ("users", "items", "positions", "targets", "teacher_items", "teacher_positions"):
        one, two = getattr(theirs, name), getattr(other, name)
        assert (one is None) == (two is None), name
        if one is not None:
            np.testing.assert_array_equal(one, two, err_msg=name)
    check_dense_negatives(theirs, met)


def check_dense_negatives(batch: Dense, met: Met) -> None:
    """One valid negative at each target, none elsewhere."""
    negatives, targets = batch.negatives.numpy(), batch.targets.numpy()
    assert ((negatives > 0) == (targets > 0)).all()
    rows, places = targets.nonzero()
    check_unseen(met, batch.users.numpy()[rows], negatives[rows, places][:, None])


def check_unseen(met: Met, users_M: NDArray[np.int64], negatives_MN: NDArray[Any]) -> None:
    """Negatives [M, N] are items, and none that their user met."""
    assert len(negatives_MN) == len(users_M)
    items = negatives_MN.reshape(-1).astype(np.int64)
    assert items.min() >= 1 and items.max() <= met.n_items
    seen = met.includes(np.repeat(users_M, negatives_MN.shape[1]), items)
    assert not seen.any(), f"{seen.sum()} negatives are items that their user met"


def check_distribution(
    met: Met, users_M: NDArray[np.int64], negatives_MN: NDArray[Any], weights: NDArray[np.float64]
) -> None:
    """Chi-square of how often each item was drawn, against `weights` [I] limited to what each user never met.

    Raises:
        AssertionError: six standard deviations away from what chance gives.

    """
    expected = np.zeros(met.n_items)
    users, counts = np.unique(users_M, return_counts=True)
    every = np.arange(1, met.n_items + 1)
    for user, count in zip(users.tolist(), counts.tolist(), strict=True):
        unseen = np.where(met.includes(np.full(met.n_items, user), every), 0.0, weights)
        expected += count * negatives_MN.shape[1] * unseen / unseen.sum()
    found = np.bincount(negatives_MN.reshape(-1), minlength=met.n_items + 1)[1:]
    drawn = expected > 0
    assert not found[~drawn].any()
    # Rare items together, as the test wants at least some five of each.
    usual = expected >= 5
    found = np.append(found[usual], found[~usual].sum())
    expected = np.append(expected[usual], expected[~usual].sum())
    found, expected = found[expected > 0], expected[expected > 0]
    freedom = len(found) - 1
    statistic = float(((found - expected) ** 2 / expected).sum())
    assert abs(statistic - freedom) < 6 * np.sqrt(2 * freedom) + 6, f"chi-square {statistic:.0f} of {freedom}"
