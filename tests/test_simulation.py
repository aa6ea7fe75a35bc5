"""The simulated shop is what its text says."""

import numpy as np
import polars as pl
import pytest

from llm_esr.simulation import simulate


@pytest.fixture(scope="module")
def shop():
    return simulate(seed=42)


def test_the_same_seed_gives_the_same_shop_and_another_seed_another():
    first, again, other = simulate(1, 50, 150), simulate(1, 50, 150), simulate(2, 50, 150)
    assert first[0].equals(again[0])
    assert first[1].equals(again[1])
    assert not first[0].equals(other[0])


def test_most_users_are_short_and_most_items_rare(shop):
    interactions, items = shop
    lengths = interactions.group_by("user_id").len()["len"]
    assert len(lengths) == 3000
    assert 6 <= lengths.median() <= 8
    assert lengths.min() >= 3
    counts = items.join(interactions.group_by("item_id").len(), on="item_id", how="left")["len"].fill_null(0)
    assert len(items) == 2000
    assert (counts < 20).mean() >= 0.8
    assert 25_000 <= len(interactions) <= 30_000


def test_every_item_says_that_it_is_simulated_and_reads_like_an_item(shop):
    _, items = shop
    assert items["item_id"].n_unique() == len(items)
    assert items["description"].str.starts_with("Simulated item.").all()
    assert all(items[name].null_count() == 0 for name in items.columns)
    row = items.row(0, named=True)
    assert row["style"] in row["title"]
    assert row["brand"] in row["title"]
    assert row["category"].split(" > ")[1] in row["title"]


def test_users_move_forward_in_time_and_never_take_an_item_twice(shop):
    interactions, items = shop
    assert not interactions.select("user_id", "item_id").is_duplicated().any()
    steps = interactions.with_columns(gap=pl.col("timestamp").diff().over("user_id"))["gap"].drop_nulls()
    assert (steps > 0).all()
    assert set(interactions["item_id"]) <= set(items["item_id"])


def test_an_item_is_often_followed_by_its_department_style_and_brand(shop):
    interactions, items = shop
    told = interactions.join(items, on="item_id", how="left", maintain_order="left")
    told = told.with_columns(department=pl.col("category").str.split(" > ").list.first())
    for column in ("department", "style", "brand"):
        by_chance = (told[column].value_counts()["count"] / len(told)).pow(2).sum()
        same = told.with_columns(before=pl.col(column).shift().over("user_id")).drop_nulls("before")
        assert (same["before"] == same[column]).mean() > 1.5 * by_chance


def test_texts_do_not_tell_how_often_an_item_is_met(shop):
    interactions, items = shop
    counts = items.join(interactions.group_by("item_id").len(), on="item_id", how="left")
    groups = counts.group_by("material").agg(pl.col("len").fill_null(0).median())["len"]
    assert np.ptp(groups.to_numpy()) <= 3


def test_too_small_a_shop_is_refused():
    with pytest.raises(ValueError, match="at least; got 0 and 2000"):
        simulate(n_users=0)
    with pytest.raises(ValueError, match="120 items at least"):
        simulate(n_items=100)
