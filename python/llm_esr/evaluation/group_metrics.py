"""Ranks -> the mean of each metric over each group, with bootstrap intervals, as rows.

Users with the same (above, tied) share every metric; a group is how many of its users fall into each such class (see
intervals.py).

Shapes: U ranked users, C classes, M metrics at all cut-offs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_esr.evaluation.groups import ITEM_GROUPS, Group
from llm_esr.evaluation.intervals import bootstrap_interval
from llm_esr.evaluation.metrics import expected_metrics

Row = dict[str, Any]


def group_rows(
    above: NDArray[np.int64],
    tied: NDArray[np.int64],
    groups: Iterable[Group],
    ks: list[int],
    *,
    ties: Literal["expected", "strict"] = "expected",
    skips_first: bool = False,
    empty: float | None = None,
    resamples: int = 0,
) -> list[Row]:
    """HR, NDCG and MRR of each group.

    Args:
        above: int64 [U], competing items with a higher score than the user's target.
        tied: int64 [U], competing items with the same score.
        groups: whom to average over.
        ks: rising cut-offs, each at least 1.
        ties: `expected`: means over every order of the tied items; `strict`: tied items do not count.
        skips_first: the authors' slip (PAPER.md, section 5): in the groups of tail and head items the first of all
            ranked users is no hit, wherever the target stands, but is counted in the group that it belongs to.
        empty: the value of a group without users.
        resamples: of the bootstrap; 0: no intervals.

    Returns:
        One row for each group, metric and cut-off: `group`, `metric`, `k`, `value`, `low`, `high`, `users`.
    """
    tied = np.zeros_like(tied) if ties == "strict" else tied
    usual = _Classes(above, tied, ks)
    skipping = usual
    if skips_first and len(above):
        missed = np.array(above)
        missed[0] = ks[-1]
        skipping = _Classes(missed, tied, ks)
    rows: list[Row] = []
    for group in groups:
        classes = skipping if group.name in ITEM_GROUPS else usual
        rows += classes.rows(group, empty, resamples)
    return rows


class _Classes:
    """Users by what their target's rank is worth."""

    def __init__(self, above: NDArray[np.int64], tied: NDArray[np.int64], ks: list[int]) -> None:
        # A rank behind the largest k is worth nothing.
        outside = above >= ks[-1]
        pairs = np.stack([np.where(outside, ks[-1], above), np.where(outside, 0, tied)], axis=1)
        classes_C2, class_U = np.unique(pairs, axis=0, return_inverse=True)
        self.class_U = class_U.reshape(-1)
        metrics = expected_metrics(classes_C2[:, 0], classes_C2[:, 1], ks)
        self.names = list(metrics)
        self.values_CM = np.stack(list(metrics.values()), axis=1)

    def rows(self, group: Group, empty: float | None, resamples: int) -> list[Row]:
        counts_C = np.bincount(self.class_U[group.members], minlength=len(self.values_CM))
        n_users = int(counts_C.sum())
        nothing: list[float | None] = [None] * len(self.names)
        means, lows, highs = [empty] * len(self.names), nothing, nothing
        if n_users:
            means = (counts_C @ self.values_CM / n_users).tolist()
        if n_users and resamples:
            low, high = bootstrap_interval(self.values_CM, counts_C, resamples, group.stream)
            lows, highs = low.tolist(), high.tolist()
        return [
            {"group": group.name, "metric": metric, "k": k, "value": value, "low": low, "high": high, "users": n_users}
            for (metric, k), value, low, high in zip(self.names, means, lows, highs, strict=True)
        ]
