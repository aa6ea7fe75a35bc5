"""The paper's metric table, against what the authors' code gave.

Other vectors: `LLM_ESR_PARITY=/path/to/folder pytest tests/evaluation/test_paper_metrics.py`, likewise
`LLM_ESR_METHOD_VECTORS`.
"""

from __future__ import annotations

import importlib
import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import evaluate
from llm_esr.evaluation.evaluate import popularity_baseline
from llm_esr.evaluation.group_metrics import group_rows
from llm_esr.evaluation.groups import Group
from llm_esr.scoring import Popularity

# What the authors call a group.
NAMES = {"Short": "tail_user", "Long": "head_user", "Tail": "tail_item", "Popular": "head_item"}
PARTS = {"valid": "validation", "test": "test"}
PAPER = {
    "k": [10],
    "group_rule": "paper",
    "tail_user_below": 8,
    "tail_item_below": 12,
    "ties": "strict",
    "tail_item_skips_first": True,
    "resamples": 0,
}


def golden_metrics(case, part):
    """(group, metric) -> the authors' figure."""
    found = {}
    for name, value in json.loads(str(case[f"{part}/metrics"])).items():
        group, _, metric = name.rpartition(" ")
        found[NAMES[group] if group else "all", metric.partition("@")[0].lower()] = value
    return found


def histories_of(case):
    offsets, flat = case["sequences_offsets"], case["sequences_flat"]
    return [flat[a:b].tolist() for a, b in pairwise(offsets)]


class GivenScores:
    """Scores of the target and of the candidates of each user, as they come; every other item is beyond reach."""

    name = "given"

    def __init__(self, ids, scores, n_items, max_len):
        self.max_len = max_len
        self.matrix = torch.full((len(ids), n_items), torch.inf)
        for row, (row_ids, row_scores) in enumerate(zip(ids, scores, strict=True)):
            self.matrix[row, row_ids - 1] = torch.from_numpy(row_scores)
        self.start = 0

    def scores(self, items, offsets):
        rows = slice(self.start, self.start + len(offsets) - 1)
        self.start = rows.stop
        return self.matrix[rows]


@pytest.mark.parametrize("part", ["valid", "test"])
def test_an_evaluation_gives_the_authors_metric_table(parity_cases, part, small_data, monkeypatch):
    case = parity_cases
    given = json.loads(str(case["config"]))
    n_items = given["num_items"]
    data = small_data(histories_of(case), n_items)
    # The vectors hold the first batch of those who are evaluated: users with at least three items, by number.
    users = np.flatnonzero(data.targets(PARTS[part]))[: len(case[f"{part}/pos"])]
    assert data.targets(PARTS[part])[users].tolist() == case[f"{part}/pos"].tolist()

    ids = np.concatenate([case[f"{part}/pos"][:, None], case[f"{part}/neg"]], axis=1)
    scorer = GivenScores(ids, case[f"{part}/logits"], n_items, given["max_len"])
    module = importlib.import_module("llm_esr.evaluation.evaluate")
    monkeypatch.setattr(module, "sample_candidates", lambda *_: case[f"{part}/neg"])
    config = EvaluateConfig.model_validate(PAPER | {"candidates": ids.shape[1] - 1})
    report = evaluate(scorer, data, part=PARTS[part], config=config, users=users)
    assert report.rows[0]["protocol"] == f"paper-{ids.shape[1] - 1}"
    # LLMEmb's authors add up in single precision.
    tolerance = 1e-6 if given.get("method") == "llmemb" else 1e-9
    for (group, metric), value in golden_metrics(case, part).items():
        assert report.value(metric, 10, group) == pytest.approx(value, abs=tolerance), (group, metric)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_counting_higher_logits_gives_the_authors_ranks(parity_cases, part):
    logits = parity_cases[f"{part}/logits"]
    assert ((logits[:, 1:] > logits[:, :1]).sum(axis=1) == parity_cases[f"{part}/rank"]).all()


def means(above, tied, name, members, **settings):
    rows = group_rows(np.array(above), np.array(tied), [Group(name, np.array(members), 0)], [2], **settings)
    return {row["metric"]: row["value"] for row in rows} | {"users": rows[0]["users"]}


@pytest.mark.parametrize("name", ["tail_item", "head_item"])
def test_the_first_user_of_all_is_no_hit_in_the_group_of_its_item(name):
    with_first = means([0, 0, 5], [0, 0, 0], name, [True, True, False], skips_first=True)
    assert with_first == {"hr": 0.5, "ndcg": 0.5, "mrr": 0.5, "users": 2}
    without_first = means([0, 0, 5], [0, 0, 0], name, [False, True, True], skips_first=True)
    assert without_first == {"hr": 0.5, "ndcg": 0.5, "mrr": 0.5, "users": 2}


@pytest.mark.parametrize("name", ["all", "tail_user", "head_user", "known_target", "popularity_0_9"])
def test_the_first_user_is_passed_over_in_item_groups_alone(name):
    assert means([0, 5], [0, 0], name, [True, True], skips_first=True)["hr"] == 0.5


def test_tied_items_do_not_count_where_ties_are_strict():
    assert means([1], [3], "all", [True], ties="strict")["ndcg"] == pytest.approx(1 / np.log2(3))
    assert means([1], [3], "all", [True])["ndcg"] == pytest.approx(1 / np.log2(3) / 4)


def figures(report):
    return {(r["group"], r["metric"]): r for r in report.rows if r["k"] in (10, None)}


@pytest.mark.parametrize("part", ["validation", "test"])
def test_papers_groups_go_by_distinct_users_and_by_the_length_of_the_input(make_random_data, part):
    data = make_random_data(21)
    users = np.flatnonzero(data.targets(part))
    config = EvaluateConfig(group_rule="paper", tail_item_below=5, tail_user_below=7)
    found = figures(evaluate(Popularity(data), data, part=part, config=config))
    met_by = {item: sum(item in history for history in data.all) for item in range(1, data.n_items + 1)}
    tail_items = sum(met_by[int(data.targets(part)[u])] < 5 for u in users)
    tail_users = sum(len(data.history(u, part)) < 7 for u in users)
    assert 0 < tail_items < len(users) and 0 < tail_users < len(users)
    assert found["tail_item", "hr"]["users"] == tail_items
    assert found["head_item", "hr"]["users"] == len(users) - tail_items
    assert found["tail_user", "hr"]["users"] == tail_users
    assert found["head_user", "hr"]["users"] == len(users) - tail_users


def test_papers_thresholds_follow_the_share_of_the_counts_that_the_rule_reads(make_random_data):
    data = make_random_data(22)
    found = figures(evaluate(Popularity(data), data, config=EvaluateConfig(group_rule="paper", tail_share=0.6)))
    met_by = [sum(item in history for history in data.all) for item in range(1, data.n_items + 1)]
    lengths = [len(data.history(user, "test")) for user in range(data.n_users)]
    for group, counts in (("tail_item", met_by), ("tail_user", lengths)):
        below = found[group, "below"]["value"]
        assert np.mean(np.array(counts) < below) >= 0.6 > np.mean(np.array(counts) < below - 1)


def test_an_empty_group_reads_zero_in_the_paper_and_nothing_elsewhere(make_random_data):
    data = make_random_data(23)
    for rule, value in (("paper", 0.0), ("training", None)):
        config = EvaluateConfig(group_rule=rule, tail_item_below=0)
        row = figures(evaluate(Popularity(data), data, config=config))["tail_item", "hr"]
        assert (row["value"], row["low"], row["users"]) == (value, None, 0)


def test_popularity_counts_the_inputs_under_the_papers_rule(small_data):
    data = small_data([[1, 1, 4, 4], [1, 2, 4, 2], [3, 3]], 4)
    nobody = np.zeros(2, np.int64)

    def counts(part, rule):
        baseline, judged = popularity_baseline(data, part, EvaluateConfig(group_rule=rule, ties="strict"))
        assert judged.ties == "expected"
        return baseline.scores(np.empty(0, np.int32), nobody).tolist()[0]

    assert counts("test", "training") == counts("validation", "paper") == [3, 1, 2, 0]
    assert counts("test", "paper") == [3, 1, 2, 2]
    assert Popularity(data, "serving").scores(np.empty(0, np.int32), nobody).tolist()[0] == [3, 2, 2, 3]
