"""`evaluate`: the figures of one scorer on one part of a data set.

scorer, histories --ranking--> above, tied --metrics--> a value a user --groups, intervals--> rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation.groups import GROUPS, Thresholds, group_masks, thresholds
from llm_esr.evaluation.intervals import bootstrap_interval
from llm_esr.evaluation.metrics import expected_metrics
from llm_esr.evaluation.ranking import HeldOut, Ranks, rank_targets
from llm_esr.evaluation.report import Report, Row
from llm_esr.evaluation.scorer import Scorer, refresh
from llm_esr.loading import sample_candidates

if TYPE_CHECKING:
    from llm_esr.data import Dataset

CANDIDATE_SEED = 42  # the candidates are the same for every model and every evaluation
_SAMPLE_SEED = 0


def evaluate(
    scorer: Scorer,
    data: Dataset,
    *,
    part: HeldOut = "test",
    config: EvaluateConfig | None = None,
    seed: int | None = None,
    model_name: str | None = None,
    users: NDArray[np.int64] | None = None,
) -> Report:
    """HR, NDCG and MRR by group with bootstrap intervals, and coverage.

    Args:
        scorer: what is judged.
        data: the data set.
        part: `validation` or `test`.
        config: cut-offs, protocol, thresholds, resamples.
        seed: the training seed that the rows carry; None where there is none, as for popularity.
        model_name: the name that the rows carry; default: the scorer's.
        users: only these users (numbers 0..U-1); default: all.

    Raises:
        ValueError: no user has a target, a cut-off below 1, settings that exclude each other, or NaN scores.
    """
    config = config or EvaluateConfig()
    ks = sorted(set(config.k))
    if not ks or ks[0] < 1:
        raise ValueError(f"evaluate.k: expected cut-offs of at least 1, such as [5, 10, 20], got {config.k}")
    protocol = protocol_name(config)
    ranked, n_not_ranked = rankable_users(data, part, users)
    if config.targets == "known":
        ranked = ranked[np.asarray(data.training_counts)[data.targets(part)[ranked]] > 0]
        if not len(ranked):
            raise ValueError(f"no {part} target is known from training; use evaluate.targets=all")
    candidates = None
    if config.candidates is not None:
        candidates = sample_candidates(data, part, config.candidates, CANDIDATE_SEED, ranked)
    refresh(scorer)
    ranks = rank_targets(
        scorer,
        data,
        part,
        ranked,
        keep_seen=config.keep_seen,
        candidates=candidates,
        list_length=0 if config.candidates else ks[-1],
    )
    limits = thresholds(data, config)
    common = {
        "model": model_name or scorer.name,
        "seed": seed,
        "split": part,
        "protocol": protocol,
    }
    rows = _measures(ranks, group_masks(data, ranks, limits), ks, config.resamples)
    rows += _coverage(ranks, ks) + _notes(data, ranks, limits, n_not_ranked)
    return Report([common | row for row in rows])


def quick_ndcg(
    scorer: Scorer, data: Dataset, part: HeldOut, k: int = 10, users: NDArray[np.int64] | None = None
) -> float:
    """NDCG@k over the whole catalogue, earlier items left out, and nothing else: for early stopping.

    `users` without a target or without input are passed over; None: `early_stopping_users`.

    Raises:
        ValueError: no user can be ranked, or NaN scores.
    """
    users = early_stopping_users(data, part) if users is None else rankable_users(data, part, users)[0]
    refresh(scorer)
    ranks = rank_targets(scorer, data, part, users)
    return float(expected_metrics(ranks.above, ranks.tied, [k])["ndcg", k].mean())


def early_stopping_users(data: Dataset, part: HeldOut = "validation", limit: int = 20_000) -> NDArray[np.int64]:
    """All users that can be ranked, up to `limit`; of more, a sample that is always the same."""
    users, _ = rankable_users(data, part)
    if len(users) <= limit:
        return users
    return np.sort(np.random.default_rng(_SAMPLE_SEED).choice(users, limit, replace=False))


def rankable_users(
    data: Dataset, part: HeldOut, users: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], int]:
    """The users with a target and some input, ascending; and how many have a target but no input.

    Raises:
        ValueError: the part has no targets, or none of the users can be ranked.
    """
    if part not in ("validation", "test"):
        raise ValueError(f"part: expected 'validation' or 'test', got {part!r}")
    if data.split == "none":
        raise ValueError(
            f"{data.folder} was prepared with --split none: everything is for training and nothing is held out; "
            "prepare it with --split leave-one-out or temporal to evaluate"
        )
    has_target = np.asarray(data.targets(part)) > 0
    if users is not None:
        wanted = np.asarray(users, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < data.n_users):
            raise ValueError(
                f"users: expected numbers from 0 to {data.n_users - 1}, got {wanted.min()} to {wanted.max()}"
            )
        chosen = np.zeros(data.n_users, np.bool_)
        chosen[wanted] = True
        has_target &= chosen
    has_input = np.asarray(data.input_ends(part)) > 0
    ranked = np.flatnonzero(has_target & has_input)
    if not len(ranked):
        raise ValueError(f"no user of {data.folder} has a {part} target with items before it; there is nothing to rank")
    return ranked, int((has_target & ~has_input).sum())


def protocol_name(config: EvaluateConfig) -> str:
    """The name that `metrics.json` gives to a protocol: `full`, `full-keep-seen`, `full-known`, `sampled-100`, ..."""
    if config.candidates is not None and config.keep_seen:
        raise ValueError(
            "evaluate.keep_seen says nothing about evaluate.candidates, which the user never met; leave one of them out"
        )
    name = "full" if config.candidates is None else f"sampled-{config.candidates}"
    return name + ("-keep-seen" if config.keep_seen else "") + ("-known" if config.targets == "known" else "")


def _measures(ranks: Ranks, masks: dict[str, NDArray[np.bool_]], ks: list[int], resamples: int) -> list[Row]:
    # Users of one class share every metric; see intervals.py. A rank behind the largest k is worth nothing.
    outside = ranks.above >= ks[-1]
    pairs = np.stack([np.where(outside, ks[-1], ranks.above), np.where(outside, 0, ranks.tied)], axis=1)
    classes_C2, class_U = np.unique(pairs, axis=0, return_inverse=True)
    class_U = class_U.reshape(-1)
    metrics = expected_metrics(classes_C2[:, 0], classes_C2[:, 1], ks)
    values_CM = np.stack(list(metrics.values()), axis=1)
    rows: list[Row] = []
    for stream, group in enumerate(GROUPS):
        counts_C = np.bincount(class_U[masks[group]], minlength=len(classes_C2))
        n_users = int(counts_C.sum())
        empty: list[float | None] = [None] * len(metrics)
        means, lows, highs = empty, empty, empty
        if n_users:
            means = list(counts_C @ values_CM / n_users)
        if n_users and resamples:
            low, high = bootstrap_interval(values_CM, counts_C, resamples, stream)
            lows, highs = list(low), list(high)
        rows += [
            _row(group, metric, k, mean, n_users, low, high)
            for (metric, k), mean, low, high in zip(metrics, means, lows, highs, strict=True)
        ]
    return rows


def _coverage(ranks: Ranks, ks: list[int]) -> list[Row]:
    if ranks.best_place is None:
        return []
    best = ranks.best_place
    return [_row("all", "coverage", k, float((best <= k).mean()), len(ranks.users)) for k in ks]


def _notes(data: Dataset, ranks: Ranks, limits: Thresholds, n_not_ranked: int) -> list[Row]:
    return [
        _row("tail_item", "below", None, limits.tail_item, len(ranks.users)),
        _row("tail_user", "below", None, limits.tail_user, len(ranks.users)),
        _row("all", "not_ranked", None, n_not_ranked, len(ranks.users)),
    ]


def _row(
    group: str,
    metric: str,
    k: int | None,
    value: float | None,
    users: int,
    low: float | None = None,
    high: float | None = None,
) -> Row:
    figures = {name: None if x is None else float(x) for name, x in (("value", value), ("low", low), ("high", high))}
    if metric in ("below", "not_ranked"):
        figures["value"] = value
    return {"group": group, "metric": metric, "k": k, **figures, "users": users}
