from __future__ import annotations

import numpy as np
import pytest

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import early_stopping_users, evaluate, protocol_name, quick_ndcg
from llm_esr.evaluation.groups import GROUPS, tail_threshold
from llm_esr.scoring import Popularity


def figure(report, metric, k=10, group="all"):
    return next(r for r in report.rows if (r["metric"], r["k"], r["group"]) == (metric, k, group))


def random_scores(data, seed=0):
    return np.random.default_rng(seed).normal(size=(data.n_users, data.n_items)).astype(np.float32)


def ranks_by_sorting(data, matrix, part):
    """Rank of each user's target, by sorting what may be recommended (no ties in `matrix`)."""
    found = {}
    for user, target in enumerate(data.targets(part).tolist()):
        if target:
            seen = set(data.history(user, part).tolist()) - {target}
            order = [i for i in (np.argsort(-matrix[user]) + 1).tolist() if i not in seen]
            found[user] = order.index(target) + 1
    return found


def test_figures_are_those_of_sorted_lists(make_random_data, fixed_scorer):
    data = make_random_data(3)
    matrix = random_scores(data)
    report = evaluate(fixed_scorer(data, "test", matrix), data, config=EvaluateConfig(k=[5, 10]), seed=7)
    ranks = ranks_by_sorting(data, matrix, "test")
    hits = np.array([r <= 5 for r in ranks.values()])
    gains = np.array([(r <= 10) / np.log2(r + 1) for r in ranks.values()])
    assert np.isclose(figure(report, "hr", 5)["value"], hits.mean())
    assert np.isclose(figure(report, "ndcg")["value"], gains.mean())
    assert np.isclose(report.value("mrr", 5), np.mean([(r <= 5) / r for r in ranks.values()]))
    assert figure(report, "ndcg")["users"] == len(ranks)
    assert {(r["model"], r["seed"], r["split"], r["protocol"]) for r in report.rows} == {("fixed", 7, "test", "full")}


def test_groups_are_means_over_their_own_users(make_random_data, fixed_scorer):
    data = make_random_data(4)
    matrix = random_scores(data)
    config = EvaluateConfig(tail_item_below=3, tail_user_below=6)
    report = evaluate(fixed_scorer(data, "test", matrix), data, config=config)
    ranks = ranks_by_sorting(data, matrix, "test")
    targets = data.targets("test")
    members = {
        "tail_item": lambda u: data.training_counts[targets[u]] < 3,
        "head_item": lambda u: data.training_counts[targets[u]] >= 3,
        "tail_user": lambda u: data.training_lengths[u] < 6,
        "head_user": lambda u: data.training_lengths[u] >= 6,
        "known_target": lambda u: data.training_counts[targets[u]] > 0,
        "cold_target": lambda u: data.training_counts[targets[u]] == 0,
        "repeat_target": lambda u: targets[u] in data.history(u, "test"),
        "new_target": lambda u: targets[u] not in data.history(u, "test"),
    }
    assert set(members) | {"all"} == set(GROUPS)
    assert [row["group"] for row in report.rows if (row["metric"], row["k"]) == ("hr", 10)][: len(GROUPS)] == [*GROUPS]
    for group, belongs in members.items():
        hits = [rank <= 10 for user, rank in ranks.items() if belongs(user)]
        row = figure(report, "hr", 10, group)
        assert row["users"] == len(hits)
        assert row["value"] == (pytest.approx(np.mean(hits)) if hits else None)
    assert figure(report, "below", None, "tail_item")["value"] == 3
    assert figure(report, "below", None, "tail_user")["value"] == 6


def test_the_threshold_is_the_smallest_that_has_the_share_below_it():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 10, 37):
        counts = rng.integers(0, 12, n)
        for share in (0.5, 0.8, 0.93):
            t = tail_threshold(counts, share)
            assert (counts < t).mean() >= share - 1e-12
            assert (counts < t - 1).mean() < share


def test_coverage_is_the_share_of_the_catalogue_in_somebodys_list(make_random_data, fixed_scorer):
    data = make_random_data(5, n_users=8, n_items=60)
    matrix = random_scores(data)
    report = evaluate(fixed_scorer(data, "test", matrix), data, config=EvaluateConfig(k=[3, 5]))
    for k in (3, 5):
        listed = set()
        for user in np.flatnonzero(data.targets("test")):
            seen = set(data.history(int(user), "test").tolist())
            listed |= set([i for i in (np.argsort(-matrix[user]) + 1).tolist() if i not in seen][:k])
        assert figure(report, "coverage", k)["value"] == pytest.approx(len(listed) / 60)


def test_quick_ndcg_is_the_ndcg_of_the_full_evaluation(make_random_data, fixed_scorer):
    data = make_random_data(6)
    made = fixed_scorer(data, "validation", random_scores(data))
    value = quick_ndcg(made, data, "validation", 10)
    assert made.refreshed == 1
    report = evaluate(made, data, part="validation")
    assert value == pytest.approx(report.value("ndcg", 10))


@pytest.mark.parametrize("ties", ["expected", "strict"])
def test_quick_ndcg_against_candidates_is_that_of_plain_numpy(make_random_data, fixed_scorer, ties):
    data = make_random_data(14)
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 5, (data.n_users, data.n_items)).astype(np.float32)
    users, targets = early_stopping_users(data), data.targets("validation")
    candidates = np.stack([
        rng.choice([i for i in range(1, data.n_items + 1) if i != targets[u]], 12, replace=False) for u in users
    ]).astype(np.int32)  # fmt: skip
    gains = []
    for user, sampled in zip(users, candidates, strict=True):
        mine, theirs = matrix[user, targets[user] - 1], matrix[user, sampled - 1]
        above, tied = (theirs > mine).sum(), (theirs == mine).sum() if ties == "expected" else 0
        gains.append(np.mean([(r <= 3) / np.log2(r + 1) for r in range(above + 1, above + tied + 2)]))
    made = fixed_scorer(data, "validation", matrix)
    value = quick_ndcg(made, data, "validation", 3, users, candidates=candidates, ties=ties)
    assert value == pytest.approx(np.mean(gains))
    assert value == quick_ndcg(made, data, "validation", 3, candidates=candidates, ties=ties)


def test_candidates_that_are_not_of_the_users_are_refused(make_random_data):
    data = make_random_data(15)
    users = early_stopping_users(data)
    candidates = np.ones((len(users), 2), np.int32)
    with pytest.raises(ValueError, match="a row for each of"):
        quick_ndcg(Popularity(data), data, "validation", candidates=candidates[1:])
    with pytest.raises(ValueError, match="rising"):
        quick_ndcg(Popularity(data), data, "validation", users=users[::-1], candidates=candidates)


def test_early_stopping_takes_everybody_or_always_the_same_sample(make_random_data):
    data = make_random_data(7)
    everybody = early_stopping_users(data)
    sample = early_stopping_users(data, limit=10)
    assert everybody.tolist() == np.flatnonzero(data.targets("validation")).tolist()
    assert len(sample) == 10
    assert set(sample) <= set(everybody)
    assert sample.tolist() == early_stopping_users(data, limit=10).tolist()


def test_intervals_are_those_of_a_plain_bootstrap(make_random_data, fixed_scorer):
    data = make_random_data(8, n_users=300, n_items=30)
    matrix = random_scores(data)
    row = figure(evaluate(fixed_scorer(data, "test", matrix), data, config=EvaluateConfig(resamples=4000)), "ndcg")
    gains = np.array([(r <= 10) / np.log2(r + 1) for r in ranks_by_sorting(data, matrix, "test").values()])
    rng = np.random.default_rng(1)
    means = [rng.choice(gains, len(gains)).mean() for _ in range(4000)]
    assert np.allclose([row["low"], row["high"]], np.quantile(means, [0.025, 0.975]), atol=0.004)
    assert row["low"] < row["value"] < row["high"]


def test_an_evaluation_repeats_itself_to_the_last_bit(make_random_data):
    data = make_random_data(9)
    assert evaluate(Popularity(data), data).rows == evaluate(Popularity(data), data).rows


def test_popularity_ranks_by_training_counts(small_data):
    # Items 1 and 2 are met three times and once in training; what is held out does not count.
    data = small_data([[1, 1, 4, 4], [1, 2, 4, 2]], 4)
    assert Popularity(data).scores(np.array([3], np.int32), np.array([0, 0, 1])).tolist() == [[3, 1, 0, 0]] * 2


def test_users_without_input_are_not_ranked_but_counted(make_random_data, fixed_scorer):
    data = make_random_data(10)
    matrix = random_scores(data)
    victim = int(np.flatnonzero(data.targets("test"))[0])
    before = evaluate(fixed_scorer(data, "test", matrix), data)
    made = fixed_scorer(data, "test", matrix)
    data.splits[victim] = 0
    after = evaluate(made, data)
    assert figure(after, "hr")["users"] == figure(before, "hr")["users"] - 1
    assert figure(after, "not_ranked", None)["value"] == 1
    assert quick_ndcg(made, data, "test", 10, np.array([victim, *np.flatnonzero(data.targets("test"))])) > 0


def test_known_targets_only_leaves_cold_ones_out(make_random_data, fixed_scorer):
    data = make_random_data(11, n_users=30, n_items=200)
    made = fixed_scorer(data, "test", random_scores(data))
    report = evaluate(made, data, config=EvaluateConfig(targets="known"))
    full = evaluate(made, data)
    assert report.rows[0]["protocol"] == "full-known"
    assert figure(report, "ndcg")["value"] == pytest.approx(figure(full, "ndcg", 10, "known_target")["value"])
    assert figure(report, "ndcg", 10, "cold_target")["value"] is None


def test_only_the_users_asked_for_are_evaluated(make_random_data, fixed_scorer):
    data = make_random_data(12)
    users = np.flatnonzero(data.targets("test"))[:3]
    report = evaluate(fixed_scorer(data, "test", random_scores(data)), data, users=users)
    assert figure(report, "hr")["users"] == 3
    with pytest.raises(ValueError, match="from 0 to 39"):
        evaluate(Popularity(data), data, users=np.array([40]))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "full"),
        ({"keep_seen": True}, "full-keep-seen"),
        ({"targets": "known"}, "full-known"),
        ({"keep_seen": True, "targets": "known"}, "full-keep-seen-known"),
        ({"candidates": 100}, "sampled-100"),
        ({"candidates": 100, "group_rule": "paper"}, "paper-100"),
        ({"group_rule": "paper"}, "paper-full"),
        ({"group_rule": "paper", "targets": "known"}, "paper-full-known"),
    ],
)
def test_a_protocol_has_its_name(settings, name):
    assert protocol_name(EvaluateConfig(**settings)) == name


def test_what_cannot_be_evaluated_says_why(small_data, make_random_data):
    data = make_random_data(13)
    with pytest.raises(ValueError, match="keep_seen says nothing"):
        evaluate(Popularity(data), data, config=EvaluateConfig(keep_seen=True, candidates=5))
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        evaluate(Popularity(data), data, config=EvaluateConfig(k=[0, 5]))
    with pytest.raises(ValueError, match="'validation' or 'test', got 'train'"):
        evaluate(Popularity(data), data, part="train")
    with pytest.raises(ValueError, match="nothing to rank"):
        evaluate(Popularity(data), small_data([[1, 2]], 3))
    data.split = "none"
    with pytest.raises(ValueError, match="--split none"):
        evaluate(Popularity(data), data)
