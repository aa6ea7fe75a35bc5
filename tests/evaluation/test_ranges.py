from __future__ import annotations

import numpy as np
import pytest

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import evaluate, render
from llm_esr.evaluation.groups import range_groups
from llm_esr.evaluation.report import merged
from llm_esr.scoring import Popularity


def rows_of(report, metric="hr", k=10):
    return {row["group"]: row for row in report.rows if (row["metric"], row["k"]) == (metric, k)}


def test_ranges_are_named_by_their_ends_and_hold_what_lies_between():
    values = np.array([0, 4, 5, 9, 10, 99])
    found = {group.name: np.flatnonzero(group.members).tolist() for group in range_groups("length", values, [5, 10])}
    assert found == {"length_0_4": [0, 1], "length_5_9": [2, 3], "length_10_up": [4, 5]}


@pytest.mark.parametrize("rule", ["training", "paper"])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_ranges_go_by_what_the_rule_counts(make_random_data, rule, part):
    data = make_random_data(31)
    config = EvaluateConfig(group_rule=rule, length_groups=[3, 5], popularity_groups=[2, 6])
    found = rows_of(evaluate(Popularity(data), data, part=part, config=config))
    lengths, popularity = [], []
    for user in np.flatnonzero(data.targets(part)):
        target = data.targets(part)[user]
        if rule == "paper":
            lengths.append(len(data.history(user, part)))
            popularity.append(sum(target in history for history in data.all))
        else:
            lengths.append(len(data.history(user, "validation")))
            popularity.append(sum((data.history(u, "validation") == target).sum() for u in range(data.n_users)))
    for kind, values, bounds in (("length", lengths, (3, 5)), ("popularity", popularity, (2, 6))):
        a, b = bounds
        counts = [(np.array(values) < a).sum(), (np.array(values) >= b).sum()]
        names = [f"{kind}_0_{a - 1}", f"{kind}_{b}_up", f"{kind}_{a}_{b - 1}"]
        expected = [*counts, len(values) - sum(counts)]
        assert [found[name]["users"] for name in names] == expected


def test_other_ranges_leave_every_interval_as_it_was(make_random_data):
    data = make_random_data(32)
    usual = evaluate(Popularity(data), data).rows
    without = evaluate(Popularity(data), data, config=EvaluateConfig(length_groups=[], popularity_groups=[])).rows
    fewer = evaluate(Popularity(data), data, config=EvaluateConfig(length_groups=[5], popularity_groups=[10, 30])).rows
    assert {row["group"] for row in usual} > {row["group"] for row in without}
    assert all(row in usual for row in without)
    ranges = [row for row in fewer if row["group"] in ("length_0_4", "popularity_0_9", "popularity_10_29")]
    assert ranges and all(row in usual for row in ranges)


@pytest.mark.parametrize("bounds", [[5, 5], [10, 5], [0, 5], [-1]])
def test_bounds_that_do_not_rise_are_refused(make_random_data, bounds):
    data = make_random_data(33)
    with pytest.raises(ValueError, match=r"evaluate.length_groups: expected rising numbers .* got \["):
        evaluate(Popularity(data), data, config=EvaluateConfig(length_groups=bounds))


def test_each_kind_of_range_has_a_table_of_its_own_in_the_details(make_random_data):
    data = make_random_data(34)
    rows = evaluate(Popularity(data), data).rows
    text = render(rows, "markdown", details=True)
    assert "| model | metric | under 5 | 5 to 9 | 10 to 14 | 15 to 19 | 20 and more |" in text
    assert "| model | metric | under 10 | 10 to 29 | 30 to 59 | 60 to 99 | 100 and more |" in text
    assert "by the user's items in training, @10" in text
    assert "under 5" not in render(rows, "markdown")
    paper = evaluate(Popularity(data), data, config=EvaluateConfig(group_rule="paper", length_groups=[1, 2])).rows
    text = render(paper, "markdown", details=True)
    assert "by the user's items in the input, @10" in text
    assert "by the users who met the target, over all parts, @10" in text
    assert "| model | metric | under 1 | 1 | 2 and more |" in text


def test_old_ranges_go_where_others_are_asked_for_and_stay_where_none_are(make_random_data):
    data = make_random_data(35)
    old = evaluate(Popularity(data), data).rows
    other = evaluate(Popularity(data), data, config=EvaluateConfig(length_groups=[7], popularity_groups=[])).rows
    groups = {row["group"] for row in merged(old, other)}
    assert {group for group in groups if group.startswith("length")} == {"length_0_6", "length_7_up"}
    assert "popularity_10_29" in groups
