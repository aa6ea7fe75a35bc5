"""Two models compared user by user: the mean difference of a metric, with a paired bootstrap interval.

Each user's difference is the mean over the seeds that both models have; users are drawn with replacement. The spread
over seeds is told beside it where there are several.

Shapes: U ranked users, K cut-offs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_esr.evaluation.groups import Group
from llm_esr.evaluation.intervals import bootstrap_interval
from llm_esr.evaluation.metrics import expected_metrics

Row = dict[str, Any]

_MINUS = " - "


@dataclass(frozen=True)
class RankedUsers:
    """Where each user's target stands under one model.

    Attributes:
        model: the model's name.
        seed: its training seed; None where there is none.
        split: `validation` or `test`.
        protocol: as in `metrics.json`.
        users: int64 [U].
        above: int64 [U], competing items with a higher score than the target.
        tied: int64 [U], competing items with the same score.

    """

    model: str
    seed: int | None
    split: str
    protocol: str
    users: NDArray[np.int64]
    above: NDArray[np.int64]
    tied: NDArray[np.int64]


def paired_rows(
    first: Sequence[RankedUsers],
    second: Sequence[RankedUsers],
    groups: Iterable[Group],
    ks: Sequence[int],
    *,
    ties: Literal["expected", "strict"] = "expected",
    resamples: int = 1000,
) -> list[Row]:
    """What `first` has more than `second`, by group, metric and cut-off.

    Args:
        first: one model, a seed each.
        second: another one under the same protocol, the same seeds in the same order.
        groups: over the ranked users, which are the same everywhere.
        ks: cut-offs.
        ties: as of `evaluate`.
        resamples: of the bootstrap; 0: no intervals.

    Returns:
        Rows as of `evaluate`; `model` is `A - B`, `seed` is None where there are several, and the metric `seeds_sd` of
        a group is the standard deviation of its NDCG difference over the seeds.

    Raises:
        ValueError: other users, protocols or numbers of seeds.

    """
    everyone = [*first, *second]
    same = all(
        np.array_equal(one.users, everyone[0].users)
        and (one.split, one.protocol) == (everyone[0].split, everyone[0].protocol)
        for one in everyone
    )
    if not first or len(first) != len(second) or not same:
        raise ValueError("a paired difference needs the same users, protocol and seeds of both models")
    pairs = list(zip(first, second, strict=True))
    by_seed = [_difference(one, other, ks, ties) for one, other in pairs]
    common = {
        "model": f"{first[0].model}{_MINUS}{second[0].model}",
        "seed": first[0].seed if len(first) == 1 else None,
        "split": first[0].split,
        "protocol": first[0].protocol,
    }
    names = list(by_seed[0])
    mean_UM = np.stack([np.mean([values[name] for values in by_seed], axis=0) for name in names], axis=1)
    rows: list[Row] = []
    for group in groups:
        members = np.asarray(group.members)
        count = int(members.sum())
        if not count:
            continue
        means = mean_UM[members].mean(axis=0)
        lows: list[Any] = [None] * len(names)
        highs = list(lows)
        # A cut-off at a time: which others were asked for changes no interval.
        for k in ks if resamples else ():
            places = [place for place, (_, of) in enumerate(names) if of == k]
            values_CM, counts_C = np.unique(mean_UM[members][:, places], axis=0, return_counts=True)
            low, high = bootstrap_interval(values_CM, counts_C, resamples, group.stream)
            for place, one, other in zip(places, low.tolist(), high.tolist(), strict=True):
                lows[place], highs[place] = one, other
        rows += [
            common
            | {"group": group.name, "metric": metric, "k": k}
            | {"value": float(value), "low": low, "high": high, "users": count}
            for (metric, k), value, low, high in zip(names, means, lows, highs, strict=True)
        ]
        if len(pairs) > 1:
            for k in ks:
                spread = float(np.std([values["ndcg", k][members].mean() for values in by_seed], ddof=1))
                note = {"group": group.name, "metric": "seeds_sd", "k": k, "value": spread, "low": None, "high": None}
                rows.append(common | note | {"users": count})
    return rows


def is_difference(model: str) -> bool:
    """Whether the rows of this name are differences of two models."""
    return _MINUS in model


def _difference(
    one: RankedUsers, other: RankedUsers, ks: Sequence[int], ties: str
) -> dict[tuple[str, int], NDArray[np.float64]]:
    first, second = (
        expected_metrics(ranked.above, np.zeros_like(ranked.tied) if ties == "strict" else ranked.tied, list(ks))
        for ranked in (one, other)
    )
    # Rounded, so that sums that differ in their last bits are one class of users.
    return {name: np.round(first[name] - second[name], 9) for name in first}
