from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

from llm_esr.scoring import Popularity, scorer
from llm_esr.serving import Recommender, read_user_ids, recommend
from llm_esr.serving.ids import external_id, near_ids


def listed(frame, owner, column="user_id"):
    return frame.filter(pl.col(column) == owner)["item_id"].to_list()


def test_a_known_user_gets_the_best_items_not_met_yet(recommender, shop, oracle):
    frame = recommender.recommend(users=["u4", "u1"], k=3)
    assert frame.columns == ["user_id", "rank", "item_id", "score", "title"]
    assert frame["user_id"].to_list() == ["u4"] * 3 + ["u1"] * 3
    assert frame["rank"].to_list() == [1, 2, 3] * 2
    for user in ("u4", "u1"):
        # Everything the user did is read and left out, held-out items too.
        assert listed(frame, user) == oracle(shop.all[shop.user_index[user]].tolist(), 3)
    assert frame["title"].to_list() == [name.replace("i", "Thing ") for name in frame["item_id"]]
    assert frame["score"].is_nan().sum() == 0


def test_a_history_of_a_person_never_seen_gets_a_list(recommender, oracle):
    frame = recommender.recommend(histories=[["i3", "i9"], ["i1", "i2", "i4", "i5"]], k=4)
    assert frame.columns == ["history", "rank", "item_id", "score", "title"]
    assert listed(frame, 0, "history") == oracle([3, 9], 4)
    assert listed(frame, 1, "history") == oracle([1, 2, 4, 5], 4)  # i1 is beyond the model's length and still left out


def test_a_user_and_the_same_history_get_the_same_list(recommender, shop):
    history = [shop.item_ids[i - 1] for i in shop.all[2]]
    by_name, by_history = recommender.recommend(users="u2"), recommender.recommend(histories=[history])
    assert by_name["item_id"].to_list() == by_history["item_id"].to_list()


def test_unknown_items_of_a_history_are_left_out_with_a_warning(recommender, oracle):
    with pytest.warns(UserWarning, match="no item 'i33' in the data; did you mean 'i3'"):
        frame = recommender.recommend(histories=[["i3", "i33", "i9"]], k=4)
    assert listed(frame, 0, "history") == oracle([3, 9], 4)


def test_a_history_without_known_items_gets_the_most_popular_ones(recommender, shop):
    with (
        pytest.warns(UserWarning, match=r"2 of 3 histories have no known item \(row 0, 2\)"),
        pytest.warns(UserWarning, match=r"no item 'nonsense' in the data\. Left out"),
    ):
        frame = recommender.recommend(histories=[[], ["i1"], ["nonsense"]], k=5)
    popular = np.argsort(-shop.training_counts[1:], kind="stable")[:5] + 1
    for row in (0, 2):
        assert listed(frame, row, "history") == [f"i{i}" for i in popular]
    assert frame["score"].is_nan().sum() == 0
    with pytest.warns(UserWarning, match="no known item"):
        assert recommender.recommend(histories=[[]], k=5)["item_id"].to_list() == [f"i{i}" for i in popular]


def test_an_unknown_user_is_an_error_that_suggests_near_names(recommender):
    with pytest.raises(ValueError, match=r"no user 'U3' in the data; did you mean 'u3'") as error:
        recommender.recommend(users=["u1", "U3"])
    assert "histories=[[...]]" in str(error.value)
    with pytest.warns(UserWarning, match=r"no user 'U3'.*Passed over"):
        frame = recommender.recommend(users=["u1", "U3"], k=2, skip_unknown=True)
    assert frame["user_id"].to_list() == ["u1", "u1"]
    with pytest.warns(UserWarning, match="and 1 more"):
        frame = recommender.recommend(users=[f"x{n}" for n in range(6)], skip_unknown=True)
    assert frame.columns == ["user_id", "rank", "item_id", "score", "title"]
    assert len(frame) == 0


def test_only_included_items_and_none_of_the_excluded(recommender, shop, oracle):
    history = shop.all[0].tolist()
    frame = recommender.recommend(users="u0", include=["i1", "i2", "i3", "i4", "i5", "i6"], exclude="i2")
    assert frame["item_id"].to_list() == oracle(history, 10, {1, 3, 4, 5, 6})
    with pytest.raises(ValueError, match="exclude: no item 'i99'"):
        recommender.recommend(users="u0", exclude=["i99"])
    with pytest.warns(UserWarning, match="include: no item 'i99'"):
        assert set(recommender.recommend(users="u0", include=["i99", "i1", "i7"], skip_unknown=True)["item_id"]) <= {
            "i1",
            "i7",
        }
    with pytest.raises(ValueError, match="leave no item"):
        recommender.recommend(users="u0", include="i1", exclude="i1")


def test_items_met_before_come_back_on_request(recommender, shop, oracle):
    history = shop.all[3].tolist()
    frame = recommender.recommend(users="u3", k=12, keep_seen=True)
    assert frame["item_id"].to_list() == oracle(history, 12, keep_seen=True)
    # Without it the list is as long as there are items left.
    assert len(recommender.recommend(users="u3", k=50)) == 12 - len(set(history))


def test_equal_scores_go_by_the_items_number(recommender, model):
    model.vectors[:] = 0
    assert recommender.recommend(histories=[["i2"]], k=3)["item_id"].to_list() == ["i1", "i3", "i4"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "got neither"),
        ({"users": "u1", "histories": [["i1"]]}, "got both"),
        ({"histories": ["i1", "i2"]}, "expected a list of histories"),
        ({"histories": "i1"}, "expected a list of histories"),
        ({"users": "u1", "k": 0}, "k: expected a whole number of at least 1, got 0"),
        ({"users": [None]}, "text or a number, got None"),
    ],
)
def test_a_request_that_makes_no_sense_says_so(recommender, request_, message):
    with pytest.raises(ValueError, match=message):
        recommender.recommend(**request_)


def test_a_model_that_gives_nan_is_an_error(recommender, model):
    model.vectors[3] = np.nan
    with pytest.raises(ValueError, match="scorer sum gave NaN"):
        recommender.recommend(users="u0")


def test_items_without_titles_give_no_title_column(make_shop, model, recommender):
    plain = Recommender(model, make_shop(titles=False), "sum", 1, recommender.config)
    assert plain.recommend(users="u1").columns == ["user_id", "rank", "item_id", "score"]


@pytest.mark.parametrize("rows_a_part", [1 << 20, 10])
def test_all_users_go_to_a_parquet_file_in_chunks(recommender, tmp_path, monkeypatch, rows_a_part):
    expected = recommender.recommend(users=recommender.data.user_ids, k=4)
    monkeypatch.setattr(scorer, "SCORE_BUDGET", 2 * recommender.data.n_items)  # two users a chunk
    monkeypatch.setattr(recommend, "_ROWS_A_PART", rows_a_part)
    path = tmp_path / "new" / "recs.parquet"
    assert recommender.recommend_to(path, k=4) == len(expected)
    found = pl.read_parquet(path)
    assert found.drop("score").equals(expected.drop("score"))
    assert np.allclose(found["score"], expected["score"])
    assert [p.name for p in path.parent.iterdir()] == ["recs.parquet"]


def test_a_failed_writing_leaves_the_old_file(recommender, model, tmp_path):
    path = tmp_path / "recs.parquet"
    recommender.recommend_to(path, users=["u1", "u2"])
    before = path.read_bytes()
    model.vectors[:] = np.nan
    recommender.refresh()
    with pytest.raises(ValueError, match="NaN"):
        recommender.recommend_to(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["recs.parquet"]
    with pytest.raises(ValueError, match=r"ends in \.parquet"):
        recommender.recommend_to(tmp_path / "recs.csv")


def test_user_ids_come_from_text_csv_and_parquet(tmp_path):
    (tmp_path / "users.txt").write_text("u1\n\n u2 \n")
    (tmp_path / "users.csv").write_text("user_id,age\n007,3\n8,4\n")
    pl.DataFrame({"user_id": [7, 8]}).write_parquet(tmp_path / "users.parquet")
    assert read_user_ids(tmp_path / "users.txt") == ["u1", "u2"]
    assert read_user_ids(tmp_path / "users.csv") == ["007", "8"]
    assert read_user_ids(tmp_path / "users.parquet") == ["7", "8"]
    with pytest.raises(ValueError, match=r"no column 'user' \(it has: user_id, age\)"):
        read_user_ids(tmp_path / "users.csv", "user")
    with pytest.raises(FileNotFoundError, match="one a line"):
        read_user_ids(tmp_path / "absent.txt")


def test_ids_are_text_and_whole_numbers_lose_their_fraction():
    assert [external_id(x) for x in ("007", 7, 7.0, np.int64(7))] == ["007", "7", "7", "7"]
    with pytest.raises(ValueError, match=r"got nan"):
        external_id(float("nan"))


def test_near_ids_are_found_among_many():
    assert near_ids("user_500001", [f"user_{n}" for n in range(400_000)]) != []
    assert near_ids("zzz", ["abc"]) == []
    assert near_ids("17", ["u16", "u17", "u30"])[0] == "u17"


def test_evaluation_shows_the_model_beside_popularity(recommender):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = recommender.evaluate(k=[1, 5], resamples=50)
    assert [*dict.fromkeys((r["model"], r["seed"]) for r in report.rows)] == [("popularity", None), ("sum", 42)]
    assert report.value("hr", 5) >= report.value("hr", 1)
    alone = recommender.evaluate(part="validation", k=5, popularity=False, users=["u1", "u2"], keep_seen=True)
    assert {(r["model"], r["split"], r["protocol"]) for r in alone.rows} == {("sum", "validation", "full-keep-seen")}
    assert {r["users"] for r in alone.rows if r["group"] == "all"} == {2}


def test_another_catalogue_is_refused(recommender, make_shop):
    other = make_shop()
    assert recommender.evaluate(other).rows == recommender.evaluate().rows
    other.item_ids = [*other.item_ids[:-1], "new"]
    with pytest.raises(ValueError, match="another catalogue"):
        recommender.evaluate(other)


def test_scores_of_empty_histories_are_those_of_popularity(recommender, shop):
    items, offsets = np.array([3, 9], np.int32), np.array([0, 0, 2, 2])
    scores = recommender.scores(items, offsets)
    popular = Popularity(shop).scores(items[:0], np.array([0, 0]))
    assert scores[[0, 2]].tolist() == popular.tolist() * 2
    assert scores[1].tolist() == recommender.scores(items, np.array([0, 2]))[0].tolist()


def test_a_setting_of_evaluate_that_does_not_fit_is_named(recommender):
    with pytest.raises(ValueError, match=r"evaluate: targets: .*'all' or 'known' \(got 'some'\)"):
        recommender.evaluate(targets="some")
    with pytest.raises(ValueError, match=r"evaluate: candidates: .*\(got -1\)"):
        recommender.evaluate(candidates=-1)
