"""Attributes are read once, and views lack some of them."""

import re
from collections import Counter

import numpy as np
import polars as pl
import pytest

from llm_esr.semantics.attribute_views import ItemAttributes, item_attributes, kept

DRAW = (1, 0, 0)


def of_prompt(prompt):
    """The header and the attributes of one of the authors' prompts."""
    header, _, listed = prompt.partition("\n ")
    pairs = [re.fullmatch(r"(\w+) is (.*)", part).groups() for part in listed.split("; ")]
    return ItemAttributes([pairs], {name: None for name, _ in pairs}, None, header)


def test_views_are_those_of_the_authors(scft):
    offsets = scft["views/offsets"]
    for at, prompt in enumerate(scft["views/prompt"].tolist()):
        attributes = of_prompt(prompt)
        assert attributes.text(attributes.rows[0]) == prompt
        for view in ("first", "second"):
            order = scft[f"views/order_{view}"][offsets[at] : offsets[at + 1]]
            rows = kept(order, float(scft["views/ratio"][at]), guarded=False)
            text = attributes.text([attributes.rows[0][row] for row in rows])
            # One attribute is all of the text, and the authors drop it whatever the ratio.
            assert (text if len(order) > 1 else attributes.header) == scft[f"views/{view}"][at]


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.4, 0.99])
def test_at_least_one_attribute_stays_and_one_is_dropped(ratio):
    for count in range(2, 12):
        stays = len(kept(np.arange(count), ratio))
        assert 1 <= stays < count
        assert stays == min(max(count - int(ratio * count), 1), count - 1)


def test_a_draw_depends_on_its_key_alone():
    row = [("tags", str(n)) for n in range(8)]
    attributes = ItemAttributes([row, row], {"tags": ", "}, None)
    again = ItemAttributes([row, row, row], {"tags": ", "}, None)
    keys = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
    views = [attributes.view(0, key, 0.4) for key in keys] + [attributes.view(1, DRAW, 0.4)]
    assert len({tuple(view) for view in views}) == len(views)
    assert views[::-1] == [again.view(1, DRAW, 0.4)] + [again.view(0, key, 0.4) for key in keys[::-1]]


def test_every_attribute_is_dropped_as_often_as_another_unless_the_title_stays():
    row = [("title", "lamp"), ("brand", "Almont"), ("tags", "red"), ("tags", "old")]
    attributes = ItemAttributes([row], {"title": None, "brand": None, "tags": ", "}, "title")
    counts = Counter(one for epoch in range(2000) for one in attributes.view(0, (3, epoch, 0), 0.4))
    assert all(0.7 < counts[one] / 2000 < 0.8 for one in row)
    for epoch in range(20):
        view = attributes.view(0, (3, epoch, 0), 0.4, keep_title=True)
        assert view[0] == row[0] and len(view) == 3
        assert attributes.text(view).startswith("lamp. ")


ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "title": ["cup, red", "cup, blue", "jug", "tent", "shoe", ""],
        "path": ["Home > Cups", "Home > Cups", "Home > Jugs", "Home > Jugs", "Unknown > Out", None],
        "tags": ["red, small", "small, small", "red, old", "old", "", None],
        "about": ["a cup, quite red", "a cup, quite blue", "to pour, slowly", "for rain, wind", "light, soft", "none"],
    }
)


def test_lists_and_paths_give_several_attributes_and_other_texts_one(make_shop):
    found = item_attributes(make_shop(items=ITEMS))
    assert found.separators == {"title": None, "path": " > ", "tags": ", ", "about": None}
    of = dict(zip(ITEMS["item_id"], ITEMS.rows(named=True), strict=True))
    assert found.rows[0] == [("title", "cup, red"), ("path", "Home"), ("path", "Cups"), ("tags", "red"),
                             ("tags", "small"), ("about", of["a"]["about"])]  # fmt: skip
    assert found.rows[1][3:5] == [("tags", "small"), ("about", of["b"]["about"])]  # a repeat counts once
    assert ("path", "Out") in found.rows[4] and not any(value == "Unknown" for _, value in found.rows[4])
    assert found.rows[5] == [("about", "none")]
    assert found.trained.tolist() == [0, 1, 2, 3, 4]
    assert found.text(found.rows[0]) == "cup, red. path: Home > Cups. tags: red, small. about: a cup, quite red."


def test_columns_can_be_chosen_and_wrong_ones_are_named(make_shop):
    shop = make_shop(items=ITEMS)
    assert set(item_attributes(shop, ["tags"]).separators) == {"tags"}
    with pytest.raises(ValueError, match=r"names 'tag', which is no text column; did you mean 'tags'\?"):
        item_attributes(shop, ["tag"])
    with pytest.raises(ValueError, match="0 items with two attributes or more in title; tuning on attributes needs"):
        item_attributes(shop, ["title"])
