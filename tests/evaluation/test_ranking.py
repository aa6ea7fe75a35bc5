from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_esr.evaluation import ranking
from llm_esr.evaluation.ranking import rank_targets
from llm_esr.scoring import lists, scorer
from llm_esr.scoring.lists import top_k


def oracle(scores: np.ndarray, target: int, seen: set[int], keep_seen: bool) -> tuple[int, int]:
    """Ranks by sorting the competing items' scores, in plain NumPy."""
    competing = [i for i in range(1, len(scores) + 1) if i != target and (keep_seen or i not in seen)]
    ordered = np.sort(scores[np.array(competing) - 1])
    mine = scores[target - 1]
    reach = len(ordered) - np.searchsorted(ordered, mine, "left")
    above = len(ordered) - np.searchsorted(ordered, mine, "right")
    return above, reach - above


@pytest.fixture(params=["kernel", "torch"])
def counted_by(request, monkeypatch):
    """Both ways of counting: the kernel of the CPU, and what other devices do."""
    if request.param == "torch":
        monkeypatch.setattr(ranking, "counts_natively", lambda scores: False)
        monkeypatch.setattr(lists, "counts_natively", lambda scores: False)


@pytest.mark.usefixtures("counted_by")
@pytest.mark.parametrize("keep_seen", [False, True])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_counting_gives_the_ranks_that_sorting_gives(make_random_data, fixed_scorer, monkeypatch, keep_seen, part):
    monkeypatch.setattr(scorer, "SCORE_BUDGET", 7 * 30)  # seven users a chunk
    monkeypatch.setattr(scorer, "FEWEST", 1)
    monkeypatch.setattr(lists, "_ITEM_BLOCK", 7)
    for seed in range(4):
        data = make_random_data(seed)
        # Few distinct scores: ties everywhere.
        matrix = np.random.default_rng(seed).integers(0, 6, (data.n_users, data.n_items)).astype(np.float32)
        users = np.flatnonzero(data.targets(part))
        ranks = rank_targets(fixed_scorer(data, part, matrix), data, part, users, keep_seen=keep_seen)
        targets = data.targets(part)
        for row, user in enumerate(users):
            seen = set(data.history(user, part).tolist())
            expected = oracle(matrix[user], int(targets[user]), seen, keep_seen)
            assert (ranks.above[row], ranks.tied[row]) == expected
            assert ranks.repeat[row] == (int(targets[user]) in seen)


@pytest.mark.usefixtures("counted_by")
def test_a_target_the_user_met_before_is_still_ranked(small_data, fixed_scorer):
    data = small_data([[2, 3, 1, 2]], 4)
    ranks = rank_targets(fixed_scorer(data, "test", [[9, 5, 8, 7]]), data, "test", np.array([0]))
    assert ranks.repeat.tolist() == [True]
    assert ranks.above.tolist() == [1]  # item 4; items 1 and 3 were met before


@pytest.mark.usefixtures("counted_by")
def test_an_item_met_twice_is_taken_off_once(small_data, fixed_scorer):
    data = small_data([[1, 1, 1, 2]], 4)
    ranks = rank_targets(fixed_scorer(data, "test", [[9, 5, 8, 1]]), data, "test", np.array([0]))
    assert (ranks.above.tolist(), ranks.tied.tolist()) == ([1], [0])


def test_only_candidates_compete(small_data, fixed_scorer):
    data = small_data([[1, 1, 2]], 6)
    made = fixed_scorer(data, "test", [[9, 5, 8, 5, 1, 7]])
    candidates = np.array([[4, 5, 6]], np.int32)
    ranks = rank_targets(made, data, "test", np.array([0]), candidates=candidates)
    assert (ranks.above.tolist(), ranks.tied.tolist()) == ([1], [1])


@pytest.mark.usefixtures("counted_by")
def test_a_scorer_that_gives_nan_is_named(small_data, fixed_scorer):
    data = small_data([[1, 2, 3], [2, 2, 3]], 3)
    made = fixed_scorer(data, "test", [[1, 2, 3], [1, np.nan, 3]])
    with pytest.raises(ValueError, match=r"fixed gave NaN for 1 of 2 histories .*row 1"):
        rank_targets(made, data, "test", np.array([0, 1]))


@pytest.mark.usefixtures("counted_by")
def test_infinite_scores_are_not_nan(small_data, fixed_scorer):
    data = small_data([[1, 2, 3]], 4)
    made = fixed_scorer(data, "test", [[np.inf, -np.inf, 0, np.inf]])
    assert rank_targets(made, data, "test", np.array([0])).above.tolist() == [1]


def test_scores_of_another_shape_are_refused(small_data, fixed_scorer):
    data = small_data([[1, 2, 3]], 3)
    with pytest.raises(ValueError, match=r"\(1, 2\), expected \(1, 3\)"):
        rank_targets(fixed_scorer(data, "test", [[1, 2]]), data, "test", np.array([0]))


@pytest.mark.usefixtures("counted_by")
def test_ranking_leaves_the_scorers_tensor_alone(small_data, fixed_scorer):
    data = small_data([[1, 2, 3]], 4)
    made = fixed_scorer(data, "test", [[4, 3, 2, 1]])
    made.scores = lambda items, offsets: made.matrix  # a scorer that hands out its own tensor
    rank_targets(made, data, "test", np.array([0]), list_length=2)
    assert made.matrix.tolist() == [[4, 3, 2, 1]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_top_k_is_a_stable_sort_even_where_ties_cross_the_cut(data):
    rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, 11))
    flat = data.draw(
        st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 2.0]), min_size=rows * width, max_size=rows * width)
    )
    scores = np.array(flat, np.float32).reshape(rows, width)
    for best in (top_k, lists._top_k_by_torch):
        ids, values = best(torch.from_numpy(scores), k)
        for row in range(rows):
            order = np.argsort(-scores[row], kind="stable")
            expected = [int(i) + 1 for i in order if scores[row, i] > -np.inf][:k]
            # `top_k` cuts k to the catalogue.
            places = min(k, width) if best is top_k else k
            assert ids[row].tolist() == expected + [0] * (places - len(expected))
            assert values[row, : len(expected)].tolist() == scores[row][np.array(expected, int) - 1].tolist()


@pytest.mark.usefixtures("counted_by")
def test_no_list_holds_what_was_seen():
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    seen = np.array([1, 3, 1, 4], np.int32), np.array([0, 3, 4])
    ids, values = top_k(scores, 3, seen)
    assert ids.tolist() == [[2, 4, 0], [3, 2, 1]]
    assert values.tolist() == [[4.0, 2.0, -np.inf], [3.0, 2.0, 1.0]]
    assert scores.tolist() == [[5.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]]


def test_ranks_and_lists_are_the_same_on_any_number_of_threads(make_random_data, fixed_scorer):
    data = make_random_data(3)
    users = np.flatnonzero(data.targets("test"))
    matrix = np.random.default_rng(0).integers(0, 6, (data.n_users, data.n_items)).astype(np.float32)
    found, before = [], torch.get_num_threads()
    for threads in (1, 4):
        torch.set_num_threads(threads)
        found.append(rank_targets(fixed_scorer(data, "test", matrix), data, "test", users, list_length=5))
    torch.set_num_threads(before)
    for name in ("above", "tied", "repeat", "best_place"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


@pytest.mark.usefixtures("counted_by")
def test_the_best_place_of_an_item_is_over_all_lists(small_data, fixed_scorer):
    data = small_data([[1, 1, 2], [2, 2, 1]], 5)
    made = fixed_scorer(data, "test", [[9, 5, 4, 3, 1], [3, 9, 1, 5, 2]])
    ranks = rank_targets(made, data, "test", np.array([0, 1]), list_length=2)
    # Without what was met before: user 0 gets 2, 3 and user 1 gets 4, 1.
    assert ranks.best_place.tolist() == [2, 1, 2, 1, ranking.NEVER]
