"""What the encoder is given to read."""

import pytest

from llm_esr.semantics.prompts import default_item_template, item_prompts, parse_template, user_prompts


def test_an_item_prompt_names_every_attribute_and_calls_the_missing_unknown(shop):
    prompts = dict(zip(shop.item_ids, item_prompts(shop), strict=True))
    assert prompts["a"] == "red running shoes. brand: Norvik."
    assert prompts["b"] == "blue running shoes. brand: unknown."
    assert prompts["e"] == "unknown. brand: Breton."
    assert prompts["f"] == "tent. brand: unknown."


def test_an_item_without_a_row_reads_unknown(make_shop):
    shop = make_shop({"u1": ["a", "nowhere", "b", "c"]})
    prompts = dict(zip(shop.item_ids, item_prompts(shop), strict=True))
    assert prompts["nowhere"] == "unknown. brand: unknown."


def test_a_template_of_ones_own_replaces_the_default(shop):
    prompts = dict(zip(shop.item_ids, item_prompts(shop, "{{{brand}}} makes {title}"), strict=True))
    assert prompts["a"] == "{Norvik} makes red running shoes"


def test_long_texts_are_cut(shop):
    assert max(map(len, item_prompts(shop, max_characters=16))) == 16


def test_the_default_template_reads_columns_without_a_title_too():
    assert default_item_template(["long_name", "b"]) == "long name: {long_name}. b: {b}."


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{titel}", r"names '\{titel\}', which is not a text column; did you mean '\{title\}'\?"),
        ("{zzz}", r"\(there are: title, brand\)"),
        ("no column", "names no column"),
        ("{title", "a literal brace is written twice"),
        ("{title.__class__}", "not a text column"),
        ("{title!r}", "takes no format"),
        ("{title:>9}", "takes no format"),
    ],
)
def test_a_template_that_does_not_fit_is_explained(template, message):
    with pytest.raises(ValueError, match=message):
        parse_template(template, ["title", "brand"], "embed.item_template")


def test_a_user_prompt_lists_training_titles_oldest_first(shop):
    prompts = list(user_prompts(shop, range(5), "{history}"))
    assert prompts == [
        "red running shoes; blue running shoes",  # c and d are held out
        "blue running shoes; red running shoes",
        "espresso cup; milk jug; espresso cup",
        "unknown",  # the only training item has a blank title
        "milk jug",
    ]
    assert "oldest first: milk jug." in next(user_prompts(shop, [4]))


def test_a_user_prompt_keeps_the_newest_titles(shop):
    assert list(user_prompts(shop, [2], "{history}", newest=2)) == ["milk jug; espresso cup"]
    assert list(user_prompts(shop, [2], "{history}", max_characters=24)) == ["milk jug; espresso cup"]
    assert list(user_prompts(shop, [2], "{history}", max_characters=5)) == ["espre"]


def test_texts_that_are_not_there_are_asked_for(make_shop):
    bare = make_shop(items=None)
    with pytest.raises(ValueError, match=r"has no item texts .*--items"):
        item_prompts(bare)
    with pytest.raises(ValueError, match=r"has no item titles .*user_vectors=mean"):
        list(user_prompts(bare, [0]))
