"""`evaluate`: the figures of one scorer on one part of a data set.

scorer, histories --ranking--> above, tied --metrics--> a value a user --groups, intervals--> rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation.group_metrics import group_rows
from llm_esr.evaluation.groups import GroupCounts, Thresholds, check_ranges, make_groups, thresholds
from llm_esr.evaluation.list_metrics import ListMetrics
from llm_esr.evaluation.metrics import expected_metrics
from llm_esr.evaluation.paired import RankedUsers
from llm_esr.evaluation.ranking import HeldOut, Ranks, rank_targets
from llm_esr.evaluation.report import Report, Row
from llm_esr.files.memory import refuse_beyond_memory
from llm_esr.loading import sample_candidates
from llm_esr.scoring import Scorer, build_untrained
from llm_esr.scoring.scorer import reads_at_most, refresh
from llm_esr.world import World

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
    shared_by: World | None = None,
) -> Report:
    """HR, NDCG and MRR by group with bootstrap intervals, and what the lists hold (docs/metrics.md).

    Args:
        scorer: what is judged.
        data: the data set.
        part: `validation` or `test`.
        config: cut-offs, protocol, groups, ties, resamples.
        seed: the training seed that the rows carry; None where there is none, as for popularity.
        model_name: the name that the rows carry; default: the scorer's.
        users: only these users (numbers 0..U-1); default: all.
        shared_by: the processes that share the users; each gets the whole report.

    Raises:
        ValueError: no user has a target, ranges that do not rise, settings that exclude each other,
            or NaN scores.
    """
    config = config or EvaluateConfig()
    ks = sorted(set(config.k))
    check_ranges(config)
    protocol = protocol_name(config)
    ranked, n_not_ranked = rankable_users(data, part, users)
    if config.targets == "known":
        ranked = ranked[np.asarray(data.training_counts)[data.targets(part)[ranked]] > 0]
        if not len(ranked):
            raise ValueError(f"no {part} target is known from training; use evaluate.targets=all")
    candidates = None
    if config.candidates is not None:
        refuse_beyond_memory(4 * len(ranked) * config.candidates, f"evaluate.candidates {config.candidates:,} for "
                             f"{len(ranked):,} users", "ask for fewer")  # fmt: skip
        candidates = sample_candidates(data, part, config.candidates, CANDIDATE_SEED, ranked)
    refresh(scorer)
    counts = GroupCounts.of(data, part, config.group_rule, reads_at_most(scorer))
    limits = thresholds(counts, config)
    lists = ListMetrics(
        ks, counts.items[1:] < limits.tail_item, np.asarray(data.training_counts)[1:], data.item_embeddings
    )
    ranks = rank_targets(
        scorer,
        data,
        part,
        ranked,
        keep_seen=config.keep_seen,
        candidates=candidates,
        list_length=0 if config.candidates else min(ks[-1], data.n_items),
        see=lists.add,
        shared_by=shared_by,
    )
    common: dict[str, Any] = {
        "model": model_name or scorer.name,
        "seed": seed,
        "split": part,
        "protocol": protocol,
    }
    rows = group_rows(
        ranks.above,
        ranks.tied,
        make_groups(data, ranks, counts, limits, config),
        ks,
        ties=config.ties,
        skips_first=config.tail_item_skips_first,
        empty=0.0 if config.group_rule == "paper" else None,
        resamples=config.resamples,
    )
    rows += _of_lists(ranks, lists) + _notes(ranks, limits, n_not_ranked, config)
    ranked_users = RankedUsers(
        common["model"], seed, part, protocol, ranks.users, ranks.above.astype(np.int64), ranks.tied.astype(np.int64)
    )
    return Report([common | row for row in rows], [ranked_users])


def evaluate_popularity(
    data: Dataset,
    config: EvaluateConfig | None = None,
    *,
    part: HeldOut = "test",
    users: NDArray[np.int64] | None = None,
    shared_by: World | None = None,
) -> Report:
    """The figures of the popularity baseline that belong to an evaluation; see `popularity_baseline`."""
    baseline, settings = popularity_baseline(data, part, config or EvaluateConfig())
    return evaluate(baseline, data, part=part, config=settings, users=users, shared_by=shared_by)


def popularity_baseline(data: Dataset, part: HeldOut, config: EvaluateConfig) -> tuple[Scorer, EvaluateConfig]:
    """The baseline that belongs to an evaluation, and how it is judged there.

    It counts the training parts. Under `group_rule=paper` it counts every input of that evaluation, as the published
    figures of the most popular items do. Half its scores are ties, which must not all fall in its favour: they are
    always settled by expectation.
    """
    baseline = build_untrained("popularity", data, part if config.group_rule == "paper" else "train")
    return baseline, config.model_copy(update={"ties": "expected"})


def quick_ndcg(
    scorer: Scorer,
    data: Dataset,
    part: HeldOut,
    k: int = 10,
    users: NDArray[np.int64] | None = None,
    *,
    candidates: NDArray[np.int32] | None = None,
    ties: Literal["expected", "strict"] = "expected",
    shared_by: World | None = None,
) -> float:
    """NDCG@k and nothing else: for early stopping. Earlier items are left out, unless there are candidates.

    Args:
        scorer: what is judged.
        data: the data set.
        part: `validation` or `test`.
        k: the cut-off.
        users: int64 [U]; those without target or input are passed over. None: `early_stopping_users`.
        candidates: int32 [U, N], the only items that compete, as `early_stopping_candidates` draws them once for a
            whole training. None: the whole catalogue.
        ties: as `evaluate.ties`.
        shared_by: the processes that share the users; each gets the figure.

    Raises:
        ValueError: no user can be ranked, another number of candidate rows than of users, or NaN scores.
    """
    ranked = early_stopping_users(data, part) if users is None else rankable_users(data, part, users)[0]
    if candidates is not None:
        if users is not None and not np.array_equal(users, ranked):
            raise ValueError("users: with candidates, expected rising numbers of users with a target and some input")
        if len(candidates) != len(ranked):
            raise ValueError(f"candidates: expected a row for each of {len(ranked)} users, got {len(candidates)}")
    refresh(scorer)
    found = rank_targets(scorer, data, part, ranked, candidates=candidates, shared_by=shared_by)
    tied = np.zeros_like(found.tied) if ties == "strict" else found.tied
    return float(expected_metrics(found.above, tied, [k])["ndcg", k].mean())


def early_stopping_users(data: Dataset, part: HeldOut = "validation", limit: int = 20_000) -> NDArray[np.int64]:
    """All users that can be ranked, up to `limit`; of more, a sample that is always the same."""
    users, _ = rankable_users(data, part)
    if len(users) <= limit:
        return users
    return np.sort(np.random.default_rng(_SAMPLE_SEED).choice(users, limit, replace=False))


def early_stopping_candidates(
    data: Dataset, users: NDArray[np.int64], count: int, part: HeldOut = "validation"
) -> NDArray[np.int32]:
    """The candidates of each of `users` in early stopping, int32 [U, count]: those that `evaluate` draws, too.

    Raises:
        ValueError: a user who met so much that fewer items are left.
    """
    return sample_candidates(data, part, count, CANDIDATE_SEED, users)


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
        raise ValueError(
            f"no user of {data.folder} has a {part} target with items before it; there is nothing to rank. To train on "
            "everything, prepare it with --split none"
        )
    return ranked, int((has_target & ~has_input).sum())


def protocol_name(config: EvaluateConfig) -> str:
    """The name that `metrics.json` gives to a protocol: `full`, `full-keep-seen`, `sampled-100`, `paper-100`, ...

    `paper-100` and `paper-full` have the paper's groups. Ties and `tail_item_skips_first` are not in the name; rows
    of their own tell them (see `Report`).
    """
    if config.candidates is not None and config.keep_seen:
        raise ValueError(
            "evaluate.keep_seen says nothing about evaluate.candidates, which the user never met; leave one of them out"
        )
    name = "full" if config.candidates is None else f"sampled-{config.candidates}"
    if config.group_rule == "paper":
        name = f"paper-{config.candidates or 'full'}"
    return name + ("-keep-seen" if config.keep_seen else "") + ("-known" if config.targets == "known" else "")


def _of_lists(ranks: Ranks, lists: ListMetrics) -> list[Row]:
    if ranks.best_place is None:
        return []
    return [_row("all", metric, k, value, len(ranks.users)) for metric, k, value in lists.values()]


def _notes(ranks: Ranks, limits: Thresholds, n_not_ranked: int, config: EvaluateConfig) -> list[Row]:
    notes = [
        ("tail_item", "below", limits.tail_item),
        ("tail_user", "below", limits.tail_user),
        ("all", "not_ranked", n_not_ranked),
        ("all", "strict_ties", int(config.ties == "strict")),
        ("tail_item", "skips_first", int(config.tail_item_skips_first)),
    ]
    return [_row(group, name, None, value, len(ranks.users)) for group, name, value in notes]


def _row(group: str, metric: str, k: int | None, value: float | None, users: int) -> Row:
    return {"group": group, "metric": metric, "k": k, "value": value, "low": None, "high": None, "users": users}
